"""Texts from anybody, and what a model writes: neither a terminal nor a browser obeys them."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from rich.console import Console

import tzd
from tzd.api import Model
from tzd.cli import writing
from tzd.corpus import load_tokenizer
from tzd.corpus.chat import ChatTemplate, user_says
from tzd.corpus.tokenizers._library import LibraryTokenizer, load_library
from tzd.errors import CheckpointError, CorpusError
from tzd.viewers.figure import drawing, write_figure
from tzd.viewers.html import frame_html, player_html
from tzd.viewers.panel import Panel
from tzd.viewers.terminal import in_place
from tzd.web.limits import Limits
from tzd.web.recordings import Recordings
from tzd.web.runs import Runs

COMMANDS = "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\r\u202e\u2066"  # titles, erasing, going back, right to left
PIECES = ("</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='x", "[/red]", "&lt;",
          COMMANDS, "[link=http://x]y[/link]", "{{7*7}}", "javascript:x", "<!--", "$x^{2$")  # fmt: skip
SIZE = len(PIECES)


class Elements(HTMLParser):
    """The elements of a page, and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]


class Hostile:
    """A tokenizer whose tokens read as `PIECES`."""

    kind, vocab_size, mask_id, eos_id = "char", SIZE, None, None

    def encode(self, text: str) -> np.ndarray:
        return np.arange(len(text), dtype=np.int32) % SIZE

    def decode(self, tokens: np.ndarray) -> str:
        return "".join(self.pieces(tokens))

    def pieces(self, tokens: np.ndarray) -> list[str]:
        return [PIECES[token] for token in tokens]


@pytest.fixture(scope="module")
def model() -> Model:
    def logits(tokens: np.ndarray) -> np.ndarray:
        return np.zeros((*tokens.shape, SIZE), np.float32)

    hostile: Any = Hostile()
    return replace(tzd.from_function(logits, vocab_size=SIZE, seq_len=2 * SIZE), tokenizer=hostile)


@pytest.fixture(scope="module")
def frames(model: Model) -> list[Any]:
    return list(tzd.stream(model, length=2 * SIZE, steps=3, sampler="ancestral"))


@pytest.fixture
def panel(model: Model) -> Panel:
    assert model.tokenizer is not None
    return Panel.of(model.tokenizer, title=PIECES[0] + COMMANDS)


def test_a_terminal_gets_no_command_but_the_viewers_own(panel: Panel, frames: list[Any]) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=40, color_system="256", legacy_windows=False)
    list(in_place([panel], [(frame,) for frame in frames], console=console))
    shown = out.getvalue()
    ours = re.sub(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]|\r|\n", "", shown)
    assert len(shown) > 1000 and ours.isprintable()
    assert "␛" in ours and "[/red" in ours  # as signs, and no markup


def test_what_is_printed_on_a_terminal_holds_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    shown = writing.safe(f"a\tb\n{COMMANDS}")
    assert shown.replace("\n", "").replace("\t", "").isprintable() and shown.startswith("a\tb\n␛]0;owned␇")


def test_a_picture_in_html_holds_no_element_of_a_vocabulary(panel: Panel, frames: list[Any]) -> None:
    page = Elements(frame_html(panel, frames[-1], caption=PIECES[1]))
    assert set(page.tags) == {"div", "span"}
    assert page.attributes <= {"style", "title", "dir"}


def test_a_page_that_plays_a_run_has_its_own_script_alone(panel: Panel, frames: list[Any]) -> None:
    whole, _ = player_html([panel], [(frame,) for frame in frames])
    page = Elements(whole)
    assert page.tags.count("script") == 2  # the player, and its data
    assert not {name for name in page.attributes if name.startswith("on")}
    assert "img" not in page.tags and not [link for link in page.links if ":" in link]
    assert "default-src 'none'" in whole and "alert(1)</script>" not in whole
    assert "innerHTML" not in whole and "document.write" not in whole and "eval(" not in whole


def test_the_page_shows_a_vocabulary_as_text(model: Model) -> None:
    runs = Runs(model, Limits(length=SIZE, steps=4), Recordings())
    for shown in runs.write("", "ancestral", 4, 1.0, SIZE, 0, 3):
        for part in (*shown[:-2], shown[-1]):  # the written text goes into a field of text
            page = Elements(part)
            assert set(page.tags) <= {"div", "span", "b", "a"}
            assert page.attributes <= {"style", "title", "dir", "class", "href", "download"}
            assert all(re.fullmatch(r"run/[\w-]{22}/\.(gif|html)", link) for link in page.links)


def test_formulas_of_a_name_are_not_typeset(tmp_path: Path) -> None:
    with drawing(3, 2) as figure:
        figure.subplots().set_title(PIECES[-1] + PIECES[0])
        out = write_figure(figure, tmp_path / "x.svg")
    assert "<script" not in out.read_text()


@pytest.mark.parametrize("source", ["{{ " + "9" * 5000 + " }}", "{" + "{(" * 5000, "{% " + "if a %}{% " * 3000])
def test_a_template_that_its_parser_chokes_on_is_refused(source: str) -> None:
    with pytest.raises(
        CorpusError, match=r"^the tokenizer's chat template is no Jinja \(.*set data.chat_template=false$"
    ):
        ChatTemplate(source, {}).render(user_says("Hello"))


@pytest.mark.parametrize(
    "source",
    [
        "{{ cycler.__init__.__globals__.os.system('touch sprung') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ raise_exception.__globals__.json }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
        "{{ ('%(a)s' | format) }}{{ self.__init__ }}{{ lipsum.__globals__ }}",
    ],
)
def test_a_template_reaches_nothing_outside_of_its_sandbox(source: str) -> None:
    with pytest.raises(CorpusError) as error:
        ChatTemplate(source, {}).render(user_says("Hello"))
    assert str(error.value).startswith("the tokenizer's chat template") and "root:" not in str(error.value)
    assert not Path("sprung").exists()


# --- tokenizers that make much of little --------------------------------------------------------------------------


def library(**parts: Any) -> bytes:
    words = tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a")
    return json.dumps({**json.loads(tokenizers.Tokenizer(words).to_str()), **parts}).encode()


def replaced(count: int, content: str = "aa", **pattern: str) -> list[dict[str, Any]]:
    return [{"type": "Replace", "pattern": pattern or {"String": "a"}, "content": content}] * count


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": {"type": "Sequence", "normalizers": replaced(40)}},
        {"decoder": {"type": "Sequence", "decoders": replaced(40)}},
        {"decoder": {"type": "Sequence", "decoders": replaced(1, "a" * 100_000)}},
        {"normalizer": {"type": "Sequence", "normalizers": replaced(9, "ab", Regex="x*")}},
        {"normalizer": {"type": "Sequence", "normalizers": 4 * [{"type": "Sequence", "normalizers": replaced(9)}]}},
    ],
)
def test_rules_that_double_a_text_again_and_again_are_refused(parts: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(library(**parts))
    with pytest.raises(CheckpointError, match=r"its replacements can make a text .* times as long, 1024 are allowed"):
        load_tokenizer({"kind": "hf", "vocab_size": 2}, tmp_path)


def test_rules_that_make_a_text_a_little_longer_are_taken() -> None:
    content = library(normalizer={"type": "Sequence", "normalizers": replaced(2, "▁", String=" ")})
    assert LibraryTokenizer("hf", load_library(content)).decode(np.array([1])) == "b"


def test_a_pattern_that_never_comes_to_an_end_is_refused_in_one_line() -> None:
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    tokenizer = LibraryTokenizer("hf", load_library(library(pre_tokenizer=pattern)))
    with pytest.raises(CorpusError, match=r"^the tokenizer gives up at this text \(.*; change the text, or its rules$"):
        tokenizer.encode("a" * 40 + "!")
