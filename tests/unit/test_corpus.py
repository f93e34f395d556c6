"""Named corpora: splits, the look-up, bad files."""

from __future__ import annotations

import hashlib
import os
import textwrap
from pathlib import Path

import pytest

from tzd.corpus import Corpus, corpora, open_corpus, resolve_file
from tzd.corpus.files import PublishedFile, read_text
from tzd.corpus.sources import pydocs, shakespeare
from tzd.errors import ConfigError, CorpusError, TzdError

POEM = "The curfew tolls the knell of parting day,\nThe lowing herd wind slowly o'er the lea,\n" * 20


@pytest.fixture(autouse=True)
def _nowhere_but_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzd.corpus.files.cache_folder", lambda kind: tmp_path / "cache" / kind)
    monkeypatch.delenv("TZD_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)


def write(path: str, content: str | bytes) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> PublishedFile:
    """Tiny Shakespeare's stand-in."""
    digest = hashlib.sha256(POEM.encode()).hexdigest()
    file = PublishedFile("tiny_shakespeare.txt", "http://localhost:1/none", digest)
    monkeypatch.setattr(shakespeare, "FILE", file)
    monkeypatch.setattr(shakespeare, "SOURCE", type(shakespeare.SOURCE)("", shakespeare._open, file))
    return file


def test_the_splits_are_the_first_ninety_percent_and_the_halves_of_the_rest() -> None:
    corpus = Corpus.from_text("x", "".join(chr(48 + i % 10) for i in range(1005)))
    assert {name: len(text) for name, text in corpus.splits.items()} == {"train": 904, "validation": 50, "test": 51}
    assert corpus.text == "".join(chr(48 + i % 10) for i in range(1005))
    assert corpus.sha256 == hashlib.sha256(corpus.text.encode()).hexdigest()


def test_eleven_characters_are_the_fewest_that_can_be_split() -> None:
    assert all(Corpus.from_text("x", "a" * 11).splits.values())
    with pytest.raises(CorpusError, match="has 10 characters; its three splits need at least 11"):
        Corpus.from_text("x", "a" * 10)


def test_the_named_corpora_are_those_that_the_documentation_lists() -> None:
    assert sorted(corpora()) == ["markov", "pydocs", "shakespeare", "text", "text8"]
    assert all(source.description for source in corpora().values())


def test_an_unknown_corpus_is_met_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown corpus 'shakespear' \(did you mean 'shakespeare'\?\)"):
        open_corpus("shakespear")


def test_tiny_shakespeare_is_cut_where_nanogpt_cuts_it() -> None:
    folder = os.environ.get("TZD_DATA_DIR", Path(__file__).parents[3] / "shared/data")
    if not (Path(folder) / "tiny_shakespeare.txt").exists():
        pytest.skip("Tiny Shakespeare is not here: set TZD_DATA_DIR")
    corpus = open_corpus("shakespeare", data_dir=folder, download=False)
    assert [len(text) for text in corpus.splits.values()] == [1003854, 55770, 55770]
    assert corpus.sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert len(set(corpus.text)) == 65
    assert set(corpus.text) == set(corpus.splits["train"])


# --- the look-up ------------------------------------------------------------------------------------------------


def test_places_are_searched_in_the_documented_order(
    published: PublishedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZD_DATA_DIR", str(tmp_path / "named"))
    places = ["mine/other.txt", *(f"{d}/tiny_shakespeare.txt" for d in ("asked", "named", "data", "cache/corpora"))]
    for place in places:
        write(place, POEM)
    looked_up = {"data_dir": "asked", "download": False}
    assert resolve_file("mine/other.txt", **looked_up) == Path("mine/other.txt")
    for place in places[1:]:
        assert resolve_file("tiny_shakespeare.txt", **looked_up).resolve() == (tmp_path / place).resolve()
        assert open_corpus("shakespeare", **looked_up).text == POEM
        Path(place).unlink()
    with pytest.raises(CorpusError, match=r"no such file or folder: tiny_shakespeare.txt"):
        open_corpus("shakespeare", **looked_up)
    assert open_corpus("shakespeare", path="mine/other.txt").text == POEM


def test_the_customary_data_folder_stands_for_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZD_DATA_DIR", str(tmp_path / "named"))
    write("named/poem.txt", POEM)
    assert resolve_file("data/poem.txt") == tmp_path / "named/poem.txt"
    assert resolve_file("poem.txt") == tmp_path / "named/poem.txt"
    for path in ("elsewhere/poem.txt", tmp_path / "poem.txt"):  # these say where, and it is not there
        with pytest.raises(CorpusError, match="no such file or folder"):
            resolve_file(path)


def test_a_missing_file_is_reported_with_the_places_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZD_DATA_DIR", "named")
    with pytest.raises(CorpusError, match=r"no such file or folder: poem.txt \(nor in asked, named, data, .*corpora\)"):
        resolve_file("poem.txt", data_dir="asked")


def test_a_local_file_that_is_not_the_published_one_is_refused_with_both_hashes(published: PublishedFile) -> None:
    write("data/tiny_shakespeare.txt", POEM + "more")
    other = hashlib.sha256((POEM + "more").encode()).hexdigest()
    with pytest.raises(CorpusError, match=f"sha256 is {other[:12]}…, not {published.sha256[:12]}…; remove it"):
        open_corpus("shakespeare")


# --- the user's own text ----------------------------------------------------------------------------------------


def test_text_is_a_file_several_a_folder_or_a_glob(tmp_path: Path) -> None:
    for name, text in {"a.txt": "alpha " * 9, "b.md": "beta " * 9, "c.rst": "gamma " * 9, "sub/d.TXT": "delta"}.items():
        write(f"texts/{name}", text)
    a, b, c, d = "alpha " * 9, "beta " * 9, "gamma " * 9, "delta"
    for path, texts in {
        "texts/a.txt": [a],
        "texts/b.md, texts/a.txt": [b, a],
        "texts": [a, b, d],
        "texts/*.*": [a, b, c],
        "texts/**/*.[tT]*": [a, d],
        str(tmp_path / "texts/?.txt"): [a],
        "texts/a.txt,texts": [a, b, d],
        f"texts/a.txt,{tmp_path}/texts/a.txt": [a],
    }.items():
        corpus = open_corpus("text", path=path)
        assert (corpus.name, corpus.text) == ("text", "\n".join(texts))
        assert f"{len(texts)} file" in corpus.description


def test_a_comma_in_the_name_of_a_file_does_not_split_it() -> None:
    write("war, and peace.txt", POEM)
    assert open_corpus("text", path="war, and peace.txt").text == POEM


def test_text_is_read_without_byte_order_mark_and_with_plain_line_ends() -> None:
    assert read_text(write("a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n")) == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, r"the corpus 'text' needs a path: data\.path=FILE, FOLDER, GLOB or FILE,FILE \(--data\)"),
        ("nope.txt", "no such file or folder: nope.txt"),
        ("poem.txt,nope.txt", "no such file or folder: nope.txt"),
        ("*.rst", r"\*\.rst holds no text: no \.txt or \.md file in the folder, no match of the glob"),
        ("hollow", "hollow holds no text"),
        ("empty.txt", r"\(empty.txt, 1 file\) is empty"),
        ("blank.txt", r"the corpus 'text' \(blank\.txt, 1 file\) is empty; give it a text"),
        (
            "short.txt",
            (r"the corpus 'text' \(short\.txt, 1 file\) has 5 characters; its three splits " "need at least 11"),
        ),
        ("latin.txt", r"latin.txt is not UTF-8 \(byte 0xe9 at offset 3\); save it as UTF-8"),
    ],
)
def test_a_text_that_cannot_be_used_is_one_clear_line(path: str | None, message: str) -> None:
    Path("hollow").mkdir()
    for name, content in {
        "poem.txt": POEM.encode(),
        "empty.txt": b"",
        "blank.txt": b" \n\n",
        "short.txt": b"hello",
        "latin.txt": b"caf\xe9 au lait, and so on",
    }.items():
        write(name, content)
    with pytest.raises(CorpusError, match=message) as error:
        open_corpus("text", path=path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pydocs", "markov"])
def test_a_path_given_to_a_corpus_without_files_is_not_ignored(name: str) -> None:
    with pytest.raises(ConfigError, match=r"takes no path; data.path=mine.txt goes with data.name=text"):
        open_corpus(name, path="mine.txt")


# --- pydocs -----------------------------------------------------------------------------------------------------


def test_pydocs_is_plain_prose_that_never_repeats_a_paragraph() -> None:
    corpus = open_corpus("pydocs", download=False)
    paragraphs = corpus.text.rstrip("\n").split("\n\n")
    assert len(paragraphs) == len(set(paragraphs))
    assert corpus.text.isascii()
    assert 200_000 < len(corpus.text) < 600_000
    assert corpus == open_corpus("pydocs", download=False)


def test_prose_keeps_paragraphs_and_drops_code_tables_and_headings() -> None:
    long = "An assignment statement binds the names on its left to the values on its right."
    other = "A “quoted” clause – it’s typographic – is written in plain characters instead…"
    wrapped = textwrap.indent(textwrap.fill(long, 30), "   ")
    topics = {
        "b": f"Heading\n*******\n\n{wrapped}\n\n   x = {{1: 'a', 2: 'b', 3: 'c'}}; y[0] += f(x)[-1]",
        "a": f"{long}\n\n{other}\n\n+------+------+\n| a    | b    |\n+------+------+",
        "c": "Der Buchstabe ß ist nicht in ASCII, und daher bleibt dieser Absatz draußen.",
    }
    plain = 'A "quoted" clause - it\'s typographic - is written in plain characters instead...'
    assert pydocs.prose(topics) == f"{long}\n\n{plain}\n"


def test_a_python_without_its_reference_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(
        TzdError,
        match=(
            r"this Python carries no language reference \(module "
            r"pydoc_data\.topics\); use another corpus, or the Python of "
            r"python\.org or uv"
        ),
    ):
        open_corpus("pydocs")
