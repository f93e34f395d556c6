"""Runs that were saved: the same frames again, and nothing but one line from a file that is no trace."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tzd
from tzd.errors import CheckpointError, TzdError, UserError
from tzd.sampling import Frame
from tzd.viewers.film import Film
from tzd.viewers.panel import Panel
from tzd.viewers.trace import Trace, is_trace, read_trace

VOCAB, MASK = 7, 7
PANEL = Panel("a run", list("abcdef\n"))


def noise(tokens: np.ndarray) -> np.ndarray:
    return np.random.default_rng(int(tokens.sum())).normal(size=(*tokens.shape, VOCAB))


MODEL = tzd.from_function(noise, vocab_size=VOCAB, seq_len=12)


def run(**request: Any) -> Iterator[Frame]:
    return tzd.stream(MODEL, length=12, **{"sampler": "ancestral", "steps": 6, "seed": 1, **request})


def living(rows: int = 2) -> Iterator[Frame]:
    """Frames of a Game of Life, in which cells are erased and written again, some as they were."""
    rng, tokens = np.random.default_rng(0), np.zeros((rows, 9), np.int32)
    for number in range(8):
        alive = rng.random(tokens.shape) < 0.4
        masked = alive & (number % 2 == 0)
        tokens = np.where(masked, MASK, rng.integers(0, 2, tokens.shape)).astype(np.int32)
        confidence = np.where(masked, 0, rng.random(tokens.shape)).astype(np.float32)
        lengths = np.full(rows, 9)
        yield Frame(number, tokens, masked, alive & ~masked, confidence, number, lengths, alive, number // 2)


def assert_same(replayed: Any, frames: list[Frame]) -> None:
    assert len(replayed) == len(frames)
    for one, other in zip(replayed, frames, strict=True):
        assert (one.step, one.nfe, one.generation) == (other.step, other.nfe, other.generation)
        for name in ("tokens", "masked", "revealed", "confidence", "lengths", "alive"):
            mine, theirs = getattr(one, name), getattr(other, name)
            assert (mine is None) == (theirs is None)
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
            assert mine is None or mine.dtype == theirs.dtype


@pytest.mark.parametrize(
    "frames",
    [
        run,
        lambda: run(prompt=[[1, 2], [3, 4, 5]]),  # rows of different lengths
        lambda: run(sampler="remdm-cap", batch_size=3),
        lambda: run(sampler="p2"),
        living,
    ],
    ids=["plain", "lengths", "remasked", "paths", "life"],
)
def test_a_replay_equals_the_run(frames: Callable[[], Iterator[Frame]], tmp_path: Path) -> None:
    shown = list(frames())
    about = {"sampler": "x", "settings": {"steps": np.int64(6)}, "text": ["so"]}
    Trace(PANEL, shown, about).save(tmp_path / "x.npz")
    trace = tzd.Trace.load(tmp_path / "x.npz")
    assert_same(trace.frames, shown)
    assert_same(trace.frames, shown)  # again
    assert (trace.panel.title, trace.panel.columns, list(trace.panel.pieces)) == ("a run", None, list("abcdef\n"))
    assert trace.about == {"sampler": "x", "settings": {"steps": 6}, "text": ["so"]}


def test_at_a_prompt_a_run_says_what_it_is_and_not_every_token_there_is() -> None:
    panel = Panel("title", [f"piece{token}" for token in range(VOCAB)])
    said = repr(Trace(panel, list(run()), {"sampler": "x"}))
    assert said == "Trace(panel=Panel(title='title', columns=None), about={'sampler': 'x'})"


def test_frames_replayed_are_the_readers_own() -> None:
    film = Film.of(run())
    for frame in film:
        frame.tokens[:] = frame.confidence[:] = 0
        frame.lengths[:] = 1
    assert_same(film, list(run()))


def test_a_trace_that_was_read_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    tzd.record(MODEL, run()).save(tmp_path / "a.npz")
    read_trace(tmp_path / "a.npz").save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_run_of_256_characters_in_162_steps_takes_less_than_10_kb(tmp_path: Path) -> None:
    model = tzd.from_function(lambda tokens: np.zeros((*tokens.shape, 65)), vocab_size=65, seq_len=256)
    tzd.record(model, tzd.stream(model, length=256, steps=162)).save(tmp_path / "x.npz")
    assert (tmp_path / "x.npz").stat().st_size < 10_000


def test_recording_says_what_the_run_was_made_with() -> None:
    trace = tzd.record(MODEL, run(sampler="llada", temperature=0.5))
    assert trace.about["sampler"] == "llada" and trace.about["seed"] == 1
    assert trace.about["settings"] == {"steps": 6, "temperature": 0.5}
    assert trace.about["version"] == tzd.__version__
    assert trace.panel.title == "llada · steps 6 · temperature 0.5"


def test_what_a_trace_says_of_weights_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    for hub, told in ((str(tmp_path / "mine"), "mine"), ("owner/name", "owner/name")):
        (tmp_path / "mine").mkdir(exist_ok=True)
        provenance = {"hub": hub, "step": 3, "run": {"training": {"save_dir": str(tmp_path)}}}
        model = replace(MODEL, provenance=provenance)
        trace = tzd.record(model, tzd.stream(model, length=4, steps=2))
        assert trace.about["model"] == {"hub": told, "step": 3}
        assert str(tmp_path) not in json.dumps(trace.about)


def test_the_text_is_what_was_said_or_else_the_last_tokens() -> None:
    frames = [Frame(0, np.array([[0, 1, 6]]), *(np.zeros((1, 3), bool),) * 2, np.ones((1, 3)), 0, np.array([3]))]
    assert Trace(PANEL, frames, {"text": ["said"]}).text == ["said"]
    for nonsense in ({}, {"text": "said"}, {"text": [1]}, {"text": ["a", "b"]}):
        assert Trace(PANEL, frames, nonsense).text == ["ab\n"]


def test_frames_that_have_been_drawn_already_cannot_be_recorded() -> None:
    frames = run()
    list(frames)
    with pytest.raises(
        UserError, match=("there are no frames: call stream again, for its frames can be drawn only once")
    ):
        tzd.record(MODEL, frames)


# --- files that are none ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("trace") / "x.npz"
    Trace(PANEL, list(living()), {}).save(file)
    return file.read_bytes()


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_trace(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def packed(path: Path, good: bytes, **changed: Any) -> Path:
    arrays = {**np.load(io.BytesIO(good)), **changed}
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def said(good: bytes, **changed: Any) -> np.ndarray:
    text = json.loads(np.load(io.BytesIO(good))["json"].tobytes())
    return np.frombuffer(json.dumps({**text, **changed}).encode(), np.uint8)


def test_weights_and_other_files_are_no_traces(good: bytes, tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", token_emb=np.zeros((3, 2), np.float32))
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "good.npz").write_bytes(good)
    (tmp_path / "cut.npz").write_bytes(good[:-40])
    for name in ("weights.npz", "text.npz", "cut.npz", "missing.npz", "."):
        assert not is_trace(tmp_path / name)
        refusal(tmp_path / name)
    assert is_trace(tmp_path / "good.npz")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cell": None}, ("lacks cell: it is damaged, or of a newer format; get it again, or update tzd")),
        ({"more": np.zeros(3)}, "holds more"),
        ({"tzd_trace": np.int64(2)}, "has format 2, this version of tzd reads 1: update tzd"),
        ({"tzd_trace": np.float64(1)}, "tzd_trace is float64"),
        ({"step": np.array([{}] * 8)}, "Python objects"),
        ({"step": np.arange(7)}, "step and changes differ in length"),
        ({"step": np.arange(8)[::-1]}, "step goes backwards"),
        ({"nfe": np.arange(8) - 1}, "nfe goes backwards"),
        ({"token": np.zeros(3, np.int32)}, "token and cell differ in length"),
        ({"shape": np.array([2, 9, 1])}, "no two numbers"),
        ({"shape": np.array([2**31, 2**31])}, "a canvas of"),
        ({"shape": np.array([-2, -9])}, "a canvas of"),
        ({"shape": np.array([3, 9])}, "lengths do not fit"),
        ({"lengths": np.array([9, 10])}, "lengths do not fit"),
        ({"changes": np.full(8, 2**61)}, "counts other changes"),
        ({"changes": np.array([10**6, *[0] * 6, 1 - 10**6])}, "counts other changes"),
        ({"json": np.frombuffer(b"{", np.uint8)}, "its json"),
        ({"json": np.frombuffer(b"[" * 10**5, np.uint8)}, "its json"),
        ({"json": np.frombuffer(b"[]", np.uint8)}, "its json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_no_trace_has_are_one_line(
    changed: dict[str, Any], message: str, good: bytes, tmp_path: Path
) -> None:
    assert message in refusal(packed(tmp_path / "x.npz", good, **changed))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cell", -1, "cells outside"),
        ("cell", 18, "cells outside"),
        ("token", VOCAB + 1, "tokens outside 0..6"),
        ("token", -2, "tokens outside"),
        ("confidence", np.nan, "confidences outside"),
        ("confidence", -0.5, "confidences outside"),
        ("flags", 4, "flags"),
        ("generation", -2, "generation"),
    ],
)
def test_numbers_out_of_their_range_are_one_line(
    name: str, value: float, message: str, good: bytes, tmp_path: Path
) -> None:
    array = np.load(io.BytesIO(good))[name].copy()
    array[3] = value
    assert message in refusal(packed(tmp_path / "x.npz", good, **{name: array}))


@pytest.mark.parametrize(
    "changed",
    [
        {"title": 3}, {"columns": 0}, {"columns": "wide"}, {"columns": True}, {"mask_id": 2**40}, {"mask_id": None},
        {"lives": 1}, {"pieces": []}, {"pieces": ["a", 2]}, {"about": []}, {"foreign": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_description_that_cannot_be_is_one_line(changed: dict[str, Any], good: bytes, tmp_path: Path) -> None:
    refusal(packed(tmp_path / "x.npz", good, json=said(good, **changed)))


def test_a_file_that_would_unpack_to_gigabytes_is_refused_unread(good: bytes, tmp_path: Path) -> None:
    path, size = tmp_path / "x.npz", 2**28 // 13 + 1
    with (
        zipfile.ZipFile(io.BytesIO(good)) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb,
    ):
        for name in source.namelist():
            kind = {"cell.npy": "<i4", "token.npy": "<i4", "confidence.npy": "<f4", "flags.npy": "|u1"}.get(name)
            if kind is None:
                bomb.writestr(name, source.read(name))
                continue
            with bomb.open(name, "w") as member:
                header = {"descr": kind, "fortran_order": False, "shape": (size,)}
                np.lib.format.write_array_header_1_0(member, header)
                for _ in range(np.dtype(kind).itemsize):
                    member.write(bytes(size))
    assert path.stat().st_size < 2**22
    assert "bytes, where a trace has 268435456 at most" in refusal(path)


def packed_as(good: bytes, path: Path, json_member: bytes, compression: int) -> Path:
    """A trace with another json, all of it packed in another way."""
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(path, "w", compression) as file:
        for name in source.namelist():
            file.writestr(name, json_member if name == "json.npy" else source.read(name))
    return path


def test_a_header_of_megabytes_is_refused_unread(good: bytes, tmp_path: Path) -> None:
    size = 2**26
    member = b"\x93NUMPY\x02\x00" + size.to_bytes(4, "little") + b" " * size
    path = packed_as(good, tmp_path / "x.npz", member, zipfile.ZIP_DEFLATED)
    del member
    tracemalloc.start()
    try:
        assert "format of NumPy's that is not read" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_that_is_unpacked_without_a_limit_is_refused(compression: int, good: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(good)) as source:
        whole = source.read("json.npy")
    assert "packed in a way" in refusal(packed_as(good, tmp_path / "x.npz", whole, compression))


def test_a_description_of_megabytes_is_refused_unread(good: bytes, tmp_path: Path) -> None:
    path = packed(tmp_path / "x.npz", good, json=np.full(2**24 + 1, ord(" "), np.uint8))
    assert (
        "is a damaged trace: 16777217 bytes of json, where a trace has 16777216 at most; get the file again"
    ) in refusal(path)


def test_a_run_that_could_not_be_read_again_is_not_written(
    good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tzd.viewers.trace._FRAMES", 7)
    with pytest.raises(
        UserError, match=(r"cannot write .+: 8 frames, where a trace has 7 at most; keep a shorter run")
    ):
        Trace(PANEL, list(living())).save(tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())
    (tmp_path / "x.npz").write_bytes(good)
    assert "8 frames" in refusal(tmp_path / "x.npz")


def test_the_text_of_a_long_run_takes_no_more_memory_than_a_frame(good: bytes, tmp_path: Path) -> None:
    none, cells = np.zeros(2000, np.int64), 2**12
    canvas = {"shape": np.array([1, cells]), "lengths": np.array([cells])}
    frames = {"step": none, "nfe": none, "generation": none - 1, "changes": none}
    empty = {name: np.zeros(0, np.load(io.BytesIO(good))[name].dtype) for name in ("cell", "token", "confidence")}
    arrays = {**canvas, **frames, **empty, "flags": np.zeros(0, np.uint8)}
    trace = read_trace(packed(tmp_path / "x.npz", good, **arrays))
    tracemalloc.start()
    try:
        assert trace.text == [""]
        assert tracemalloc.get_traced_memory()[1] < 100 * cells
    finally:
        tracemalloc.stop()


def test_a_title_cannot_steer_a_terminal(good: bytes, tmp_path: Path) -> None:
    path = packed(tmp_path / "x.npz", good, json=said(good, title="a\x1b[2Jb\nc\u202e"))
    assert read_trace(path).panel.title == "a␛[2Jb⏎c\N{REPLACEMENT CHARACTER}"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 7)), min_size=1, max_size=4), cut=st.booleans())
def test_flipped_bits_give_a_trace_or_an_error_of_ours(
    flips: list[tuple[int, int]], cut: bool, good: bytes, tmp_path: Path
) -> None:
    damaged = bytearray(good)
    for place, bit in flips:
        damaged[place % len(damaged)] ^= 1 << bit
    path = tmp_path / "x.npz"
    path.write_bytes(damaged[: flips[0][0] % len(damaged)] if cut else damaged)
    is_trace(path)
    try:
        trace = read_trace(path)
    except TzdError as error:
        assert "\n" not in str(error)
    else:
        assert len(list(trace.frames)) == len(trace.frames)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["shape", "lengths", "step", "changes", "cell", "token", "flags", "json"]), data=st.data())
def test_numbers_changed_in_a_whole_file_give_a_trace_or_an_error_of_ours(
    name: str, data: st.DataObject, good: bytes, tmp_path: Path
) -> None:
    array = np.load(io.BytesIO(good))[name].copy()
    place = data.draw(st.integers(0, array.size - 1))
    limits = np.iinfo(array.dtype)
    array[place] = data.draw(st.integers(int(limits.min), int(limits.max)) | st.integers(0, 30))
    path = packed(tmp_path / "x.npz", good, **{name: array})
    try:
        trace = read_trace(path)
    except TzdError as error:
        assert "\n" not in str(error)
    else:
        for frame in trace.frames:
            trace.panel.glyphs[trace.panel.cells(frame)]


# --- where they go ----------------------------------------------------------------------------------------------


def test_a_trace_never_replaces_what_is_none(tmp_path: Path) -> None:
    trace, weights = tzd.record(MODEL, run()), tmp_path / "weights.npz"
    np.savez(weights, w=np.zeros(3))
    before = weights.read_bytes()
    with pytest.raises(UserError, match=(r"cannot write .+: it exists, and is no trace; choose another name")):
        trace.save(weights)
    assert weights.read_bytes() == before
    for name in ("x.txt", "nowhere/x.npz"):
        with pytest.raises(UserError):
            trace.save(tmp_path / name)
    trace.save(tmp_path / "x.npz")
    trace.save(tmp_path / "x.npz")  # but another trace
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.npz", "x.npz"]


def test_a_trace_is_saved_as_a_page(tmp_path: Path) -> None:
    page = tzd.record(MODEL, run()).save(tmp_path / "x.html").read_text("utf-8")
    assert page.startswith("<!doctype html>") and "ancestral · steps 6" in page
