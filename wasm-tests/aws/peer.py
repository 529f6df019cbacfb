"""AWS, as Python packages have it: moto plays the metadata service and STS, and botocore signs.

The first line of output says where moto listens. Every line of input is a request that arrived somewhere, and is
answered with the `Authorization` that botocore gives it. The program ends with its input.
"""

import json
import sys
from urllib.parse import quote, unquote_to_bytes

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer

UNRESERVED = "-_.~"


def encoded(part):
    return quote(unquote_to_bytes(part.replace("+", " ")), safe=UNRESERVED)


def query(raw):
    """The query in the encoding that botocore expects of whoever wrote a URL."""
    pairs = (pair.partition("=") for pair in raw.split("&") if pair)
    return "&".join(f"{encoded(name)}={encoded(value)}" for name, _, value in pairs)


def authorization(order):
    path, _, raw = order["path"].partition("?")
    request = AWSRequest(order["method"], f"http://{order['host']}{path}?{query(raw)}")
    for name, value in order["headers"]:
        request.headers.add_header(name, value)
    request.context["timestamp"] = request.headers["x-amz-date"]
    credentials = Credentials(order["accessKeyId"], order["secretAccessKey"])
    signer = SigV4Auth(credentials, order["service"], order["region"])
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    signed = signer.signed_headers(signer.headers_to_sign(request))
    signature = signer.signature(to_sign, request)
    return f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed}, Signature={signature}"


def say(what):
    print(json.dumps(what), flush=True)


moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
moto.start()
host, port = moto.get_host_and_port()
say(f"{host}:{port}")
for line in sys.stdin:
    say(authorization(json.loads(line)))
