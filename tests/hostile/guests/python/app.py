"""A check in Python that reaches its target by the standard library: urllib for a page, socket for the same once more.

The monitor's name is the host and the attempt the port: the tests tell a guest by them what to do.
"""

# Imported here, not when it runs: the interpreter that is packed has them loaded already, and has no files to load others from. The codec is
# what getaddrinfo looks for by itself.
import encodings.idna  # noqa: F401
import socket
import urllib.error
import urllib.request

from wit_world import exports
from wit_world.exports.checker import Description
from wit_world.imports.verdict import Outcome, State


class Checker(exports.Checker):
    def describe(self):
        schema = '{"type":"object","additionalProperties":false}'
        return Description("python", "0.1.0", "A guest of the tests, in Python.", schema, "[]")

    def run(self, context):
        host, port = context.monitor, context.attempt
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as page:
                status = page.status
                page.read()
            with socket.create_connection((host, port), timeout=5) as peer:
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                reply = peer.recv(64)
        except urllib.error.URLError as error:
            return told(State.DOWN, "python.urllib", repr(error.reason))
        except OSError as error:
            return told(State.DOWN, "python.socket", repr(error))
        return told(State.UP, "ok", f"{status} {reply.decode()}")


def told(state, code, summary):
    return Outcome(state, code, summary, [], [], [], None)
