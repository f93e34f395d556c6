"""The page of a model whose name and vocabulary are hostile, asked for what it does not serve."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

import tzd
from tzd.config import TokenizerSettings
from tzd.corpus import Corpus
from tzd.corpus.tokenizer import make_tokenizer
from tzd.web.limits import Limits

pytest.importorskip("gradio")

NAME = "</title><script>alert(1)</script>\"'{{7*7}}"


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    from tzd.web.server import application

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    model = tzd.from_function(lambda tokens: np.zeros((*tokens.shape, 128), np.float32), vocab_size=128, seq_len=16)
    ascii_text = make_tokenizer(TokenizerSettings("ascii"), Corpus.from_text("a", "a" * 40, ""))

    async def built() -> Any:  # in a loop that runs, or the page's library would make others, and leave them open
        return application(replace(model, tokenizer=ascii_text), NAME, Limits(), local=False)

    yield loop.run_until_complete(built())
    asyncio.set_event_loop(None)
    loop.close()


def get(app: Any, path: str) -> tuple[int, str]:
    """Status and body of what answers a request, as a server hands it on."""
    said: list[Any] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": "GET",
        "path": unquote(path), "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.get_event_loop().run_until_complete(app(scope, receive, send))
    return said[0]["status"], b"".join(message.get("body", b"") for message in said).decode("utf-8", "replace")


@pytest.mark.slow  # the page's library takes seconds to import
@pytest.mark.filterwarnings("ignore")
def test_the_name_of_a_model_is_text_on_its_page(app: Any) -> None:
    _, page = get(app, "/")
    assert "alert(1)" in page and "<script>alert(1)" not in page and "</title><script>" not in page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "path",
    [
        "/static//etc/passwd",
        "/assets//etc/passwd",
        "/static/%2e%2e/%2e%2e/pyproject.toml",
        "/assets/..%5c..%5cx",
        "/static/a%00b",
        "/file=/etc/passwd",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/upload",
        "/proxy=http://127.0.0.1:9",
        "/gradio_api/proxy=http://127.0.0.1:9",
        "/run/x/.npz",
        "/run/../../etc/.gif",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_address_of_the_page_leads_to_files_or_other_addresses(path: str, app: Any) -> None:
    status, text = get(app, path)
    assert status in (403, 404) and "root:" not in text
