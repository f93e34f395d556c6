"""What an `.npz` is read as, and refused with, word by word."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tzd.checkpoint import npz
from tzd.errors import CheckpointError

FILE = Path("m.npz")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(array, version=(1, 0)):
    data = io.BytesIO()
    np.lib.format.write_array(data, np.asarray(array), version=version, allow_pickle=True)
    return data.getvalue()


def zipped(*members, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(FILE, "w", kind) as file:
        for name, data in members:
            file.writestr(name, data)


def test_arrays_are_read_as_float32_by_their_names():
    arrays = {"a": np.arange(6, dtype=np.float16).reshape(2, 3), "b.npy.c": np.array(2.5), "d": np.zeros((0, 4), "f")}
    for save in (np.savez, np.savez_compressed):
        save(FILE, **arrays)
        assert npz.read_shapes(FILE) == {"a": (2, 3), "b.npy.c": (), "d": (0, 4)}
        assert npz.read_headers(FILE)["a"] == ((2, 3), np.float16)
        read = npz.read_arrays(FILE)
        assert read.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array.astype(np.float32))
            assert read[name].dtype == np.float32
            assert npz.read_exact(FILE)[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.npy", saved([1]))], "m.npz holds a as int64; weights are floating-point numbers"),
        ([("a.npy", saved([True]))], "m.npz holds a as bool; weights are floating-point numbers"),
        ([("b\x1b.npy", saved([1j]))], "m.npz holds b␛ as complex128; weights are floating-point numbers"),
        ([("a.npy", saved([0.5])), ("a", saved([0.5]))], "m.npz holds a twice; get the file again"),
        ([("a.npy", saved([0.5], (2, 0)))], "m.npz holds a in a format of NumPy's that is not read"),
        ([("a.npy", saved([None]))], "m.npz cannot be read: it holds Python objects, which are never unpickled"),
        ([("a.npy", saved([0.5]) + b"x")], "m.npz is damaged: a is not as long as it says"),
        ([("a.npy", saved([0.5])[:-1])], "m.npz is damaged: a is not as long as it says"),
    ],
)
def test_arrays_that_are_no_weights_are_refused_in_these_words(members, message):
    zipped(*members)
    with pytest.raises(CheckpointError) as error:
        npz.read_shapes(FILE)
    assert str(error.value) == message


def test_a_file_that_is_no_zip_or_packed_otherwise_is_refused_in_these_words():
    def refusal():
        with pytest.raises(CheckpointError) as error:
            npz.read_shapes(FILE)
        return str(error.value)

    FILE.write_bytes(b"PK but no more")
    assert refusal() == "m.npz is no .npz file, or was cut short; get the file again"
    zipped(("a.npy", saved([0.5])), kind=zipfile.ZIP_BZIP2)
    assert refusal() == "m.npz holds a packed in a way that is not read"
    zipped(("a.npy", b"not NumPy's"))
    assert refusal().startswith("m.npz cannot be read: ") and refusal().endswith("; get the file again")
    with pytest.raises(CheckpointError, match=r"^m\.npz cannot be read: .+; get the file again$"):
        npz.read_exact(FILE)


def test_what_unpacks_to_more_than_weights_can_is_refused_and_what_unpacks_to_less_is_not(monkeypatch):
    np.savez_compressed(FILE, a=np.zeros(5000))
    assert npz.read_shapes(FILE) == {"a": (5000,)}  # small enough, however dense
    size = FILE.stat().st_size
    monkeypatch.setattr(npz, "_ROOM", 40000 - npz._DENSE * size)
    assert npz.read_shapes(FILE) == {"a": (5000,)}
    monkeypatch.setattr(npz, "_ROOM", 39999 - npz._DENSE * size)
    with pytest.raises(CheckpointError) as error:
        npz.read_shapes(FILE)
    assert str(error.value) == f"m.npz has {size} bytes and unpacks to 40000: weights cannot be packed so small"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (20, "m.npz is damaged: it is shorter than its parts; get the file again"),
        (24, "m.npz is damaged: a is not as long as it says"),
    ],
    ids=["packed", "unpacked"],
)
def test_a_zip_that_tells_of_more_than_it_holds_is_refused_in_these_words(field, message):
    zipped(("a.npy", saved(np.zeros(3))))
    data = bytearray(FILE.read_bytes())
    place = data.index(b"PK\x01\x02") + field
    data[place : place + 4] = (len(data) + 1).to_bytes(4, "little")
    FILE.write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        npz.read_shapes(FILE)
    assert str(error.value) == message
