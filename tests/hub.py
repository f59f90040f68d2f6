"""A Hub on this machine: one repository, `me/mine`, over HTTP."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextlib.contextmanager
def serve(files: Mapping[str, bytes], commit: str) -> Iterator[tuple[str, list[str]]]:
    """Serve files as one commit; gives the address, and the names of the files asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/me/mine/tree/"):
                rows = [
                    {"type": "file", "path": name, "size": len(one), "oid": f"{len(one):040x}"}
                    for name, one in files.items()
                ]
                return self.answer(json.dumps(rows).encode())
            if path.startswith("/api/models/me/mine"):
                siblings = [{"rfilename": name} for name in files]
                about = {"id": "me/mine", "sha": commit, "siblings": siblings}
                return self.answer(json.dumps(about).encode())
            if path.startswith("/me/mine/resolve/"):
                name = path.rpartition("/")[2]
                if self.command == "GET":
                    asked.append(name)
                return self.answer(files[name])
            return self.send_error(404)

        do_HEAD = do_GET

        def answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{len(content):040x}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
