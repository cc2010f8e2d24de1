"""A small fake of Anthropic's messages on loopback, as its SDK speaks to it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Claude:
    """Answers with the last word but one; ``faults`` are (status, headers, body) given instead, one a request."""

    def __init__(self):
        self.faults, self.seen = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers, said = outer.faults.pop(0) if outer.faults else (200, {}, outer.message(body))
                raw = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Type": "application/json", "Content-Length": len(raw)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def message(self, body):
        text = body["messages"][-1]["content"].split()[-2]
        cut = len(text) > body["max_tokens"]
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-20260101",
            "content": [{"type": "text", "text": text[: body["max_tokens"]]}],
            "stop_reason": "max_tokens" if cut else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 12, "output_tokens": min(len(text), body["max_tokens"])},
        }

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
