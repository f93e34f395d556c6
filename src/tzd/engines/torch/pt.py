"""Tiny Diffusion's own file: a PyTorch state dict, read into NumPy. Nothing else that a pickle can hold is made."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from tzd.checkpoint.read import Checkpoint
from tzd.checkpoint.single_file import assemble
from tzd.errors import CheckpointError, first_line
from tzd.printable import printable

_FOLDER = 0x10  # among a zip's attributes of a file, as MS-DOS had it
NORM_EPS = float(np.finfo(np.float32).eps)  # what the original's norms use, whatever a file beside it says


def read_pt(path: Path, given: Mapping[str, int]) -> Checkpoint:
    """Reads a `.pt`.

    Args:
        path: the file.
        given: what the user says about it: n_head, block_size, context_len.

    Raises:
        CheckpointError: it is damaged, no state dict of tensors, or not one of Tiny Diffusion's.
    """
    arrays = read_arrays(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    return assemble(path, shapes, lambda: arrays, given, tables=False, norm_eps=NORM_EPS)


def read_arrays(path: Path, part: str | None = None) -> dict[str, np.ndarray]:
    """The tensors of a state dict as float32 arrays, by name.

    Args:
        path: a file of PyTorch's.
        part: the key under which the state dict may lie, instead of being all there is.

    Raises:
        CheckpointError: it is damaged, or no state dict of tensors.
    """
    try:
        _check_packing(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats of old, which are refused below or read all the same
            state = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(state, Mapping) and isinstance(state.get(part), Mapping):
            state = state[part]
        tensors = _tensors(path, state)
        return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:  # its message tells how to run the file all the same
        raise CheckpointError(
            f"{path} holds something other than tensors, which was not made: no state dict is in it that can be read"
        ) from error
    except Exception as error:  # whatever a damaged file makes the library raise
        reason = first_line(error)
        if "weights_only" in str(error) or "TorchScript" in str(error):  # advice to have the file run
            reason = "it is no file of tensors alone (TorchScript, or another program)"
        raise CheckpointError(f"{path} cannot be read: {printable(reason)}; get the file again") from error


def _check_packing(path: Path) -> None:
    """CheckpointError for a file that would become larger than it is, for PyTorch packs nothing, or that is damaged.

    PyTorch writes checksums and does not look at them.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if sum(member.file_size for member in file.infolist()) > path.stat().st_size:
                raise CheckpointError(f"{path} is packed, as PyTorch packs no file: save it again with torch.save")
            if (part := file.testzip()) is not None:
                raise CheckpointError(
                    f"{path} is damaged: {printable(part)} is not what its checksum says; get the file again"
                )
            folder = next((member.filename for member in file.infolist() if member.external_attr & _FOLDER), None)
            if folder is not None:  # PyTorch would take whatever is in memory for what is in it
                raise CheckpointError(
                    f"{path} is damaged: {printable(folder)} is marked as a folder; get the file again"
                )


def _tensors(path: Path, state: object) -> dict[str, torch.Tensor]:
    """The state dict, if it is one."""
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a state dict of tensors")
    for name, value in state.items():
        dense = isinstance(value, torch.Tensor) and value.layout == torch.strided
        if not isinstance(name, str) or not dense or not value.dtype.is_floating_point:
            kind = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
            raise CheckpointError(
                f"{path} is no state dict of tensors: it holds {printable(str(name))} as {kind}; save the model's own"
                " state_dict() alone"
            )
    size, held = path.stat().st_size, sum(value.nbytes for value in state.values())
    if held > 2 * size:  # a view can repeat one number without end; two names for one tensor are customary
        raise CheckpointError(
            f"{path} has {size} bytes and describes {held} bytes of tensors: it repeats what it holds; save clones"
        )
    return dict(state)
