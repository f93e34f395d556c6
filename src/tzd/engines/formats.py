"""Weights of every format that is read, whichever engine is to compute with them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from tzd.checkpoint.layout import CHECKSUMS, WEIGHTS
from tzd.checkpoint.litgpt import LIT_MODEL
from tzd.checkpoint.npz import NPZ
from tzd.checkpoint.read import Checkpoint, check_finite, check_sizes, read_checkpoint
from tzd.checkpoint.shipped import locate
from tzd.checkpoint.single_file import read_npz
from tzd.checkpoint.smdm import SAFETENSORS, read_smdm
from tzd.errors import CheckpointError, TzdError, UserError
from tzd.hub import hub_model

SINGLE = (NPZ, ".pt", ".pth", SAFETENSORS)  # endings of single files
_OURS = (CHECKSUMS, WEIGHTS, "best", "last")  # names that make a folder a checkpoint or a run


def read_any(
    path: str | Path, *, n_head: int | None = None, block_size: int | None = None, context_len: int | None = None
) -> Checkpoint:
    """Reads a checkpoint of any format.

    Args:
        path: a run folder (its best checkpoint), a checkpoint folder, the `model.safetensors` in one, a `.npz` or `.pt`
            file of Tiny Diffusion's, a `.safetensors` of SMDM's, a `lit_model.pth` of LitGPT's, or a folder that holds
            exactly one such file; or the name of a model that comes with tzd.
        n_head: attention heads, which a `.pt` file does not say, and a `.safetensors` if it is of no published size.
        block_size: length of the window, which they do not say either.
        context_len: length of the prefix that training never masked; no single file says it.

    Returns:
        The checkpoint, with canonical names; its provenance names a single file and its checksum.

    Raises:
        CheckpointError: there is none, or it is damaged, of another architecture, or says too little.
        UserError: a checkpoint that says everything itself was given one of these numbers.
        TzdError: PyTorch, which reads `.pt`, is not installed.
    """
    if (name := hub_model(path)) is not None:
        raise UserError(
            f"{name} is a model of the hub: it writes and is scored as it is (tzd sample, tzd eval), but it cannot be"
            " converted, nor trained from"
        )
    path = _find(locate(path))
    numbers = {"n_head": n_head, "block_size": block_size, "context_len": context_len}
    given = {name: value for name, value in numbers.items() if value is not None}
    checkpoint = _read(path, given)
    check_sizes(checkpoint)
    check_finite(checkpoint)
    return checkpoint


def _read(path: Path, given: Mapping[str, int]) -> Checkpoint:
    ending = path.suffix.lower()
    if ending == NPZ and path.is_file():
        return read_npz(path, given)
    if ending == SAFETENSORS and path.name != WEIGHTS and path.is_file():
        return read_smdm(path, given)
    if path.name == LIT_MODEL and path.is_file():
        return _read_by_torch("lit_model", path, given)
    if ending in (".pt", ".pth") and path.is_file():
        return _read_by_torch("pt", path, given)
    checkpoint = read_checkpoint(path)
    if given:
        raise UserError(f"{path} is a tzd checkpoint and says everything itself: leave out {', '.join(given)}")
    return checkpoint


def _find(path: Path) -> Path:
    """The single file in a folder that holds one; else the path itself. LitGPT's may lie beside what it is made of."""
    if (path / LIT_MODEL).is_file():
        return path / LIT_MODEL
    if not path.is_dir() or any((path / name).exists() for name in _OURS):
        return path
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SINGLE and file.is_file())
    if len(files) > 1:
        raise CheckpointError(f"{path} holds {files[0].name} and {files[1].name}: give the one that you mean")
    return files[0] if files else path


def _read_by_torch(module: str, path: Path, given: Mapping[str, int]) -> Checkpoint:
    """Calls read_MODULE of the torch engine's module of that name."""
    try:
        reader = import_module(f"tzd.engines.torch.{module}")  # by name: no other engine needs PyTorch to be there
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise TzdError(f"reading {path} needs PyTorch, which is not here: pip install torch") from error
    checkpoint: Checkpoint = getattr(reader, f"read_{module}")(path, given)
    return checkpoint
