"""What is said where a disk will not do, word by word."""

import errno
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tzd import room
from tzd.checkpoint import durable, shipped
from tzd.errors import CheckpointError, TzdError

CHOOSE = "choose a folder that is there and that you may write to"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def names(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


def said(error, size=0):
    with pytest.raises(TzdError) as caught, durable.one_line_errors(Path("there"), size):
        raise error
    return str(caught.value)


def test_a_failure_names_its_place_its_reason_and_the_mend():
    denied = os.strerror(errno.EACCES)
    assert said(OSError(errno.EACCES, denied)) == f"cannot write there: {denied}; {CHOOSE}"
    assert said(OSError(errno.EACCES, denied, "there")) == f"cannot write there: {denied}; {CHOOSE}"
    assert said(OSError(errno.EACCES, denied, "else")) == f"cannot write there: {denied} (else); {CHOOSE}"
    assert said(OSError("what a library says")) == f"cannot write there: what a library says; {CHOOSE}"
    assert said(OSError(errno.EFBIG, "large")) == (
        "cannot write there: large; raise the limit on the size of a file (ulimit -f), or choose another folder"
    )
    with durable.one_line_errors(Path("there")):
        pass
    with pytest.raises(ValueError), durable.one_line_errors(Path("there")):
        raise ValueError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_how_much_it_lacks(number, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    full = OSError(number, "full")
    assert said(full, 1000) == "cannot write there: full; make room for it, or choose another folder"
    assert said(full, 1001) == (
        "cannot write there: full; make room for 1 bytes more, as it takes 1001 bytes, or choose another folder"
    )

    def unknown(path):
        raise OSError

    monkeypatch.setattr(shutil, "disk_usage", unknown)
    assert said(full, sys.maxsize) == "cannot write there: full; make room for it, or choose another folder"


def test_room_is_asked_for_where_the_file_is_to_lie(monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=7))
    assert room._free(Path("no/such/file")) == 7
    Path("file").touch()
    assert room._free(Path("file/below")) == 7
    assert asked == [Path().absolute()] * 2


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (10 * 1024 - 1, "10239 bytes"),
        (10 * 1024, "10 KiB"),
        (10 * 1024 + 1, "11 KiB"),
        (10 * 2**20 - 1, "10240 KiB"),
        (10 * 2**20, "10 MiB"),
        (10 * 2**30, "10 GiB"),
        (10 * 2**30 + 1, "11 GiB"),
    ],
)
def test_bytes_are_rounded_up_to_two_digits_at_least(count, text):
    assert room._bytes(count) == text


def test_files_are_written_appended_to_and_replaced_whole():
    durable.write_bytes(Path("a"), b"one")
    durable.append_bytes(Path("a"), b" two")
    durable.append_bytes(Path("b"), b"three")
    assert (Path("a").read_bytes(), Path("b").read_bytes()) == (b"one two", b"three")
    durable.replace_file(Path("a"), b"four")
    assert Path("a").read_bytes() == b"four"
    assert durable.temporary_name(Path("x/a")) == Path(f"x/.a.{os.getpid()}.tmp")
    durable.temporary_name(Path("a")).write_bytes(b"litter of a process of the same number")
    durable.replace_file(Path("a"), b"five")
    assert names() == ["a", "b"]


def test_a_folder_takes_anothers_place_whole():
    for name in ("new", "old"):
        Path(name).mkdir()
        (Path(name) / name).touch()
    durable.replace_folder(Path("new"), Path("old"))
    assert (names(), names("old")) == (["old"], ["new"])
    durable.remove_folder(Path("old"))
    assert names() == []
    with pytest.raises(TzdError, match=r"^cannot write gone: No such file or directory; choose a folder"):
        durable.remove_folder(Path("gone"))


def test_litter_of_the_dead_goes_and_what_they_moved_aside_comes_back():
    for name in (".a.12.tmp", ".b.12.tmp", ".a.old", ".c.old", "c"):
        Path(name).mkdir()
    Path(".a.13.tmp").touch()
    with durable.held(Path(".b.12.tmp")) as free:
        assert free
        durable.clear_litter(Path(), "a")
        assert names() == [".b.12.tmp", ".c.old", "a", "c"]
        durable.clear_litter(Path())
        assert names() == [".b.12.tmp", "a", "c"]
    durable.clear_litter(Path())
    assert names() == ["a", "c"]


# --- the models that come with it ---------------------------------------------------------------------------------


def test_models_that_come_with_it_are_found_by_name(monkeypatch):
    for name in ("b", "a", "none"):
        Path("weights", name).mkdir(parents=True)
    for name in ("b", "a"):
        Path("weights", name, "config.json").touch()
    monkeypatch.setattr(shipped, "_FOLDERS", (Path("nowhere"), Path("weights")))
    assert list(shipped.shipped().items()) == [("a", Path("weights/a")), ("b", Path("weights/b"))]
    assert shipped.default_model() == Path("weights/a")
    assert (shipped.locate("b"), shipped.locate("c")) == (Path("weights/b"), Path("c"))
    assert shipped.meant("bb") == ", nor a model of tzd's own of that name (did you mean 'b'?)"
    assert shipped.meant("a") == shipped.meant("x/b") == ""
    Path("b").touch()
    assert shipped.locate("b") == Path("b")
    monkeypatch.setattr(shipped, "_FOLDERS", (Path("nowhere"),))
    assert (shipped.shipped(), shipped.meant("a"), shipped.locate("a")) == ({}, "", Path("a"))
    with pytest.raises(CheckpointError) as error:
        shipped.default_model()
    assert str(error.value) == "this copy of tzd comes without a model: name a checkpoint"
