"""Weights stored in eight bits: what comes back, and what is no such file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load_file, save_file

import tzd
from tzd.checkpoint import read_checkpoint, write_checkpoint
from tzd.checkpoint.eight_bits import from_eight_bits, to_eight_bits
from tzd.errors import CheckpointError, UserError

FILE = Path("model.safetensors")
MODERATE = st.floats(-1e6, 1e6, width=32)


def back(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return from_eight_bits(to_eight_bits(weights), FILE)


def test_numbers_that_eight_bits_hold_come_back_exactly():
    matrix = np.float32([[127, -127, 3], [0, 0, 0], [63.5, -0.5, 1.0]])
    stored = to_eight_bits({"w": matrix, "norm": np.float32([1.1, 2.2])})
    assert stored["w"].dtype == np.int8 and stored["w"].tolist() == [[127, -127, 3], [0, 0, 0], [127, -1, 2]]
    assert stored["w.scale"].tolist() == [1.0, 0.0, 0.5]
    returned = from_eight_bits(stored, FILE)
    assert np.array_equal(returned["w"], matrix) and np.array_equal(returned["norm"], np.float32([1.1, 2.2]))
    assert returned.keys() == {"w", "norm"}


@given(arrays_of.arrays(np.float32, arrays_of.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=MODERATE))
def test_no_number_is_off_by_more_than_half_a_127th_of_its_rows_largest(matrix: np.ndarray):
    error = np.abs(back({"w": matrix})["w"] - matrix)
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    assert (error <= largest * (0.501 / 127) + 1e-42).all()


def test_a_model_that_was_stored_so_is_stored_alike_again():
    weights = {"w": np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)}
    once = back(weights)
    assert np.array_equal(to_eight_bits(once)["w"], to_eight_bits(weights)["w"])


def test_vectors_and_empty_matrices_stay_as_they_are():
    weights = {"v": np.float32([1, 2]), "none": np.zeros((0, 3), np.float32), "scalar": np.float32(3)[()]}
    stored = to_eight_bits({name: np.asarray(array) for name, array in weights.items()})
    assert stored.keys() == weights.keys() and all(array.dtype == np.float32 for array in stored.values())


def replace(folder: Path, change: dict[str, np.ndarray | None]) -> None:
    """Other arrays in a checkpoint, or none where there was one, and the checksum that goes with them."""
    arrays = {**load_file(folder / FILE), **change}
    save_file({name: array for name, array in arrays.items() if array is not None}, folder / FILE)
    sums = json.loads((folder / "checksums.json").read_text())
    sums[FILE.name] = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(sums))


@pytest.mark.parametrize(
    "change",
    [
        {"w.scale": None},
        {"w.scale": np.ones(2, np.float32)},
        {"w.scale": np.ones((3, 1), np.float32)},
        {"w.scale": np.ones(3, np.float64)},
        {"w.scale": np.ones(3, np.int8), "w.scale.scale": np.ones(3, np.float32)},
        {"w": np.ones((3, 2, 1), np.int8)},
        {"w": np.ones(3, np.int8)},
    ],
)
def test_eight_bits_without_their_scales_are_refused_by_name(change: dict, tmp_path: Path):
    folder = write_checkpoint(tmp_path / "c", config={}, weights={"w": np.ones((3, 2), np.float32)}, dtype="int8")
    replace(folder, change)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(folder)
    assert str(error.value).startswith(f"{folder / FILE} holds w")
    assert (
        "holds w in eight bits without a float32 scale for each of its rows (w.scale); get the checkpoint again"
    ) in str(error.value) and "\n" not in str(error.value)


def test_a_scale_that_is_not_finite_is_found_when_the_model_is_loaded(tmp_path: Path):
    folder = tzd.convert("shakespeare-small", tmp_path / "c", dtype="int8")
    name = next(name for name in load_file(folder / FILE) if name.endswith(".scale"))
    replace(folder, {name: np.full_like(load_file(folder / FILE)[name], np.inf)})
    with pytest.raises(CheckpointError, match="not finite"):
        tzd.load(folder)


def test_a_model_stored_again_is_the_same_in_a_quarter_of_the_size(tmp_path: Path):
    large = read_checkpoint(tzd.convert("shakespeare-small", tmp_path / "large"))
    small = read_checkpoint(tzd.convert(tmp_path / "large", tmp_path / "small", dtype="int8"))
    assert small.config == large.config and small.training_state() is None
    for name, weight in large.weights.items():
        np.testing.assert_allclose(small.weights[name], weight, rtol=1e-6)
    sizes = [(checkpoint.folder / FILE).stat().st_size for checkpoint in (small, large)]
    assert sizes[0] < 0.26 * sizes[1]


@pytest.mark.parametrize(
    ("destination", "dtype", "message"),
    [
        ("c.npz", "int8", "a .npz file is float32; name a folder instead"),
        ("c", "int9", "weights cannot be stored as 'int9' (did you mean 'int8'?)"),
    ],
)
def test_a_dtype_that_cannot_be_is_one_line(destination: str, dtype: str, message: str, tmp_path: Path):
    with pytest.raises(UserError) as error:
        tzd.convert("shakespeare-small", tmp_path / destination, dtype=dtype)
    assert message in str(error.value) and not list(tmp_path.iterdir())


def test_what_is_read_is_number_times_scale_in_float32(tmp_path: Path):
    folder = write_checkpoint(tmp_path, config={}, weights={"w": np.float32([[1, -3], [8, 2]])}, dtype="int8")
    stored, read = load_file(folder / FILE), read_checkpoint(folder).weights
    assert read["w"].dtype == np.float32 and read.keys() == {"w"}
    assert np.array_equal(read["w"], stored["w"] * stored["w.scale"][:, None])
