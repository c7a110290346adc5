"""A target's flags for chaos tests: GET lists them, PUT sets one, with the operator's token; what is set is in a file.

usage: stub_flags.py PORT FILE TOKEN_FILE
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, FILE, TOKEN = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]).read_text().strip()
AT_START = {"kill_switch": False, "follower_cache_ttl_s": 300, "fanout": "push", "cache_mb": 64}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        flags = [{"name": name, "value": value, "at_run_time": name != "cache_mb"} for name, value in read().items()]
        self.answer(200, {"flags": flags})

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.rpartition("/")[2]
        FILE.write_text(json.dumps(read() | {name: body["value"]}))
        self.answer(200, {"name": name, "value": body["value"]})

    def answer(self, status: int, told: object) -> None:
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            status, told = 401, {"detail": "the operator's token is required"}
        data = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        pass


def read() -> dict[str, object]:
    return json.loads(FILE.read_text()) if FILE.exists() else AT_START


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Answer).serve_forever()
