"""A feed for chaos tests: GET with the right token is answered, 429 from the 51st in a second on. /served: how many.

usage: stub_feed.py PORT TOKEN
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ALLOWED_PER_S = 50
served: list[float] = []


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/served":
            self.answer(200, str(len(served)).encode())
        elif self.headers["Authorization"] != f"Bearer {sys.argv[2]}":
            self.answer(401, b"")
        else:
            now = time.monotonic()
            served.append(now)
            lately = sum(now - at < 1 for at in served[-2 * ALLOWED_PER_S :])
            self.answer(200 if lately <= ALLOWED_PER_S else 429, b"a page")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client has gone


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
