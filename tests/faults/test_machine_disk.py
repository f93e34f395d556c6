"""A disk that is full or may not be written to: one line, nothing half-written, and the run goes on once it can."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from faults.machine import EACH_IN_ITS_TIME, PAGE, at_step, files, fill, free, read_only, small_disk
from runs import assert_same_weights, rows, train
from tzd.checkpoint import RunFolder, read_checkpoint, write_checkpoint
from tzd.checkpoint.durable import replace_file
from tzd.cli import main
from tzd.config import TokenizerSettings
from tzd.corpus.build import build_shards
from tzd.errors import TzdError, UserError
from tzd.loggers.csv import CsvLogger
from tzd.training.records import Written
from tzd.viewers.save import save
from viewed import PANEL, alone, denoising

resource = pytest.importorskip("resource")
FULL = "No space left on device"
ROOM = re.compile(
    r"make room for (\d+) (bytes|KiB|MiB) more, as it takes (\d+) (bytes|KiB|MiB), or choose another folder$"
)
UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files may not grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def checkpoint(folder: Path, step: int, size: int = 3000) -> Path:
    weights = {"a": np.arange(size, dtype=np.float32) + step, "b": np.full(7, step, np.float32)}
    return write_checkpoint(folder, config={"step": step}, weights=weights, training_state={"step": step, "w": weights})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 1 << 20) as folder:
        yield folder


# --- a full disk -------------------------------------------------------------------------------------------------


def test_a_file_that_may_not_grow_at_any_byte_leaves_the_old_checkpoint_and_no_litter(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "runs" / "model", 1)
    before, sizes = files(tmp_path), {file.stat().st_size for file in folder.iterdir()}
    limits = {limit for size in sizes for limit in (1, size // 2, size - 1)} | {*range(0, max(sizes), 997)}
    for limit in sorted(limits):
        with largest_file(limit), pytest.raises(TzdError) as error:
            checkpoint(folder, 2)
        assert str(error.value) == (
            f"cannot write {folder}: File too large; raise the limit on the size of a file (ulimit -f), or choose"
            " another folder"
        )
        assert files(tmp_path) == before, limit
        assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]
    with largest_file(max(sizes)):
        assert read_checkpoint(checkpoint(folder, 2)).config["step"] == 2
    assert len(limits) > 20


def test_with_as_much_more_room_as_the_message_says_a_checkpoint_fits(disk: Path) -> None:
    folder = checkpoint(disk / "model", 1)
    before = files(disk)
    for room in range(0, 16 * PAGE, PAGE):
        ballast = fill(disk, room)
        with pytest.raises(TzdError) as error:
            checkpoint(folder, 2, 20000)
        assert str(error.value).startswith(f"cannot write {folder}: {FULL}; make room for ")
        said = ROOM.search(str(error.value))
        assert said, error.value
        assert free(disk) == room and {**files(disk), "ballast": b""} == {**before, "ballast": b""}
        ballast.unlink()
        missing, size = int(said[1]) * UNITS[said[2]], int(said[3]) * UNITS[said[4]]
        assert 160000 < size < 180000 and 0 <= missing + room - size < 2048
        ballast = fill(disk, room + missing // PAGE * PAGE)
        assert read_checkpoint(checkpoint(folder, 2, 20000)).config["step"] == 2
        ballast.unlink()
        checkpoint(folder, 1)


@pytest.mark.parametrize("place", ["disk", "file"])
def test_a_disk_that_fills_within_a_row_takes_the_row_back(place: str, disk: Path, tmp_path: Path) -> None:
    folder = disk if place == "disk" else tmp_path
    logger = CsvLogger(folder)
    logs = {
        folder / "metrics.csv": lambda: logger.log({"step": 2, "loss": 0.12345678901234567, "seconds": 1e300}),
        folder / "samples.txt": lambda: logger.log_samples(2, [Written(1.0, "y" * 2000)]),
    }
    while (folder / "metrics.csv").stat().st_size % PAGE < PAGE - 30:
        logger.log({"step": 1})
    logger.log_samples(1, [Written(1.0, "x" * (PAGE - 100))])
    before = {path: path.read_bytes() for path in logs}
    ballast = fill(disk, 0)
    said = {}
    with largest_file(PAGE - 10 if place == "file" else resource.RLIM_INFINITY):
        for path, log in logs.items():
            with pytest.raises(TzdError) as error:
                log()
            said[path] = str(error.value)
    ballast.unlink()
    assert before == {path: path.read_bytes() for path in logs}
    for path, log in logs.items():
        log()
        size = len(path.read_bytes()) - len(before[path])
        reason, mend = FULL, f"make room for {size} bytes more, as it takes {size} bytes, or choose another folder"
        if place == "file":
            reason = "File too large"
            mend = "raise the limit on the size of a file (ulimit -f), or choose another folder"
        assert said[path] == f"cannot write {path}: {reason}; {mend}"


@EACH_IN_ITS_TIME
def test_a_disk_that_fills_in_the_middle_of_a_run_costs_it_nothing(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"model.n_embd": 32, "training.val_generation_freq": 1, "training.ema_decay": 0.9}
    straight = train(tmp_path / "straight", changes, engine=engine)
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        run, ballast = RunFolder(disk / "run"), disk / "ballast"
        for room in (2 * PAGE, 8 * PAGE, 20 * PAGE, 28 * PAGE):
            with pytest.raises(TzdError) as error, monkeypatch.context() as patch:
                at_step(patch, 4, lambda room=room: fill(disk, room))
                train(disk, {**changes, "training.resume": run.path.exists()}, engine=engine)
            assert str(error.value).startswith(f"cannot write {run.checkpoint_path(6)}: {FULL}; make room for ")
            assert ROOM.search(str(error.value)) and error.value.exit_code == 1
            assert run.steps() == [3] and run.resolve("last") == run.checkpoint_path(3)
            assert not [path for path in run.path.iterdir() if path.name.startswith(".")]
            read_checkpoint(run.checkpoint_path(3))
            ballast.unlink()
        resumed = train(disk, {**changes, "training.resume": True}, engine=engine)
        assert_same_weights(straight, resumed)
        assert rows(straight) == rows(resumed)
        assert (straight.path / "samples.txt").read_bytes() == (resumed.path / "samples.txt").read_bytes()
        ours, theirs = (files(there.path / "step-00000006") for there in (straight, resumed))
        for name in ("model.safetensors", "training_state.safetensors"):
            assert ours[name] == theirs[name], name


@pytest.mark.parametrize("name", ["run.npz", "run.gif", "run.png", "run.html"])
def test_what_is_saved_of_a_run_is_there_whole_or_not_at_all(
    name: str, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = disk / name
    for old in (b"", b"what was there before"):
        if old:
            path.write_bytes(old)
        ballast = fill(disk, 0)
        with pytest.raises(TzdError) as error:
            _save(path)
        assert re.fullmatch(
            rf"cannot write {re.escape(str(path))}: {FULL}; make room for \d+ (bytes|KiB) more, as it takes \d+"
            r" (bytes|KiB), or choose another folder",
            str(error.value),
        )
        ballast.unlink()
        assert files(disk) == ({name: old} if old else {})
    _save(path)
    assert len(path.read_bytes()) > 500


def _save(path: Path) -> None:
    if path.suffix == ".npz":
        replace_file(path, bytes(np.random.default_rng(0).bytes(5000)))
    else:
        save([PANEL], alone(denoising()), path)


def test_a_command_on_a_full_disk_ends_in_one_line(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = train(tmp_path / "here", {"tokenizer.name": "byte"}).resolve("last")
    text = tmp_path / "here" / "text.txt"
    (disk / "folder").mkdir()
    commands = {
        "model.npz": ["convert", str(last), str(disk / "model.npz")],
        "model": ["convert", str(last), str(disk / "model")],
        "shards": [
            "corpus",
            "build",
            str(text),
            "--out",
            str(disk / "shards"),
            "--separator",
            " ",
            "--tokenizer",
            "byte",
            "--workers",
            "0",
        ],
        "trace.npz": ["sample", str(last), "--save-trace", str(disk / "trace.npz")],
        "run.gif": ["watch", str(last), "--save", str(disk / "run.gif")],
    }
    fill(disk, 0)
    before = files(disk)
    for name, command in commands.items():
        assert main(command) == 1, command
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"tzd: cannot write {disk / name}: {FULL}; make room for "), said
        assert files(disk) == before and sorted(path.name for path in disk.iterdir()) == ["ballast", "folder"]


@pytest.mark.parametrize("room", [1 << 18, 3 << 20], ids=["at_once", "on_the_way"])
def test_with_as_much_more_room_as_the_message_says_shards_fit(room: int, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox\n" * (1 << 17))  # 2.5 MiB, of which a byte is two in shards
    told = re.compile(
        r"cannot write .*: No space left on device; make room for about (\d+) (KiB|MiB) more, as it takes about"
        r" (\d+) (KiB|MiB), or choose another --out"
    )
    with small_disk(tmp_path / "disk", 12 << 20) as disk:

        def build() -> None:
            build_shards([str(text)], disk / "shards", TokenizerSettings("byte"), separator="\n")

        ballast = fill(disk, room)
        with pytest.raises(TzdError) as error:
            build()
        assert [path.name for path in disk.iterdir()] == ["ballast"] and free(disk) == room
        said = told.fullmatch(str(error.value))
        assert said is not None, error.value
        ballast.unlink()
        fill(disk, (room + int(said[1]) * UNITS[said[2]]) // PAGE * PAGE)
        build()
        taken = sum(file.stat().st_size for file in (disk / "shards").iterdir())
        assert taken < int(said[3]) * UNITS[said[4]] < 1.7 * taken


def test_an_answer_that_finds_no_room_ends_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    import subprocess
    import sys

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tzd", "samplers"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        1,
        f"tzd: {FULL}: standard output; make room, or send it somewhere else\n",
    )


# --- a disk that may not be written to ---------------------------------------------------------------------------


@EACH_IN_ITS_TIME
def test_nothing_is_trained_where_nothing_can_be_written(engine: str, disk: Path, tmp_path: Path) -> None:
    run = train(disk, engine=engine)
    before = files(disk)
    with read_only(disk):
        with pytest.raises(UserError) as error:
            train(tmp_path, {"training.save_dir": str(disk)}, engine=engine)
        assert str(error.value) == (
            f"training.save_dir={disk} cannot hold a run: Read-only file system ({disk / 'run-2'}); choose a folder"
            " that you may write to"
        )
        with pytest.raises(TzdError) as resumed:
            train(disk, {"training.resume": str(run.path), "training.max_steps": 9}, engine=engine)
        assert str(resumed.value) == (
            f"cannot write {run.path}: Read-only file system ({run.path / 'lock'}); choose a folder that is there and"
            " that you may write to"
        )
        assert resumed.value.exit_code == 1
    assert files(disk) == before


@EACH_IN_ITS_TIME
def test_a_disk_that_turns_read_only_ends_a_run_that_can_go_on(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train(tmp_path / "straight", engine=engine)
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        run = RunFolder(disk / "run")
        locked = read_only(disk)
        with pytest.raises(TzdError) as error, monkeypatch.context() as patch:
            at_step(patch, 4, locked.__enter__)
            train(disk, engine=engine)
        locked.__exit__(None, None, None)
        assert str(error.value) == (
            f"cannot write {run.path / 'metrics.csv'}: Read-only file system; choose a folder that is there and that"
            " you may write to"
        )
        assert run.steps() == [3]
        resumed = train(disk, {"training.resume": True}, engine=engine)
        assert_same_weights(straight, resumed)
        assert rows(straight) == rows(resumed)


def test_what_is_saved_where_nothing_can_be_written_is_one_line(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = train(tmp_path, {"tokenizer.name": "byte"}).resolve("last")
    stranger = f"{disk} is no folder that you may write to; choose another place"
    locked = f"you may not write to {disk}; choose another folder"
    built = ("corpus", "build", str(tmp_path / "text.txt"), "--tokenizer", "byte", "--workers", "0")
    commands = {
        ("convert", str(last), str(disk / "a.npz")): f"cannot write {disk / 'a.npz'}: {stranger}",
        ("convert", str(last), str(disk / "a")): (
            f"cannot write {disk / 'a'}: Read-only file system ({disk / f'.a.{os.getpid()}.tmp'}); choose a folder"
            " that is there and that you may write to"
        ),
        ("watch", str(last), "--save", str(disk / "a.gif")): f"cannot write {disk / 'a.gif'}: {locked}",
        ("sample", str(last), "--save-trace", str(disk / "t.npz")): f"cannot write {disk / 't.npz'}: {locked}",
        (*built, "--out", str(disk / "b")): (
            f"cannot write {disk / 'b.part'}: Read-only file system; choose another --out"
        ),
    }
    with read_only(disk):
        for command, message in commands.items():
            assert main([*command]) in (1, 2)
            assert capsys.readouterr().err.splitlines()[-1] == f"tzd: {message}"
    assert list(disk.iterdir()) == []
