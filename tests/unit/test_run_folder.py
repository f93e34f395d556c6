"""Run folders: no run overwrites another, the pointers always name a checkpoint, one process at a time."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from tzd.checkpoint import RunFolder, read, read_checkpoint, write_checkpoint
from tzd.errors import CheckpointError, ConfigError, TzdError, UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(run: RunFolder, *steps: int) -> None:
    for step in steps:
        write_checkpoint(run.checkpoint_path(step), config={"step": step}, weights={"w": np.zeros(1)})


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", "shakespeare")


def test_a_new_run_never_takes_the_folder_of_another(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        folder = RunFolder.create(tmp_path / "runs", "a").path
        (folder / "metrics.csv").write_text("")
        names.append(folder.name)
    assert names == ["a", "a-2", "a-3"]


def test_an_empty_folder_becomes_the_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert RunFolder.create(tmp_path, "a").path == tmp_path / "a"


def test_the_folders_above_a_run_are_made_with_it(tmp_path: Path) -> None:
    assert RunFolder.at(tmp_path / "deep" / "deeper" / "a").path.is_dir()


def test_a_new_run_has_the_highest_number_even_where_an_earlier_one_was_deleted(tmp_path: Path) -> None:
    for name in ("a-3", "a-x", "a-07", "ab-9"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text("")
    assert RunFolder.create(tmp_path, "a").path.name == "a-4"


def test_the_latest_run_is_the_highest_number_with_a_checkpoint(tmp_path: Path) -> None:
    for name in ("a", "a-2", "a-10", "a-11", "b-12"):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        if name != "a-11":
            write(run, 1)
            run.point("last", 1)
    assert RunFolder.latest(tmp_path, "a").path.name == "a-10"


@pytest.mark.parametrize("save_dir", ["runs", "nowhere"])
def test_nothing_to_resume_is_one_clear_line(save_dir: str, tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "runs", "a")
    with pytest.raises(ConfigError) as error:
        RunFolder.latest(tmp_path / save_dir, "a")
    assert str(error.value) == (
        f"training.resume=true, but {tmp_path / save_dir} holds no run 'a' with a checkpoint: start it without "
        "training.resume, or give the path of a run folder"
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/tmp/a"])
def test_a_run_name_that_leaves_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        RunFolder.create(tmp_path, name)


def test_a_save_dir_that_cannot_be_written_is_what_the_user_gave(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for save_dir in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(UserError, match=rf"^training.save_dir={save_dir} cannot hold a run: ") as error:
            RunFolder.create(save_dir, "a")
        assert error.value.exit_code == 2


def test_pointers_name_checkpoints(run: RunFolder) -> None:
    assert run.checkpoint_path(123).name == "step-00000123"
    assert run.resolve("last") is None
    write(run, 1, 2)
    run.point("last", 2)
    run.point("best", 1)
    assert (run.path / "last").read_text() == f"step-00000002 {zlib.crc32(b'step-00000002'):08x}\n"
    assert run.resolve("last") == run.path / "step-00000002"
    assert run.resolve("best") == run.path / "step-00000001"


def test_reading_a_run_takes_its_best_or_else_its_last_checkpoint(run: RunFolder) -> None:
    write(run, 1, 2)
    run.point("last", 2)
    assert read_checkpoint(run.path).config["step"] == 2
    run.point("best", 1)
    assert read_checkpoint(run.path).config["step"] == 1


def test_who_reads_a_checkpoint_while_the_run_removes_it_gets_the_better_one(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run, 1)
    run.point("best", 1)
    original = read._read_weights

    def read_late(file: Path) -> dict[str, np.ndarray]:
        if not run.checkpoint_path(2).exists():
            write(run, 2)
            run.point("best", 2)
            run.prune()
        return original(file)

    monkeypatch.setattr(read, "_read_weights", read_late)
    assert read_checkpoint(run.path).config["step"] == 2
    with pytest.raises(CheckpointError, match=r"there is no checkpoint at .*step-00000001: no such file or folder"):
        read_checkpoint(run.checkpoint_path(1))


@pytest.mark.parametrize("content", [b"", b"step-1", b"../step-00000001", b"step-00000001/..", b"\xff\0", b"x" * 10**6])
def test_a_damaged_pointer_is_named(content: bytes, run: RunFolder) -> None:
    write(run, 1)
    (run.path / "best").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"best is damaged"):
        read_checkpoint(run.path)


def test_a_pointer_to_nothing_is_named(run: RunFolder) -> None:
    run.point("last", 5)
    with pytest.raises(CheckpointError, match=r"last names step-00000005, which is not there"):
        run.resolve("last")


def test_a_pointer_that_moves_while_it_is_followed_is_followed_again(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run, 2)
    run.point("best", 1)
    original = Path.is_dir

    def is_dir(self: Path, **more: bool) -> bool:
        if self == run.checkpoint_path(1):
            run.point("best", 2)
        return original(self, **more)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    assert run.resolve("best") == run.checkpoint_path(2)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_pointer_is_the_old_one_or_the_new_one(failing: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    write(run, 1, 2)
    run.point("last", 1)
    before = names(run.path)
    with monkeypatch.context() as patch:
        patch.setattr(os if failing == "fsync" else Path, failing, full)
        with pytest.raises(TzdError, match=r"^cannot write .*last: No space left on device"):
            run.point("last", 2)
    assert run.resolve("last") == run.checkpoint_path(1)
    assert names(run.path) == before


@pytest.mark.parametrize(("keep", "left"), [((), [2, 5]), ((6,), [2, 5, 6]), ((1, 5, 99), [1, 2, 5])])
def test_pruning_keeps_what_is_pointed_to_and_what_is_named(
    keep: tuple[int, ...], left: list[int], run: RunFolder
) -> None:
    write(run, 1, 2, 3, 4, 5, 6)
    run.point("best", 2)
    run.point("last", 5)
    (run.path / "notes").mkdir()
    run.prune(keep)
    assert run.steps() == left
    assert not [name for name in names(run.path) if name.startswith(".")]
    assert (run.path / "notes").exists()


# --- the lock ---------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from tzd.checkpoint import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_in_one_folder_is_refused_and_told_whose_it_is(run: RunFolder) -> None:
    with run.lock():
        pattern = (
            rf"^{re.escape(str(run.path))} is in use by process {os.getpid()} on .* since .*: wait for it or stop it"
        )
        with pytest.raises(TzdError, match=pattern) as error, run.lock():
            pass
        assert error.value.exit_code == 1
    with run.lock():
        pass


def test_the_lock_of_a_living_process_holds_and_that_of_a_killed_one_does_not(run: RunFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with pytest.raises(TzdError, match=f"in use by process {process.pid} "), run.lock():
                pass
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert f"process {process.pid} " in (run.path / "lock").read_text()
    with run.lock():
        assert f"process {os.getpid()} " in (run.path / "lock").read_text()


def test_a_lock_is_let_go_when_the_run_fails(run: RunFolder) -> None:
    with pytest.raises(RuntimeError), run.lock():
        raise RuntimeError
    with run.lock():
        pass


def test_taking_the_lock_clears_what_a_dead_run_left(run: RunFolder) -> None:
    write(run, 1, 2)
    (run.path / ".step-00000003.99.tmp").mkdir()
    (run.path / ".last.99.tmp").write_text("step-0")
    run.checkpoint_path(2).rename(run.path / ".step-00000002.old")
    with run.lock():
        assert run.steps() == [1, 2]
        assert names(run.path) == ["lock", "step-00000001", "step-00000002"]


def test_a_run_goes_on_where_its_machine_gets_another_name(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with run.lock():
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        run.check_held()


def test_a_run_folder_that_cannot_be_written_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TzdError, match=r"^cannot write .*: Not a directory"), RunFolder(tmp_path / "file").lock():
        pass
