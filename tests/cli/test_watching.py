"""`tzd watch` and `tzd compare`: on terminals, without, replayed, and what is wrong with their flags."""

from __future__ import annotations

import json
import os
import re
import signal
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from running import TEXT, Run, into, on_terminal, on_terminal_alone

import tzd as tzd_package
from networks import CONFIG, stirred, weights_of
from tzd import Trace
from tzd.checkpoint import write_checkpoint
from tzd.cli import watch
from tzd.cli.compare import parse_samplers
from tzd.corpus.tokenizers.byte import ByteTokenizer
from tzd.errors import TzdError, UserError
from tzd.mapping import to_mapping

QUICK = ["--sampler", "ancestral", "--length", 40, "--steps", 4]
BLANK = "░"
TYPED = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # what a terminal obeys


def checkpoint(folder: Path, **diffusion: object) -> Path:
    """A small network that knows the letters of the fox, and has learnt nothing."""
    tokenizer = {"kind": "char", "characters": "".join(sorted(set(TEXT)))}
    config = replace(CONFIG, vocab_size=len(set(TEXT)), block_size=32)
    sections = {
        "model": {"model_type": config.model_type, **to_mapping(config)},
        "tokenizer": {"kind": "char", "vocab_size": config.vocab_size},
        "diffusion": diffusion,
        "provenance": {},
    }
    files = {"tokenizer.json": json.dumps(tokenizer).encode()}
    weights = {name: value / 4 for name, value in weights_of(stirred(config)).items()}  # sure of nothing
    return write_checkpoint(folder, config=sections, weights=weights, files=files)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("models") / "fox")


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("models") / "causal", name="block", block_len=1)


@pytest.fixture
def trace(trained: Path, tzd: Run, tmp_path: Path) -> Path:
    assert tzd("sample", trained, *QUICK, "--seed", 1, "--save-trace", "run.npz").returncode == 0
    return tmp_path / "run.npz"


def steps_in(written: str) -> list[int]:
    """The steps that were drawn, in order."""
    return [int(step) for step in re.findall(r"step (\d+) ·", written)]


def test_without_a_terminal_watch_prints_what_sample_prints(trained: Path, tzd: Run):
    for flags in ([*QUICK, "--seed", 3], [*QUICK, "--prompt", "the ", "--batch-size", 2, "--json"]):
        watched, sampled = tzd("watch", trained, *flags), tzd("sample", trained, *flags)
        assert (watched.returncode, watched.stderr) == (0, "")
        assert watched.stdout == sampled.stdout


def test_infill_is_watched_like_a_text(trained: Path, tzd: Run):
    text = "the ____ brown ___"
    watched = tzd("watch", trained, "--infill", text, "--steps", 4)
    assert watched.stdout == tzd("infill", trained, text, "--steps", 4).stdout


@pytest.mark.parametrize(("blocks", "length"), [(1, 32), (2, 56), (3, 80)])
def test_blocks_are_windows_that_overlap_by_a_quarter(blocks: int, length: int, trained: Path, tzd: Run):
    for prompt in ("", "the quick"):
        result = tzd("watch", trained, "--blocks", blocks, "--steps", 4, "--prompt", prompt, "--json")
        out = json.loads(result.stdout.splitlines()[-1])
        assert len(out["tokens"][0]) == length
        assert 0 < out["nfe"] <= 4 * blocks
        assert out["text"][0].startswith(prompt)


def test_a_terminal_shows_the_denoising_then_the_text_and_a_replay_the_same(trained: Path, trace: Path, tzd: Run):
    code, live = on_terminal("watch", trained, *QUICK, "--seed", 1, "--speed", 100)
    assert code == 0
    last = json.loads(tzd("watch", trace, "--json").stdout.splitlines()[-1])
    assert steps_in(live)[0] == 0 and "40 characters left" in live and "░ blank" in live
    assert live.endswith(last["text"][0] + "\r\n")
    assert on_terminal("watch", trace, "--speed", 100) == (0, live)


@pytest.mark.parametrize("setting", [{"TERM": "dumb"}, {"size": (15, 24)}, {"size": (80, 3)}], ids=str)
def test_where_nothing_can_be_drawn_in_place_the_text_alone_is_printed(setting: dict, trace: Path, tzd: Run):
    code, written = on_terminal("watch", trace, **setting)
    assert (code, written) == (0, tzd("watch", trace).stdout.replace("\n", "\r\n"))


def test_no_color_leaves_colours_out(trace: Path):
    colours = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7])(?:;\d+)*m")
    assert colours.search(on_terminal("watch", trace, "--speed", 100)[1])
    written = on_terminal("watch", trace, "--speed", 100, NO_COLOR="1")[1]
    assert BLANK in written and "\x1b[1;7m" in written
    assert not colours.search(written)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["control_c", "sigterm"])
def test_who_is_interrupted_leaves_the_terminal_whole_and_no_file(number: signal.Signals, trace: Path, tmp_path: Path):
    arguments = ["watch", trace, "--speed", 4, "--save", tmp_path / "x.gif"]
    code, written = on_terminal_alone(*arguments, interrupt_at="step 2 ", by=number)
    assert code == 128 + number
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l") > -1
    assert written.endswith("tzd: interrupted\r\n")
    assert list(tmp_path.iterdir()) == [trace]


def test_endless_goes_on_until_interrupted(trained: Path):
    flags = ["--endless", "--steps", 2, "--speed", 200, "--prompt", "the "]
    code, written = on_terminal("watch", trained, *flags, interrupt_at="step 9 ")
    assert code == 130
    assert steps_in(written) == sorted(steps_in(written))  # counted on from window to window
    assert "the " in written.split("\x1b[?25h")[-1] or written.count("the ") > 1


def test_endless_text_is_written_as_it_comes_where_there_is_no_terminal(trained: Path):
    reader, writer = os.pipe()

    def read() -> str:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            return pipe.read(200)

    with ThreadPoolExecutor(1) as pool:
        read_text = pool.submit(read)
        assert into(writer, "watch", trained, "--endless", "--steps", 2, "--prompt", "the ") == 141
        text = read_text.result(60)
    assert len(text) == 200 and text.startswith("the ") and "\x1b" not in text


def test_endless_text_splits_no_character_where_tokens_are_bytes():
    written = "".join(islice(windows_of("€é", seq_len=7, overlap=2), 9))
    assert len(written) > 15 and written == ("€é" * 20)[: len(written)]
    garbage = "".join(islice(windows_of("é", seq_len=5, overlap=2, first=b"\xff"), 3))
    assert set(garbage) == {"\N{REPLACEMENT CHARACTER}"} and len(garbage) == 5 + 3 + 3


@pytest.mark.parametrize("flag", ["--endless", "--blocks=2"])
def test_where_answers_end_no_text_goes_on(flag: str, trained: Path, tzd: Run, monkeypatch: pytest.MonkeyPatch):
    model = replace(tzd_package.load(trained), ends=(0,))
    monkeypatch.setattr("tzd.cli.writing.load_model", lambda args, path: model)
    result = tzd("watch", trained, flag)
    name = flag.removesuffix("=2")
    assert result.returncode == 2
    assert result.stderr == f"tzd: {name} is for texts that go on, and this model's answers end: leave it out\n"


def windows_of(text: str, seq_len: int, overlap: int, first: bytes = b"") -> Iterator[str]:
    """What `--endless` writes with a model of bytes that knows one text by heart, or one byte only."""
    known = np.frombuffer(first or text.encode(), np.uint8)
    rounds = np.resize(known, (len(known), seq_len + len(known)))[0]
    turned = np.stack([rounds[i : i + seq_len] for i in range(len(known))])  # (n, L) the text from each of its bytes on

    def denoise(tokens: np.ndarray) -> np.ndarray:
        fits = ((tokens[:, None] == turned) | (tokens[:, None] == 256)).all(axis=2)  # (B, n)
        return 99.0 * (turned[fits.argmax(axis=1)][..., None] == np.arange(256))

    model = replace(tzd_package.from_function(denoise, vocab_size=256, seq_len=seq_len), tokenizer=ByteTokenizer())
    parser = ArgumentParser()
    watch.add_arguments(parser)
    flags = ["--endless", "--steps=1", f"--sampler.overlap={overlap}", "--temperature=0"]
    return watch._windows(parser.parse_args(["CKPT", *flags]), model)


def test_on_a_terminal_a_text_without_line_breaks_is_written_in_lines_as_long_as_it(trained: Path):
    flags = ["--endless", "--steps", 2, "--speed", 500, "--sampler.overlap", 0]
    code, written = on_terminal("watch", trained, *flags, size=(20, 12), interrupt_at="NFE 15 ")
    assert code == 130
    between = re.findall(r"\x1b\[\?25h(.*?)\x1b\[\?25l", written, re.DOTALL)  # one drawing and the next
    *lines, rest = "".join(TYPED.sub("", each).lstrip("\r") for each in between).split("\r\n")
    assert len(lines) > 5 and set(map(len, lines)) == {20} and not rest


def test_a_trace_is_replayed_as_it_was_seen(trace: Path, trained: Path, tzd: Run):
    replayed = tzd("watch", trace, "--json").stdout
    live = tzd("sample", trained, *QUICK, "--seed", 1, "--json").stdout
    assert replayed.splitlines()[:-1] == live.splitlines()[:-1]
    said, meant = (json.loads(out.splitlines()[-1]) for out in (replayed, live))
    assert said == {key: meant[key] for key in ("text", "tokens", "nfe")}


def test_a_trace_is_kept_where_the_texts_reader_has_gone(trained: Path, tmp_path: Path):
    reader, writer = os.pipe()
    os.close(reader)
    assert into(writer, "sample", trained, *QUICK, "--save-trace", tmp_path / "kept.npz") == 141
    assert Trace.load(tmp_path / "kept.npz").text[0]


def test_compare_prints_each_text_with_what_it_took(trained: Path, tzd: Run):
    result = tzd("compare", trained, "--samplers", "ancestral,llada:steps=2", "--length", 20, "--steps", 4, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    first, second = result.stdout.rsplit("\n", 2)[0].split("\n\n---\n\n")
    assert re.match(r"ancestral · steps 4 · NFE [1-4] · \d+\.\d\d s\n\n", first)
    assert second.startswith("llada · steps 2 · NFE 2 · ")
    runs = json.loads(result.stdout.splitlines()[-1])["runs"]
    assert [run["title"] for run in runs] == ["ancestral · steps 4", "llada · steps 2"]
    alone = tzd("sample", trained, "--sampler", "llada", "--steps", 2, "--length", 20, "--json").stdout
    assert runs[1]["text"] == json.loads(alone.splitlines()[-1])["text"][0]
    assert all(run["seconds"] > 0 for run in runs)


def test_compare_sets_an_autoregressive_model_beside_them(trained: Path, causal: Path, tzd: Run):
    flags = ["--samplers", "ancestral:steps=2", "--ar", causal, "--length", 8, "--temperature", 0.5, "--json"]
    result = tzd("compare", trained, *flags)
    run = json.loads(result.stdout.splitlines()[-1])["runs"][-1]
    assert (run["title"], run["nfe"]) == ("autoregressive · temperature 0.5", 8)
    assert len(run["text"]) == 8
    refused = tzd("compare", trained, "--ar", trained)
    assert refused.returncode == 2 and "is no autoregressive model" in refused.stderr


def test_on_a_terminal_runs_are_side_by_side_and_in_step(trace: Path):
    code, written = on_terminal("compare", trace, trace, "--speed", 50)
    assert code == 0
    plain = TYPED.sub("", written)
    assert re.search(r"run.npz {20,}run.npz", plain)
    status = re.findall(r"NFE (\d+) · \d+ characters left +step \d+ · NFE (\d+)", plain)
    assert len(status) > 2 and all(left == right for left, right in status)


def test_traces_are_compared_without_a_model(trace: Path, trained: Path, tzd: Run):
    tzd("sample", trained, *QUICK, "--sampler", "llada", "--save-trace", "other.npz")
    result = tzd("compare", trace, "other.npz", "--json")
    assert result.returncode == 0, result.stderr
    runs = json.loads(result.stdout.splitlines()[-1])["runs"]
    assert [run["text"] for run in runs] == [
        tzd("watch", path).stdout.removesuffix("\n") for path in (trace, "other.npz")
    ]
    assert "ancestral" in runs[0]["title"] and "llada" in runs[1]["title"]
    same = tzd("compare", trace, trace).stdout
    assert same.startswith("run.npz · NFE ")  # titles that say nothing give way to names


def test_a_file_that_cannot_be_written_costs_neither_the_text_nor_the_trace_nor_the_other_file(
    trained: Path, tzd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> None:
        raise TzdError("cannot write x.gif: no space left")

    monkeypatch.setattr("tzd.viewers.animation.write_animation", full)
    files = [tmp_path / name for name in ("x.gif", "x.html", "x.npz")]
    result = tzd("watch", trained, *QUICK, "--save", files[0], "--save", files[1], "--save-trace", files[2])
    assert result.returncode == 1
    assert "cannot write x.gif: no space left" in result.stderr
    assert len(result.stdout.strip("\n")) >= 30 and [file.exists() for file in files] == [False, True, True]


@pytest.mark.parametrize("ending", [".gif", ".html", ".png"])
def test_what_is_watched_can_be_saved(ending: str, trace: Path, tzd: Run, tmp_path: Path):
    for command in (["watch", trace], ["compare", trace, trace]):
        result = tzd(*command, "--save", f"{command[0]}{ending}")
        assert result.returncode == 0 and result.stderr == f"wrote {command[0]}{ending}\n"
        assert (tmp_path / f"{command[0]}{ending}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["watch", "CKPT", "--speed", "0"], "--speed must lie in 0.01..1000 frames a second, not 0"),
        (["watch", "CKPT", "--speed", "nan"], "--speed must lie in 0.01..1000 frames a second, not nan"),
        (["watch", "CKPT", "--speed", "fast"], "invalid float value: 'fast'"),
        (
            ["watch", "CKPT", "--save", "x.avi"],
            ("cannot write x.avi: a file that shows frames ends in .gif, .mp4, .html, .png, .svg or .pdf"),
        ),
        (
            ["watch", "CKPT", "--save", "nowhere/x.gif"],
            ("cannot write nowhere/x.gif: there is no folder nowhere; make it first"),
        ),
        (["watch", "CKPT", "--save-trace", "x.txt"], "cannot write x.txt: a trace ends in .npz"),
        (["watch", "CKPT", "--blocks", "0"], "--blocks must be at least 1, not 0"),
        (
            ["watch", "CKPT", "--blocks", "2", "--length", "9"],
            ("--length and --blocks exclude each other: leave one of them out"),
        ),
        (
            ["watch", "CKPT", "--endless", "--save", "x.gif"],
            ("--endless does not go with --save: leave one of them out"),
        ),
        (["watch", "CKPT", "--endless", "--batch-size", "2"], ("--endless writes one text: leave --batch-size out")),
        (["watch", "CKPT", "--infill", "a_b", "--prompt", "a"], "--infill does not go with --prompt"),
        (
            ["watch", "CKPT", "--infill", ""],
            ("the text has no blank: write '_' for every token that is to be filled in"),
        ),
        (["watch", "CKPT", "--sampler", "lada"], "unknown sampler 'lada' (did you mean 'llada'?)"),
        (
            ["watch", "CKPT", "--blocks", "2", "--sampler.overlap=32"],
            ("an overlap of 32 leaves nothing to write in the model's window of 32"),
        ),
        (
            ["watch", "CKPT", "--blocks", "1", "--prompt", "the quick " * 4],
            ("the prompt's 40 tokens leave nothing to write in --blocks 1: ask for more"),
        ),
        (["watch", "run.npz", "--steps", "3"], "--steps is for a model, and run.npz is a trace"),
        (
            ["watch", "run.npz", "--endless"],
            ("--endless is for a model, and run.npz is a trace, which has been sampled: leave --endless out"),
        ),
        (["watch", "gone.npz"], "gone.npz"),
        (["compare", "CKPT", "--samplers", "ancestral,lada"], "unknown sampler 'lada' (did you mean 'llada'?)"),
        (
            ["compare", "CKPT", "--samplers", "llada:steps"],
            ("'steps' in 'llada:steps' is no setting: write NAME:KEY=VALUE:KEY=VALUE"),
        ),
        (["compare", "CKPT", "--samplers", "llada:stops=3"], "no setting 'stops' (did you mean 'steps'?)"),
        (["compare", "CKPT", "--sampler", "llada"], "no argument '--sampler' (did you mean '--samplers'?)"),
        (["compare", "CKPT", "CKPT"], ("give one model, or traces alone, not 2 (another text is --prompt)")),
        (["compare", "run.npz"], ("run.npz is a single trace: give another to compare it with, or 'tzd watch' it")),
        (["compare", "run.npz", "gone.npz"], ("there is no trace gone.npz: give files that --save-trace wrote")),
        (["compare", "gone.npz", "run.npz"], "there is no trace gone.npz"),
        (["compare", "CKPT", "--ar", "run.npz"], "run.npz is a trace, not a model: 'tzd watch run.npz' shows it"),
        (["sample", "run.npz"], "run.npz is a trace, not a model"),
        (
            ["compare", "run.npz", "CKPT"],
            ("run.npz is a trace: compare traces with each other, or the samplers of one model"),
        ),
        (["compare", "run.npz", "run.npz", "--seed", "2"], "--seed is for a model"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    arguments: list[str], message: str, trained: Path, trace: Path, tzd: Run, tmp_path: Path
):
    result = tzd(*(trained if argument == "CKPT" else argument for argument in arguments))
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("tzd: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_without_a_screen_there_is_no_window(trained: Path, tzd: Run, monkeypatch: pytest.MonkeyPatch):
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    result = tzd("watch", trained, "--window")
    assert (
        result.returncode == 2
        and ("there is no screen for a window here: write a file with --save FILE, or watch in the terminal")
        in result.stderr
        and result.stderr.count("\n") == 1
    )


def test_closing_the_window_before_the_end_interrupts(
    trace: Path, tzd: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    import tzd.viewers.window as window

    monkeypatch.setattr(window, "check_screen", lambda: None)
    for frames, code in ((2, 130), (1000, 0)):
        monkeypatch.setattr(window, "window", lambda panels, moments, n=frames, **_: islice(moments, n))
        result = tzd("watch", trace, "--window", "--save", "x.html")
        assert result.returncode == code
        assert (tmp_path / "x.html").exists() == bool(result.stdout) == (code == 0)


def test_a_flag_holds_for_all_samplers_and_their_own_settings_come_first():
    ways = parse_samplers("ancestral, llada:steps=2:top-p=0.9", {"steps": 8, "temperature": 0.5})
    assert ways == [
        ("ancestral", {"steps": 8, "temperature": 0.5}),
        ("llada", {"steps": 2, "temperature": 0.5, "top_p": 0.9}),
    ]


def test_a_flag_that_one_of_the_samplers_lacks_is_an_error_that_says_what_to_write():
    with pytest.raises(UserError) as error:
        parse_samplers("ancestral,first-hitting,llada:steps=2", {"steps": 8})
    said = str(error.value)
    assert said.startswith("sampler 'first-hitting' has no setting 'steps': write --samplers ")
    mend = said.rsplit(" ", 1)[1]
    assert parse_samplers(mend, {}) == [("ancestral", {"steps": 8}), ("first-hitting", {}), ("llada", {"steps": 2})]
    with pytest.raises(UserError, match="no setting 'k': leave it out"):
        parse_samplers("ancestral,llada", {"k": 8})
