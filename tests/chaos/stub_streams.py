"""An edge for chaos tests: whoever has the right token gets a stream that says something and goes on.

usage: stub_streams.py PORT TOKEN
"""

import socketserver
import sys
import time


class Stream(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n")) if self.rfile.peek(1) else b""
        if not head:
            return
        if f"Authorization: Bearer {sys.argv[2]}\r\n".encode() not in head:
            self.wfile.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1000\n\n")
        while True:
            time.sleep(0.1)
            self.wfile.write(b": still here\n\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client has gone


with Server(("127.0.0.1", int(sys.argv[1])), Stream) as server:
    server.serve_forever()
