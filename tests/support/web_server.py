"""A folder served as static file servers do, to a browser that waits until its page is done."""

import contextlib
import functools
import http.server
import threading
from pathlib import Path

WAITS = b"""<img src="/until-done" hidden><script>
const asked = setInterval(() => "done" in document.body.dataset
  && (clearInterval(asked), fetch("/done", {method: "POST"})), 50);
</script></body>"""
LONGEST_S = 100


class _Handler(http.server.SimpleHTTPRequestHandler):
    """A page loads for as long as one of its images does: headless Chromium takes it then."""

    done: threading.Event

    def do_GET(self):
        if self.path == "/until-done":
            self.done.wait(LONGEST_S)
            self.send_error(404)
        elif self.path.partition("?")[0] == "/":
            page = (Path(self.directory) / "index.html").read_bytes().replace(b"</body>", WAITS)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
        else:
            super().do_GET()

    def do_POST(self):
        self.done.set()
        self.send_response(204)
        self.end_headers()

    def end_headers(self):
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def web_server(folder, headers=None):
    """Its address; a page is there as soon as its body has the attribute data-done."""
    handler = type("Handler", (_Handler,), {"done": threading.Event()})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(folder))
    )
    server.headers = headers or {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        handler.done.set()
        server.shutdown()
        thread.join()
        server.server_close()
