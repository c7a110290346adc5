"""A service for chaos tests: forks one worker, then answers every line with a line; at "fork" it forks another.

usage: stub_service.py PORT
"""

import socketserver
import subprocess
import sys


class Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            if line == b"fork\n":
                subprocess.Popen(["sleep", "1000"])
            self.wfile.write(b"got " + line)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    subprocess.Popen(["sleep", "1000"])
    with Server(("127.0.0.1", int(sys.argv[1])), Answer) as server:
        server.serve_forever()
