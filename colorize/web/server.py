"""The server of the web page: address, limits, and a temporary folder that goes with it."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from colorize.predict import Colorizer
from colorize.system.errors import ColorizeError
from colorize.web.page import CSS, build_page

_LARGEST_FILE = "50mb"
_MOST_AT_ONCE = 51 * 2**20  # bytes of an upload: one file, and what surrounds it
_MOST_KEPT = 2 * 2**30  # bytes of all photos and results on the disk
_PORTS = range(7860, 7960)
_LAST_PHOTO = 60  # seconds that a photo in work has to be finished when the page stops


def serve(
    weights: str | Path | None = None, host: str = "127.0.0.1", port: int | None = None
) -> None:
    """Show the page until Ctrl-C; what is uploaded lives in a temporary folder and goes with it.

    Args:
        weights: a weights folder, or a hub name; None takes those that come along.
        host: the address to listen on; "0.0.0.0" lets every machine of the network in.
        port: None takes the first free one from 7860 on.

    Raises:
        ColorizeError: no such weights, or the port is taken.
    """
    colorizer = Colorizer.from_pretrained(weights)
    port = _free_port(host, port)
    # Gradio asks its own page whether it is up; a proxy cannot.
    os.environ["NO_PROXY"] = f"{os.environ.get('NO_PROXY', '')},localhost,127.0.0.1,{host}"
    busy = threading.Lock()
    with tempfile.TemporaryDirectory(prefix="colorize-app-") as name:
        folder = Path(name).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")
        page = build_page(colorizer, folder, busy)
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=_LARGEST_FILE,
            # Else a photo whose name begins with a dot is refused, without a word, if the server
            # was started above its temporary folder.
            allowed_paths=[str(folder / "cache")],
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            footer_links=[],
            css=CSS,
            # Named fonts would be fetched from Google.
            theme=gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            app_kwargs={"middleware": [Middleware(_UploadLimit, folder=folder / "cache")]},
        )
        print(f"open {url} in a browser; Ctrl-C stops", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)
            # Python must not end, nor the folder go, while torch is at work; no other photo begins.
            busy.acquire(timeout=_LAST_PHOTO)


def _free_port(host: str, port: int | None) -> int:
    for candidate in [port] if port else _PORTS:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, candidate))
            except OSError as error:
                reason = error.strerror or str(error)
                continue
        return candidate
    raise ColorizeError(
        f"cannot listen on {host}, port {port or f'{_PORTS[0]} to {_PORTS[-1]}'} ({reason}); give "
        "another --port or --host"
    )


class _UploadLimit:
    """Refuse uploads that are too large together; gradio looks at each file alone."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self.app, self.folder = app, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/upload"):
            length = dict(scope["headers"]).get(b"content-length", b"")
            most = _MOST_AT_ONCE
            refusal = None
            if not length.isdigit() or int(length) > most:
                refusal = PlainTextResponse(f"at most {most >> 20} MB at once", 413)
            elif _bytes_in(self.folder) + int(length) > _MOST_KEPT:
                refusal = PlainTextResponse("too many photos at the moment; try later", 507)
            if refusal:
                while length.isdigit() and (await receive()).get("more_body"):
                    pass  # who is still sending does not read
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # gone meanwhile
            total += path.stat().st_size
    return total
