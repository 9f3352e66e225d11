#!/usr/bin/env python3
"""Serves the app of this folder on this computer only: python3 serve.py [PORT]

Python 3.8 or newer, nothing else. The port is fixed on purpose: a browser keeps the model and the
records of an address, and the port is part of it.
"""

import http.server
import json
import pathlib
import sys
import webbrowser

PORT = 4820
APP = pathlib.Path(__file__).resolve().parent / "app"
HEADERS = json.loads(r"""%HEADERS%""")
TYPES = json.loads(r"""%TYPES%""")


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {"": "application/octet-stream", **TYPES}

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, directory=str(APP), **named)

    def end_headers(self):
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path):
        self.send_error(404)

    def log_message(self, *arguments):
        pass


def main():
    named = [argument for argument in sys.argv[1:] if argument.isdecimal()]
    port = int(named[0]) if named else PORT
    if not (APP / "index.html").is_file():
        sys.exit("找不到 app 文件夹：请把整个文件夹一起复制。 The folder app is missing: copy all of it.")
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        sys.exit(
            f"端口 {port} 不能用（{error}）。程序可能已经在运行：请打开 http://localhost:{port}\n"
            f"Port {port} cannot be used. It may be running already: open http://localhost:{port}"
        )
    address = f"http://localhost:{port}/"
    print(f"请用 Chrome 或 Edge 打开 {address} ，用完后按 Ctrl+C 或关闭这个窗口。")
    print(f"Open {address} in Chrome or Edge; Ctrl+C ends.", flush=True)
    if "--quiet" not in sys.argv:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


main()
