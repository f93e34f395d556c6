"""Downloads, from a server on this machine through the code that fetches the real files."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tzd.cli import main
from tzd.corpus import open_corpus, resolve_file
from tzd.corpus.corpus import Source
from tzd.corpus.files import PublishedFile
from tzd.corpus.sources import shakespeare, text8
from tzd.errors import CorpusError, TzdError

PLAY = ("ROMEO:\nIt is the east, and Juliet is the sun.\n" * 50).encode()
WORDS = "anarchism originated as a term of abuse " * 100


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("text8", WORDS)
    return buffer.getvalue()


ZIP = archive()


class _Server(BaseHTTPRequestHandler):
    content: ClassVar = {"/play.txt": PLAY, "/text8.zip": ZIP}

    def do_GET(self) -> None:
        content = self.content.get(self.path)
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tzd.corpus.files.cache_folder", lambda kind: tmp_path / "cache" / kind)
    monkeypatch.delenv("TZD_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache/corpora"


@pytest.fixture
def publish(server: str, monkeypatch: pytest.MonkeyPatch):
    """Puts a stand-in on the server's page in the place of a published file."""

    def publish(module, page: str, content: bytes) -> None:
        file = PublishedFile(module.FILE.name, server + page, hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(module, "FILE", file)
        monkeypatch.setattr(module, "SOURCE", Source("a stand-in", module._open, file))

    return publish


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_published_file_is_downloaded_once_and_then_found_in_the_cache(
    cache: Path, publish, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(shakespeare, "/play.txt", PLAY)
    assert open_corpus("shakespeare", progress=True).text == PLAY.decode()
    assert "100%" in capsys.readouterr().err
    assert files(cache) == ["tiny_shakespeare.txt"]
    assert open_corpus("shakespeare", download=False).text == PLAY.decode()


def test_the_customary_path_is_downloaded_where_it_is_nowhere(cache: Path, publish) -> None:
    publish(shakespeare, "/play.txt", PLAY)
    assert resolve_file("data/tiny_shakespeare.txt") == cache / "tiny_shakespeare.txt"
    with pytest.raises(CorpusError, match=r"no such file or folder: poems/tiny_shakespeare.txt"):
        resolve_file("poems/tiny_shakespeare.txt")


def test_text8_is_unpacked_and_split_nine_to_one(cache: Path, publish) -> None:
    publish(text8, "/text8.zip", ZIP)
    corpus = open_corpus("text8")
    assert corpus.text == WORDS
    assert [len(text) for text in corpus.splits.values()] == [3600, 200, 200]
    assert int(0.9 * 100_000_000) == 90_000_000  # the real one: 90, 5 and 5 million


def test_a_download_of_the_wrong_hash_is_not_kept(cache: Path, publish) -> None:
    publish(shakespeare, "/play.txt", PLAY + b"!")
    with pytest.raises(TzdError, match=r"does not have the expected sha256 .* and was not kept") as error:
        open_corpus("shakespeare")
    assert error.value.exit_code == 1
    assert files(cache) == []


@pytest.mark.parametrize(("page", "reason"), [("/missing.txt", "HTTPError"), (":1/none", "InvalidURL")])
def test_a_download_that_fails_names_the_address_and_the_mend(cache: Path, publish, page: str, reason: str) -> None:
    publish(shakespeare, page, PLAY)
    with pytest.raises(TzdError, match=rf"cannot download http.*{page} to .* \({reason}\); put tiny_shakespeare.txt"):
        open_corpus("shakespeare")
    assert files(cache) == []


def test_no_network_is_one_line_and_exit_code_1(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = PublishedFile("tiny_shakespeare.txt", "http://127.0.0.1:9/closed", "0" * 64)
    monkeypatch.setattr(shakespeare, "SOURCE", Source("", shakespeare._open, file))
    assert main(["corpus", "fetch", "shakespeare"]) == 1
    message = capsys.readouterr().err
    assert "(ConnectionError)" in message
    assert message.count("\n") == 1


def test_a_cache_that_cannot_be_written_is_one_line(cache: Path, publish) -> None:
    publish(shakespeare, "/play.txt", PLAY)
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(TzdError, match=r"cannot download .* to .*cache/corpora"):
        open_corpus("shakespeare")
