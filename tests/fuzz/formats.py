"""Files of weights whose parts do not fit together, put together as only an enemy would."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from typing import Any

import numpy as np

from fuzz.mutators import NUMBERS, RUN, TEXTS, damaged, restructured

_DESCR = (
    "<f4",
    "<f2",
    ">f4",
    "<f8",
    "|O",
    "<i4",
    "<U9",
    "|V9",
    "V1000000000",
    "<f4,<f4",
    "<c8",
    "|b1",
    "<M8[s]",
    "<f16",
    "|S0",
)
_SHAPES = (
    (),
    (0,),
    (1,),
    (2**40,),
    (-1,),
    (-4, -4),
    (10**6, 10**6),
    (2**31, 0),
    (0, 2**62),
    (1,) * 40,
    (True,),
    ("a",),
    (1.5,),
    (2**63,),
    (10**30,),
    None,
)


class Trap:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (RUN,)


def safetensors(rng: random.Random, data: bytes) -> bytes:
    """A `.safetensors` whose header says something else than before."""
    (size,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + size], data[8 + size :]
    said = json.loads(header)
    if rng.random() < 0.6:
        entry = said[rng.choice([name for name in said if name != "__metadata__"])]
        end = len(body)
        match rng.randrange(5):
            case 0:
                entry["dtype"] = rng.choice(
                    ("F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "U8", "C64", "X", "", 4, None)
                )
            case 1:
                entry["shape"] = rng.choice(
                    ([], [0], [-1], [2**63], [10**6, 10**6], [2**32, 2**32], [1] * 99, "x", [0.5])
                )
            case 2:
                entry["data_offsets"] = rng.choice(([0, end], [end, 0], [-4, 0], [0, 2**63], [0], [0, end + 8], [4, 4]))
            case 3:
                said[rng.choice((*TEXTS, "__metadata__"))] = rng.choice((entry, {"a": 1}, {"a": "b"}, []))
            case _:
                entry |= {"dtype": "F32", "shape": [0, rng.choice((10**9, 2**62))], "data_offsets": [end, end]}
        header = json.dumps(said).encode("utf-8", "surrogatepass")
    else:
        header = restructured(rng, header)
    length = (
        len(header) if rng.random() < 0.85 else rng.choice((0, 1, 2**31, 2**63, 2**64 - 1, len(header) + len(body)))
    )
    return struct.pack("<Q", length) + header + body


def npz(rng: random.Random, data: bytes) -> bytes:
    """A `.npz` with members that are none, or not what they say."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(list(members))
        match rng.randrange(8):
            case 0:
                members[name] = _npy(rng, members[name])
            case 1:
                members[name] = damaged(rng, members[name])
            case 2:
                del members[name]
            case 3:
                members[rng.choice((*TEXTS[:12], "../../outside/escape.npy", name + ".npy", "/tmp/x.npy"))] = members[
                    name
                ]
            case 4:
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.array([Trap()], object), allow_pickle=True)
                members[name] = buffer.getvalue()
            case 5:
                members[name] = pickle.dumps(Trap())
            case 6:  # a bomb
                shape = rng.choice(((1 << 22,), (1 << 20, 4), (1 << 16, 8)))
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.zeros(shape, rng.choice((np.float32, np.uint8, np.int64))))
                members[name] = buffer.getvalue()
            case _:
                array = np.load(io.BytesIO(members[name])) if members[name][:1] == b"\x93" else np.zeros(2)
                buffer = io.BytesIO()
                odd = rng.choice((np.nan, np.inf, -1, 0, 2**40, 1e308))
                with np.errstate(all="ignore"):
                    np.save(buffer, np.full_like(array, odd, subok=False))
                members[name] = buffer.getvalue()
        if not members:
            break
    buffer = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(buffer, "w", packing) as file:
        for name, content in members.items():
            file.writestr(name, content)
    packed = bytearray(buffer.getvalue())
    if rng.random() < 0.3:  # sizes in the directory, which nothing holds against the file
        at = packed.rfind(b"PK\1\2")
        if at >= 0:
            packed[at + 24 : at + 28] = rng.choice((0, 1, 2**31, 2**32 - 1)).to_bytes(4, "little")
    return bytes(packed)


def _npy(rng: random.Random, data: bytes) -> bytes:
    """NumPy's own file with another header."""
    shape = rng.choice(_SHAPES)
    said = {"descr": rng.choice(_DESCR), "fortran_order": rng.choice((True, False, 3)), "shape": shape}
    header = rng.choice(
        (repr(said), repr(said)[:-3], RUN, "[" * 3000, "{" + "'a':" * 50, "0" * 9000, repr({**said, "x": 1}))
    )
    text = header.encode() + b"\n"
    size = len(text) if rng.random() < 0.9 else rng.choice((0, 65535))
    version = rng.choice((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\x09\0"))
    return b"\x93NUMPY" + version + size.to_bytes(2, "little") + text + data[-64:]


def pt(rng: random.Random, data: bytes) -> bytes:
    """A `.pt` that holds something else, or whose tensors are not what they say."""
    import torch

    state = torch.load(io.BytesIO(data), weights_only=True)
    name = rng.choice(list(state))
    match rng.randrange(12):
        case 0:
            state[name] = rng.choice(
                (Trap(), [1], None, 3, torch.zeros(2).to_sparse(), torch.zeros(2, dtype=torch.int8))
            )
        case 1:
            state[rng.choice((*TEXTS[:12], 3, None, ("a",), True))] = state[name]
        case 2:  # of one number, a matrix of any size
            shape = rng.choice(((10**5, 10**5), (2**40,), tuple(state[name].shape)))
            state[name] = torch.zeros(1).expand(shape)
        case 3:
            state = {key: torch.zeros(1).expand([2000 * size for size in value.shape]) for key, value in state.items()}
        case 4:
            state[name] = state[name].to(
                rng.choice((torch.float64, torch.bfloat16, torch.complex64, torch.float8_e4m3fn))
            )
        case 5:
            state[name] = torch.full_like(state[name], rng.choice((float("nan"), float("inf"), 1e38)))
        case 6:
            del state[name]
        case 7:
            state[name] = state[name].reshape(-1)[: rng.choice((0, 1, 3))]
        case 8:
            return pickle.dumps(rng.choice((Trap(), {name: Trap()}, state[name].numpy(), [1])))
        case 9:
            state = rng.choice(([state], {"model": state}, state[name], {}, Trap()))
        case 10:
            buffer = io.BytesIO(data)
            members = {}
            with zipfile.ZipFile(buffer) as file:
                members = {member: file.read(member) for member in file.namelist()}
            chosen = rng.choice(list(members))
            members[chosen] = (
                _pickled(rng, members[chosen]) if chosen.endswith(".pkl") else damaged(rng, members[chosen])
            )
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
                for member, content in members.items():
                    file.writestr(member, content)
            return buffer.getvalue()
        case _:
            state[name] = state[name] * 1.0
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=rng.random() < 0.8)
    return buffer.getvalue()


def _pickled(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return damaged(rng, data)
    number = rng.choice(NUMBERS)
    return rng.choice(
        (
            pickle.dumps(Trap()),
            pickle.dumps(number),
            b"cos\nsystem\n(S'touch ../outside/sprung'\ntR.",
            b"\x80\x02" + b"(" * 9999,
            b"\x80\x02]q\0(h\0h\0e.",
            b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
            data.replace(b"FloatStorage", b"_system_cmd_"),
        ),
    )
