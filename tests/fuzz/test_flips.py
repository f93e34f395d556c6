"""One bit flipped, anywhere in what a model is read from: it is noticed, or nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fuzz.mutators import write
from fuzz.weights import _run_files, _small_npz
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.corpus import load_tokenizer
from tzd.engines.formats import read_any
from tzd.engines.torch.pt import read_arrays
from tzd.errors import CheckpointError

SAMPLED = 97  # one bit of so many, where not all are tried: a prime, so that all places in a byte are met


def flips(folder: Path, every: int) -> Iterator[Path]:
    """Flips a bit of a file, then puts it right again and flips the next one."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for bit in range(0, 8 * len(whole), every):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            yield file
        file.write_bytes(whole)


def changed(folder: Path, every: int, read: Callable[[], Any]) -> tuple[dict[str, int], list[str]]:
    """How many flips of each file were refused, and those that were taken for something else than before."""
    before, noticed, wrong = read(), {}, []
    for number, file in enumerate(flips(folder, every)):
        noticed.setdefault(file.name, 0)
        try:
            if read() != before:
                wrong.append(f"{file.name}, flip {number}")
        except CheckpointError as error:
            assert str(folder) in str(error) and str(error).isprintable()
            noticed[file.name] += 1
    assert read() == before
    return noticed, wrong


def as_bytes(tree: Any) -> Any:
    """Arrays as what can be compared."""
    if isinstance(tree, np.ndarray):
        return tree.dtype.str, tree.shape, tree.tobytes()
    if isinstance(tree, dict):
        return {key: as_bytes(value) for key, value in tree.items()}
    return [as_bytes(value) for value in tree] if isinstance(tree, (list, tuple)) else repr(tree)


def read_run(folder: Path) -> Any:
    """What is sampled from a run, and what it is resumed with."""
    best, last = read_checkpoint(folder), RunFolder(folder).resolve("last")
    assert last is not None
    resumed = read_checkpoint(last)
    tokenizer = load_tokenizer(best.section("tokenizer"), best.folder)
    state = resumed.training_state()
    return as_bytes([best.config, best.weights, tokenizer.files(), last.name, resumed.config, resumed.weights, state])


def read_single(file: Path) -> Any:
    """The same of a single file; that it is another file is what its own checksum says."""
    checkpoint = read_any(file)
    config = {**checkpoint.config, "provenance": {**checkpoint.config["provenance"], "source_sha256": ""}}
    return as_bytes([config, checkpoint.weights])


@pytest.mark.parametrize("every", [SAMPLED, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit_of_a_run_is_noticed_or_changes_neither_what_is_sampled_nor_resumed(
    every: int, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    write(folder, _run_files()["run"])
    (folder / "step-00000003").mkdir()  # of another name by one bit
    for pointer in ("last", "best"):
        RunFolder(folder).point(pointer, 7)  # type: ignore[arg-type]
    noticed, wrong = changed(folder, every, lambda: read_run(folder))
    assert wrong == []
    for name in ("last", "best", "config.json", "model.safetensors", "training_state.json", "checksums.json"):
        assert noticed[name], name


@pytest.mark.parametrize("every", [SAMPLED, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit_of_a_single_file_of_weights_is_noticed_or_changes_nothing(every: int, tmp_path: Path) -> None:
    folder = tmp_path / "single"
    write(folder, _small_npz()["ours"])
    noticed, wrong = changed(folder, every, lambda: read_single(folder / "model.npz"))
    assert wrong == []
    assert noticed["model.npz"] and noticed["model.json"]


@pytest.mark.parametrize("every", [SAMPLED, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit_of_a_file_of_pytorchs_is_noticed_or_changes_nothing(every: int, tmp_path: Path) -> None:
    import torch

    file = tmp_path / "pt" / "weights.pt"
    file.parent.mkdir()
    torch.save({"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.float16)}, file)
    noticed, wrong = changed(file.parent, every, lambda: as_bytes(read_arrays(file)))
    assert wrong == []
    assert noticed["weights.pt"]


def test_a_tensor_that_is_marked_as_a_folder_is_no_tensor(tmp_path: Path) -> None:
    import torch

    file = tmp_path / "weights.pt"
    torch.save({"a": torch.arange(3.0)}, file)
    whole = bytearray(file.read_bytes())
    entry = whole.rindex(b"PK\1\2", 0, whole.rindex(b"weights/data/0"))
    whole[entry + 38] ^= 0x10
    file.write_bytes(whole)
    with pytest.raises(CheckpointError) as error:
        read_arrays(file)
    assert str(error.value) == f"{file} is damaged: weights/data/0 is marked as a folder; get the file again"
