"""Serves the page, to this machine alone unless told otherwise."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

from tzd.api import Model
from tzd.errors import UserError
from tzd.web.limits import Limits

PROTOCOL = "sse_v3"  # of the library's page and the server it expects; `tzd.web.queue` speaks it
FILES = 4  # downloads that may wait for one another
LOCAL = ("127.0.0.1", "localhost", "::1")


def listen(host: str, port: int) -> socket.socket:
    """A socket on which the page is to be served.

    Args:
        host: an address or a name of this machine.
        port: 0 takes any that is free.

    Raises:
        UserError: the port is taken or not allowed, or the address is not this machine's.
    """
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(place)
            taken.listen()
        except BaseException:
            taken.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:  # a port or a name that cannot be
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot serve at {host}, port {port} ({why}): choose another one by --port or --host"
        ) from error
    return taken


def address(taken: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = taken.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def application(model: Model, name: str, limits: Limits, *, local: bool) -> Any:
    """The page as an ASGI application.

    Args:
        model: what writes; it has a tokenizer.
        name: what to call it.
        limits: what is refused beyond.
        local: whether only this machine's own names lead here; a page elsewhere cannot then pass itself off as this.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when the library is imported
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr
    from fastapi import FastAPI, Response
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from tzd.web import theme
    from tzd.web.door import Door
    from tzd.web.page import build, waiting
    from tzd.web.queue import Queue
    from tzd.web.recordings import FORMATS, Recordings
    from tzd.web.runs import Runs

    recordings, drawing = Recordings(), threading.Semaphore(FILES)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/run/{name}/{ending}")
    def file(name: str, ending: str) -> Response:
        if not drawing.acquire(blocking=False):
            return Response("others are waiting for files: try again in a moment", 503, media_type="text/plain")
        try:
            drawn = recordings.file(name, ending)
        finally:
            drawing.release()
        if drawn is None:
            return Response("this run is not kept any more: run it again", 404, media_type="text/plain")
        headers = {"content-disposition": f'attachment; filename="tzd{ending}"'}
        return Response(drawn, media_type=FORMATS[ending], headers=headers)

    page = build(Runs(model, limits, recordings), f"{name} · tzd", _line(model, name))
    gr.mount_gradio_app(
        app, page, path="/", footer_links=[], show_error=False, ssr_mode=False, mcp_server=False, pwa=False,
        enable_monitoring=False, allowed_paths=[], max_file_size=1, theme=theme.theme(), css=theme.css(),
    )  # fmt: skip
    if (spoken := page.get_config_file()["protocol"]) != PROTOCOL:
        raise UserError(
            f"gradio {gr.__version__} speaks {spoken}, and tzd's page {PROTOCOL}: install gradio 6.20 or 6.31"
        )
    runs = {number: run for number, run in page.fns.items() if run.fn is not None}
    begins = {number: run.fn for number, run in runs.items()}
    queue = Queue(begins, lambda number, before: waiting(runs[number].outputs, before), limits)
    door = Door(app, limits.message, {number: len(run.inputs) for number, run in runs.items()}, queue)
    return TrustedHostMiddleware(door, [*LOCAL, "[::1]"]) if local else door


def serve(app: Any, taken: socket.socket) -> None:
    """Serves until a signal ends it; KeyboardInterrupt is what SIGINT becomes."""
    import uvicorn

    from tzd.web.connection import Connection

    config = uvicorn.Config(
        app, http=Connection, ws="none", lifespan="on", log_level="critical", access_log=False,
        timeout_graceful_shutdown=1, server_header=False,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[taken])


def _line(model: Model, name: str) -> str:
    window = model.denoiser.seq_len
    return f"{Path(name).name} writes, on {model.engine}, in windows of {window} tokens."
