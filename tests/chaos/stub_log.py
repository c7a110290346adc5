"""A service with a RocksDB log for chaos tests: writes each line as a record, answers how many there are.

usage: stub_log.py PORT FOLDER
"""

import socketserver
import sys

from rocksdict import DBRecoveryMode, Options, Rdict


class Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            if line == b"add\n":
                log[len(list(log.keys()))] = b"a record of some bytes"
            self.wfile.write(b"%d\n" % len(list(log.keys())))


class Server(socketserver.TCPServer):
    allow_reuse_address = True


options = Options()
options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
log = Rdict(f"{sys.argv[2]}/0", options)
with Server(("127.0.0.1", int(sys.argv[1])), Answer) as server:
    server.serve_forever()
