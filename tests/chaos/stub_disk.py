"""A service that writes a file to a folder at each line, for chaos tests; answers "written", or why not.

usage: stub_disk.py PORT FOLDER
"""

import errno
import socketserver
import sys
from pathlib import Path


class Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for _ in self.rfile:
            answer = b"written"
            try:
                Path(sys.argv[2], "file").write_bytes(bytes(100_000))
            except OSError as error:
                answer = errno.errorcode[error.errno or 0].encode()
            Path(sys.argv[2], "file").unlink(missing_ok=True)
            self.wfile.write(answer + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server(("127.0.0.1", int(sys.argv[1])), Answer) as server:
    server.serve_forever()
