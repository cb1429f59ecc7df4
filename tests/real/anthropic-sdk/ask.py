# Asks for MESSAGES messages with the official client, which finds its credential in the environment, and
# prints what came of each: "ok", or the name of the error and its status.
import os

import anthropic

client = anthropic.Anthropic(max_retries=0)
for _ in range(int(os.environ["MESSAGES"])):
    try:
        client.messages.create(
            model="m", max_tokens=1, messages=[{"role": "user", "content": "hello"}]
        )
        print("ok", flush=True)
    except anthropic.AnthropicError as error:
        print(type(error).__name__, getattr(error, "status_code", None), flush=True)
