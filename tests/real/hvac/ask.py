# Makes one request of each kind at the server in VAULT_ADDR, each with a client of its own.
import hvac


def client(token=None):
    return hvac.Client(token=token, namespace="team")


client().auth.approle.login(role_id="r", secret_id="s")
client().auth.userpass.login(username="me.too-1", password="p")
client("t").auth.token.renew_self(increment="60s")
client("t").auth.token.lookup_self()
client("t").secrets.kv.v2.read_secret_version(
    path="weather/today", raise_on_deleted_version=True
)
client("t").secrets.identity.generate_signed_id_token(name="reports")
client("wrapping").sys.unwrap()
print("done")
