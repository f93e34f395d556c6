"""Checkpoints: what is written is read back exactly, and anything else is noticed and said in one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tzd.checkpoint import check_weights, durable, read_checkpoint, write_checkpoint
from tzd.checkpoint.tree import flatten, unflatten
from tzd.errors import CheckpointError, TzdError, UserError

CONFIG = {"model": {"model_type": "tiny", "n_layer": 2}, "step": 7}
WEIGHTS = {"embedding": np.arange(12, dtype=np.float32).reshape(4, 3), "head": np.float32([[1.5, -2.0]])}
STATE = {"step": 7, "moments": {0: np.linspace(0, 1, 5), 1: np.arange(3)}, "ema": (None, True, 0.1)}
FILES = [
    "checksums.json",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "training_state.json",
    "training_state.safetensors",
]


def write(folder: Path, step: int = 7) -> Path:
    return write_checkpoint(
        folder,
        config={**CONFIG, "step": step},
        weights=WEIGHTS,
        files={"tokenizer.json": b'{"name": "char"}'},
        training_state=STATE,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_all(path: Path):
    checkpoint = read_checkpoint(path)
    checkpoint.training_state()
    return checkpoint


def refusal(path: Path) -> str:
    """The one line with which reading fails."""
    with pytest.raises(CheckpointError) as error:
        read_all(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "checkpoint")


# --- what comes back --------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was_written(folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    assert checkpoint.folder == folder
    assert checkpoint.config == {**CONFIG, "format": "tzd", "format_version": 1}
    assert checkpoint.weights.keys() == WEIGHTS.keys()
    for name, weight in checkpoint.weights.items():
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, WEIGHTS[name])
    assert same(checkpoint.training_state(), STATE)
    assert (folder / "tokenizer.json").read_bytes() == b'{"name": "char"}'
    assert names(folder) == FILES


def test_the_same_checkpoint_is_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again")
    for name in FILES:
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_weights_are_stored_as_float32_whatever_they_were(tmp_path: Path) -> None:
    weights = {"a": np.array([[1.0, 2.0], [3.0, 4.0]]).T, "b": np.array(3, dtype=np.float16)}
    read = read_checkpoint(write_checkpoint(tmp_path / "c", config={}, weights=weights)).weights
    np.testing.assert_array_equal(read["a"], np.float32([[1, 3], [2, 4]]))
    assert read["b"].shape == ()
    assert read["b"].dtype == np.float32


def test_a_checkpoint_without_training_state_says_none(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", config=CONFIG, weights=WEIGHTS)
    assert names(folder) == ["checksums.json", "config.json", "model.safetensors"]
    assert read_checkpoint(folder).training_state() is None


def test_the_weights_file_stands_for_its_checkpoint(folder: Path) -> None:
    assert read_checkpoint(folder / "model.safetensors").folder == folder


def test_files_of_others_are_ignored(folder: Path) -> None:
    (folder / "README.md").write_text("a model card")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    assert read_all(folder).config["step"] == 7


def test_all_files_can_be_read_by_whom_the_umask_lets(folder: Path) -> None:
    assert len({(folder / name).stat().st_mode for name in FILES}) == 1


def same(a, b) -> bool:
    """Equal in value, type, dtype, shape and order, NaN and signed zeros included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        pairs = zip(a.items(), b.items(), strict=True) if len(a) == len(b) else [(0, 1)]
        return all(same(x, y) for x, y in pairs)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return repr(a) == repr(b)


DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64"]
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0)))
SCALARS = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays_of.arrays(dtype, ())).map(lambda a: a[()])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | ARRAYS | SCALARS
TREES = st.recursive(
    LEAVES,
    lambda tree: (
        st.lists(tree) | st.lists(tree).map(tuple) | st.dictionaries(st.integers() | st.text(), tree, max_size=4)
    ),
    max_leaves=12,
)


@given(TREES)
def test_every_training_state_survives_json_and_arrays_exactly(tree) -> None:
    data, arrays = flatten(tree)
    assert same(unflatten(json.loads(json.dumps(data, allow_nan=False)), arrays), tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"dict": [[1, 2]], "array": "0", "float": "nan"},
        {1: "int", "1": "text"},
        (float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 2**70),
        {"empty": [(), [], {}, np.zeros((0, 3))], "transposed": np.arange(6).reshape(2, 3).T},
        None,
    ],
)
def test_these_training_states_survive_the_disk_exactly(tree, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", config={}, weights={}, training_state={"": tree})
    assert same(read_checkpoint(folder).training_state(), {"": tree})


@pytest.mark.parametrize(
    "leaf", [object(), {1.5: 1}, {1, 2}, b"bytes", np.array(["text"]), np.array([object()]), 1j, np.complex64(1)]
)
def test_what_a_training_state_cannot_hold_is_a_type_error_and_writes_nothing(leaf, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a training state cannot hold"):
        write_checkpoint(tmp_path / "c", config={}, weights={}, training_state=[leaf])
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["config.json", "checksums.json", "model.safetensors", "../escape", "a/b", ""])
def test_a_further_file_cannot_take_our_names_or_leave_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot hold a further file"):
        write_checkpoint(tmp_path / "c", config={}, weights={}, files={name: b""})
    assert names(tmp_path) == []


# --- damage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_noticed_wherever_it_is(name: str, folder: Path) -> None:
    file = folder / name
    whole = file.read_bytes()
    places = np.unique(np.linspace(0, 8 * len(whole) - 1, 240).astype(int))
    for bit in places:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(flipped)
        refusal(folder)
    file.write_bytes(whole)
    read_all(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_noticed_and_named(name: str, folder: Path) -> None:
    whole = (folder / name).read_bytes()
    for length in (0, 1, 8, len(whole) // 2, len(whole) - 2):
        (folder / name).write_bytes(whole[:length])
        assert name in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert refusal(folder) == f"{folder / name} is missing; get the checkpoint again"


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_no_stack_trace(name: str, folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert name in refusal(folder)


def tamper(folder: Path, name: str, data: bytes) -> None:
    """Changes a file and makes the checksums agree, as somebody hostile would."""
    (folder / name).write_bytes(data)
    checksums = json.loads((folder / "checksums.json").read_bytes())
    checksums[name] = hashlib.sha256(data).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(checksums))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a": {}}',
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}'.ljust(60) + b"1234",
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}'.ljust(60) + b"1234",
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"XXX","shape":[1],"data_offsets":[0,4]}}'.ljust(60) + b"1234",
    ],
)
def test_a_hostile_weights_file_is_refused(data: bytes, folder: Path) -> None:
    tamper(folder, "model.safetensors", data)
    assert "model.safetensors" in refusal(folder)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"dict": 1}',
        b'{"dict": [[[], 1]]}',
        b'{"array": "no such"}',
        b'{"array": []}',
        b'{"unknown": 1}',
        b"{}",
        b'{"tuple": 1}',
        b'{"float": []}',
        b'{"a": 1, "b": 2}',
        b"9" * 5000,
    ],
)
def test_a_hostile_training_state_is_refused(data: bytes, folder: Path) -> None:
    tamper(folder, "training_state.json", data)
    assert "training_state.json" in refusal(folder)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000, b"{}", b'{"format": "other"}'])
@pytest.mark.parametrize("name", ["config.json", "checksums.json"])
def test_hostile_json_is_refused(name: str, data: bytes, folder: Path) -> None:
    (folder / name).write_bytes(data)
    refusal(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", ""])
def test_checksums_cannot_name_files_outside(name: str, folder: Path) -> None:
    checksums = json.loads((folder / "checksums.json").read_bytes())
    (folder / "checksums.json").write_text(json.dumps({**checksums, name: "0"}))
    assert "which is not a file of this folder" in refusal(folder)


def test_a_newer_format_tells_to_upgrade(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    tamper(folder, "config.json", json.dumps({**config, "format_version": 2}).encode())
    assert refusal(folder) == (
        f"{folder / 'config.json'} has format 2, and this version of tzd reads up to 1: upgrade tzd"
    )


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None])
def test_a_format_version_that_is_none_is_refused(version, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    tamper(folder, "config.json", json.dumps({**config, "format_version": version}).encode())
    assert "does not describe a tzd checkpoint" in refusal(folder)


def test_a_place_without_a_checkpoint_says_what_was_looked_for(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == f"there is no checkpoint at {tmp_path / 'none'}: no such file or folder"
    message = refusal(tmp_path)
    assert "config.json" in message
    assert "'best' or 'last'" in message
    (tmp_path / "weights.bin").write_bytes(b"x")
    assert "model.safetensors" in refusal(tmp_path / "weights.bin")


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b"])
def test_an_impossible_path_is_no_stack_trace(path: str) -> None:
    refusal(Path(path))


def test_weights_that_do_not_fit_are_named() -> None:
    weights = {"a": np.zeros((2, 3)), "b": np.zeros(4), "z": np.zeros(1)}
    check_weights(weights, {"a": (2, 3), "b": (4,), "z": (1,)}, Path("c"))
    with pytest.raises(CheckpointError) as error:
        check_weights(weights, {"a": (2, 3), "b": (5,), **{f"m{i}": (1,) for i in range(5)}}, Path("c"))
    assert str(error.value) == (
        "c does not fit the model that its config.json describes: 5 missing (m0, m1, m2, ...); 1 unexpected (z); "
        "1 of another shape (b (4,) instead of (5,))"
    )


# --- writing that fails -----------------------------------------------------------------------------------------


def test_a_checkpoint_is_replaced_whole(folder: Path) -> None:
    write_checkpoint(folder, config={"step": 8}, weights=WEIGHTS)
    assert read_checkpoint(folder).config["step"] == 8
    assert read_checkpoint(folder).training_state() is None
    assert names(folder.parent) == ["checkpoint"]


def test_what_is_no_checkpoint_of_ours_is_never_replaced(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("a model card")
    with pytest.raises(
        UserError, match=(r"exists and holds README\.md, which replacing it would " "delete: choose another folder")
    ):
        write(folder)
    assert (folder / "README.md").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file; a checkpoint is a folder: choose another name"):
        write(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert read_all(write(tmp_path / "empty")).config["step"] == 7


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        TzdError, match=r"^cannot write .*File exists \(.*file\); choose a folder that is there"
    ) as error:
        write(tmp_path / "file" / "checkpoint")
    assert error.value.exit_code == 1
    assert names(tmp_path) == ["file"]


def test_a_disk_that_fills_at_any_moment_leaves_the_old_checkpoint_and_no_litter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing_at(n: int, function):
        calls = iter(range(1000))

        def call(*args, **kwargs):
            if next(calls) == n:
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(*args, **kwargs)

        return call

    for module, name in ((os, "fsync"), (Path, "rename"), (Path, "mkdir"), (Path, "open"), (shutil, "copymode")):
        for n in range(100):
            with monkeypatch.context() as patch:
                patch.setattr(module, name, failing_at(n, getattr(module, name)))
                try:
                    write(folder, step=8)
                except TzdError as error:
                    assert str(error).startswith(f"cannot write {folder}: No space left on device")
                else:
                    break
            assert read_all(folder).config["step"] == 7
            assert names(folder.parent) == ["checkpoint"]
        assert n > 0
        assert read_all(write(folder)).config["step"] == 7


def test_the_reason_of_a_failure_inside_safetensors_is_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.numpy

    save = safetensors.numpy.save_file
    monkeypatch.setattr(safetensors.numpy, "save_file", lambda arrays, path: save(arrays, path / "none"))
    below = r"cannot write .*checkpoint: (Not a|No such file or) directory; choose a folder"
    with pytest.raises(TzdError, match=below):
        write(folder, step=8)
    assert read_all(folder).config["step"] == 7
    assert names(folder.parent) == ["checkpoint"]


KILLS = """
import os, sys
from pathlib import Path
import numpy as np
from tzd.checkpoint import read_checkpoint, write_checkpoint
from tzd.checkpoint.durable import clear_litter

folder = Path(sys.argv[1])
def write(step):
    write_checkpoint(folder, config={"step": step}, weights={"w": np.full(3, step)}, training_state={"step": step})
write(0)
died = 0
for n in range(1000):
    child = os.fork()
    if child == 0:
        events = iter(range(10**9))
        sys.addaudithook(lambda event, args: os._exit(9) if next(events) == n else None)
        write(n + 1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    clear_litter(folder.parent)
    step = read_checkpoint(folder).config["step"]
    assert read_checkpoint(folder).training_state() == {"step": step}, n
    assert step in (n, n + 1), (n, step)
    assert os.listdir(folder.parent) == [folder.name], (n, os.listdir(folder.parent))
    if status == 0:
        assert step == n + 1
        break
    died += 1
    write(n + 1)
print(died)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "checkpoint")],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30  # every opening, renaming and removing was a moment to die


def test_what_a_dead_writer_left_is_cleared_and_what_a_living_one_makes_is_not(folder: Path) -> None:
    parent = folder.parent
    for name in (".checkpoint.1.tmp", ".checkpoint.2.tmp", ".other.1.tmp"):
        (parent / name).mkdir()
    (parent / ".notes.tmp").write_text("mine")
    with durable.held(parent / ".checkpoint.2.tmp") as free:
        assert free
        write(folder, step=8)
    assert names(parent) == [".checkpoint.2.tmp", ".notes.tmp", ".other.1.tmp", "checkpoint"]


def test_a_folder_that_a_dead_writer_moved_aside_is_put_back(folder: Path) -> None:
    folder.rename(folder.parent / ".checkpoint.old")
    durable.clear_litter(folder.parent)
    assert read_all(folder).config["step"] == 7
    assert names(folder.parent) == ["checkpoint"]
