"""The SPIFFE Workload API on grpcio, over the stubs of the official Python client.

SOCKET is where it listens, PORT where it says that it is ready, TOKEN_LIFETIME the life of a JWT-SVID in
seconds. It ends when its input does.
"""
import http.server
import os
import sys
import threading
import time
import uuid
from concurrent import futures

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from spiffe._proto import workload_pb2 as pb
from spiffe._proto import workload_pb2_grpc as stubs

LIFETIME = int(os.environ["TOKEN_LIFETIME"])
KEY = ec.generate_private_key(ec.SECP256R1())
ENTRIES = [("spiffe://example.org/reports", "internal"), ("spiffe://example.org/reports-public", "external")]


def mint(spiffe_id, audience):
    now = int(time.time())
    claims = {"sub": spiffe_id, "aud": audience, "iat": now, "exp": now + LIFETIME, "jti": str(uuid.uuid4())}
    return jwt.encode(claims, KEY, "ES256", headers={"kid": "k1"})


class Agent(stubs.SpiffeWorkloadAPIServicer):
    def FetchJWTSVID(self, request, context):
        metadata = dict(context.invocation_metadata())
        if metadata.get("workload.spiffe.io") != "true":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        audience = list(request.audience)
        if not audience:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "audience must be specified")
        known = [entry for entry in ENTRIES if request.spiffe_id in ("", entry[0])]
        if not known or audience == ["nobody"]:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        svids = [pb.JWTSVID(spiffe_id=id, svid=mint(id, audience), hint=hint) for id, hint in known]
        return pb.JWTSVIDResponse(svids=svids)


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()


server = grpc.server(futures.ThreadPoolExecutor(4))
stubs.add_SpiffeWorkloadAPIServicer_to_server(Agent(), server)
server.add_insecure_port("unix://" + os.environ["SOCKET"])
server.start()
ready = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Ready)
threading.Thread(target=ready.serve_forever, daemon=True).start()
sys.stdin.read()
server.stop(None)
