"""Checkpoints of one format to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tzd.api.model import read_sampling
from tzd.api.numbers import whole
from tzd.checkpoint import write_checkpoint, write_npz
from tzd.checkpoint.npz import NPZ
from tzd.checkpoint.write import DTYPES
from tzd.corpus import load_tokenizer
from tzd.engines.formats import read_any
from tzd.errors import UserError, nearest

_LARGEST = 2**20  # of what is said about a file: heads, tokens of a window
_WHERE_IT_LAY = ("save_dir", "run_folder", "resume", "export_to")  # of a run's settings
OTHERS_WEIGHTS = (".npz", ".pt", ".pth", ".safetensors", ".ckpt")  # endings of files; a checkpoint is a folder


def convert(
    source: str | Path,
    destination: str | Path,
    n_head: int | None = None,
    block_size: int | None = None,
    context_len: int | None = None,
    dtype: str = "float32",
    sampling: Mapping[str, Any] | None = None,
) -> Path:
    """Writes what `source` holds in another format, without the state that training could resume from.

    What is said of the training goes with it, but for where the run lay and for paths of the machine that trained it.

    Args:
        source: what `load` takes.
        destination: a folder that does not exist yet, for a tzd checkpoint; or `NAME.npz`, for the single file of Tiny
            Diffusion's MLX port, beside which `NAME.json` is written.
        n_head: attention heads, which a `.pt` file does not say.
        block_size: length of the window, which it does not say either; 256 if nothing says it.
        context_len: length of the prefix that training never masked, which no single file says; 64, or 0 where the
            window is no longer than that, if nothing says it.
        dtype: of the weights in a checkpoint: "float32", or "int8": a quarter of the size, each row of a matrix as
            whole numbers from -127 to 127 and a scale.
        sampling: how the model is best sampled, as a checkpoint says it to whoever names no sampler: a sampler's `name`
            and settings of it. What the source says if None.

    Raises:
        CheckpointError: there is nothing to read, or it is damaged or contradicts what is said.
        UserError: the destination exists, the model cannot be written there, or not in this dtype.
    """
    numbers = {"n_head": n_head, "block_size": block_size, "context_len": context_len}
    return converted(source, destination, dtype=dtype, sampling=sampling, **numbers)[0]


def converted(
    source: str | Path,
    destination: str | Path,
    *,
    dtype: str = "float32",
    sampling: Mapping[str, Any] | None = None,
    **given: int | None,
) -> tuple[Path, str | None]:
    """Like `convert`. Returns also a line on who can read a `.npz`; None for a folder."""
    destination = Path(destination)
    given = {name: _number(name, value) for name, value in given.items()}
    if destination.name.lower() in OTHERS_WEIGHTS:
        raise UserError(f"cannot write {destination}: it is an ending without a name; call it NAME{NPZ}, or a folder")
    if destination.suffix != NPZ and destination.suffix.lower() in OTHERS_WEIGHTS:
        raise UserError(
            f"cannot write {destination}: a tzd checkpoint is a folder, and the only other format written is {NPZ}; "
            f"name one without '{destination.suffix}'"
        )
    if dtype not in DTYPES:
        raise UserError(f"weights cannot be stored as '{dtype}'{nearest(dtype, DTYPES)}")
    if destination.suffix == NPZ and dtype != "float32":
        raise UserError(f"cannot write {destination} as {dtype}: a {NPZ} file is float32; name a folder instead")
    if destination.suffix == NPZ and sampling is not None:
        raise UserError(f"a {NPZ} file cannot say how it is sampled: name a folder instead, or leave out sampling")
    said = {} if sampling is None else {"sampling": dict(sampling)}
    read_sampling(said, "sampling")
    beside = [destination.with_suffix(".json")] if destination.suffix == NPZ else []
    for path in (destination, *beside):
        if path.exists():
            raise UserError(f"{path} exists already: choose another name")
    checkpoint = read_any(source, **given)
    checkpoint = replace(checkpoint, config=_without_places(checkpoint.config))
    if beside:
        return destination, write_npz(destination, checkpoint)
    described = checkpoint.section("tokenizer")
    files = load_tokenizer(described, checkpoint.folder).files() if described else {}
    written = write_checkpoint(
        destination, config={**checkpoint.config, **said}, weights=checkpoint.weights, files=files, dtype=dtype
    )
    return written, None


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says, without what names a place of the machine that trained it."""
    run = config.get("provenance", {}).get("run")
    if not isinstance(run, Mapping):
        return dict(config)
    return {**config, "provenance": {**config["provenance"], "run": {name: _kept(said) for name, said in run.items()}}}


def _kept(settings: Any) -> Any:
    if not isinstance(settings, Mapping):
        return settings
    return {name: value for name, value in settings.items() if name not in _WHERE_IT_LAY and not _is_place(value)}


def _is_place(value: Any) -> bool:
    """Whether it is a path, or several with commas between them, that means something on one machine alone."""
    paths = [part.strip() for part in value.split(",")] if isinstance(value, str) else []
    return any(
        path.startswith(("~", "/", "\\")) or PureWindowsPath(path).drive or ".." in PurePosixPath(path).parts
        for path in paths
    )


def _number(name: str, value: Any) -> int | None:
    """A number that is said about a file; None where none is."""
    if value is None:
        return None
    number = whole(name, value, 0 if name == "context_len" else 1)
    if number > _LARGEST:
        raise UserError(f"{name} must be at most {_LARGEST}, not {number}")
    return number
