"""Reading a checkpoint: every byte that is used was checked, and nothing in it can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tzd.checkpoint.eight_bits import from_eight_bits
from tzd.checkpoint.layout import (
    CHECKSUMS,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    STATE_ARRAYS,
    STATE_TREE,
    WEIGHTS,
    is_plain_name,
    sha256,
)
from tzd.checkpoint.run_folder import RunFolder
from tzd.checkpoint.shipped import meant
from tzd.checkpoint.tree import unflatten
from tzd.config import Architecture, model_config
from tzd.corpus.chat import TEMPLATE
from tzd.corpus.tokenizer import FILE
from tzd.errors import CheckpointError, TzdError, brief, first_line
from tzd.untrusted import read_json

_TEXTS = {"engine": ("name",), "data": ("name", "path"), "training": ("export_to", "optimizer")}  # looked up of a run
_TABLES = 1 << 22  # numbers in the tables of a window's positions, however small a model is


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        folder: where it lies; further files (`tokenizer.json`) are read from there.
        config: `config.json`.
        weights: canonical name -> float32 array.
        checksums: file name -> sha256, of every file that belongs to it.
        file: the single file that it was read from, if it was.
    """

    folder: Path
    config: dict[str, Any]
    weights: dict[str, np.ndarray] = field(repr=False)
    checksums: dict[str, str] = field(repr=False, default_factory=dict)
    file: Path | None = None

    @property
    def source(self) -> Path:
        """The file or folder that it was read from."""
        return self.file or self.folder

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of `config.json`: model, tokenizer, diffusion, provenance.

        Raises:
            CheckpointError: there is none of that name.
        """
        section = self.config.get(name)
        if not isinstance(section, Mapping):
            raise CheckpointError(f"{self.folder / CONFIG} has no section '{name}'")
        return section

    def training_state(self) -> Any | None:
        """What training needs to go on, read now (it is larger than the weights); None if there is none.

        Raises:
            CheckpointError: it is damaged.
        """
        if STATE_TREE not in self.checksums:
            return None
        _verify(self.folder, (STATE_TREE, STATE_ARRAYS), self.checksums)
        arrays = _read_arrays(self.folder / STATE_ARRAYS)
        with _one_line_errors(self.folder / STATE_TREE):
            return unflatten(read_json(self.folder / STATE_TREE), arrays)


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Reads a checkpoint and checks it.

    Args:
        path: a run folder (its best checkpoint, or else its last), a checkpoint folder, or the `model.safetensors`
            in one. Files that the checkpoint does not list, a README.md say, are ignored.

    Returns:
        The checkpoint; its training state is read and checked when asked for.

    Raises:
        CheckpointError: there is none, a file is missing or damaged, or the format is newer than this version.
    """
    path = Path(path)
    while True:
        folder = _find(path)
        try:
            return _read(folder)
        except CheckpointError:
            if folder.is_dir() or _find(path) == folder:
                raise
            # a run that goes on has a better one by now, and removed this one while it was read


def _read(folder: Path) -> Checkpoint:
    config = read_object(folder / CONFIG)
    check_version(config, folder / CONFIG)
    _check_provenance(config, folder / CONFIG)
    checksums = read_object(folder / CHECKSUMS)
    for name in (FILE, TEMPLATE):
        if (folder / name).exists() and name not in checksums:
            raise CheckpointError(f"{folder / name} is not among the files that {CHECKSUMS} lists: remove it")
    state = (STATE_TREE, STATE_ARRAYS)
    _verify(folder, {CONFIG, WEIGHTS, *checksums} - {*state}, checksums)
    for name in state:
        if name in checksums and not (folder / name).is_file():
            raise CheckpointError(_missing(folder / name))
    return Checkpoint(folder, config, _read_weights(folder / WEIGHTS), checksums)


def check_weights(weights: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Holds weights against what a denoiser needs: the same names, the same shapes.

    Args:
        weights: name -> array.
        expected: name -> shape.
        folder: where they come from, or the file, for the message.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape; the first few are named.
    """
    if complaint := mismatch({name: array.shape for name, array in weights.items()}, expected):
        raise CheckpointError(f"{folder} does not fit the model that its config.json describes: {complaint}")


def mismatch(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str:
    """What is missing, unexpected or of another shape, the first few by name; empty if nothing is.

    Args:
        found: name -> shape.
        expected: name -> shape.
    """
    wrong = [
        f"{name} {found[name]} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != tuple(shape)
    ]
    complaints = [
        _listed("missing", [name for name in expected if name not in found]),
        _listed("unexpected", [name for name in found if name not in expected]),
        _listed("of another shape", wrong),
    ]
    return "; ".join(filter(None, complaints))


def _listed(complaint: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {complaint} ({shown})" if names else ""


def _find(path: Path) -> Path:
    """The checkpoint folder that `path` means."""
    with _one_line_errors(path):
        if path.is_file():
            if path.name == WEIGHTS:
                return path.parent
            raise CheckpointError(
                f"{path} is no tzd checkpoint: give its folder, the {WEIGHTS} in it, or a file of weights"
                " (.npz, .pt, .pth, .safetensors)"
            )
        if not path.is_dir():
            raise CheckpointError(f"there is no checkpoint at {path}: no such file or folder{meant(path)}")
        if any((path / name).exists() for name in (CONFIG, WEIGHTS, CHECKSUMS)):
            return path
        run = RunFolder(path)
        folder = run.resolve("best") or run.resolve("last")
        if folder is None:
            raise CheckpointError(
                f"{path} holds no checkpoint: neither {CONFIG} (as a checkpoint does) nor a file 'best' or 'last' "
                "(as a run folder does)"
            )
        return folder


def check_version(config: Mapping[str, Any], file: Path) -> None:
    """CheckpointError unless `config`, the content of `file`, has a format that this version reads."""
    version = config.get("format_version")
    if config.get("format") != FORMAT or type(version) is not int or version < 1:
        raise CheckpointError(f"{file} does not describe a tzd checkpoint; 'tzd convert' reads other formats")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{file} has format {version}, and this version of tzd reads up to {FORMAT_VERSION}: upgrade tzd"
        )


def _verify(folder: Path, names: Sequence[str] | set[str], checksums: Mapping[str, str]) -> None:
    for name in sorted(names):
        file = folder / name
        if not is_plain_name(name):
            raise CheckpointError(f"{folder / CHECKSUMS} names '{name}', which is not a file of this folder")
        if not file.is_file():
            raise CheckpointError(_missing(file))
        with _one_line_errors(file):
            damaged = sha256(file) != checksums.get(name)
        if damaged:
            raise CheckpointError(
                f"{file} is damaged: its checksum is not the one in {CHECKSUMS}; get the checkpoint again"
            )


def _missing(file: Path) -> str:
    return f"{file} is missing; get the checkpoint again"


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; CheckpointError if there is none."""
    if not file.is_file():
        raise CheckpointError(_missing(file))
    with _one_line_errors(file):
        data = read_json(file)
    if not isinstance(data, dict):
        raise CheckpointError(f"{file} is damaged: it is no JSON object; get the checkpoint again")
    return data


def _read_weights(file: Path) -> dict[str, np.ndarray]:
    weights = from_eight_bits(_read_arrays(file), file)
    for name, array in weights.items():
        if array.dtype.kind != "f":
            raise CheckpointError(f"{file} holds {name} as {array.dtype}; weights are floating-point numbers")
    return {name: as_float32(array) for name, array in weights.items()}


def as_float32(array: np.ndarray) -> np.ndarray:
    """An array of floats as float32; what is too large becomes infinite, without a warning."""
    with np.errstate(all="ignore"):
        return array.astype(np.float32, copy=False)


def check_finite(checkpoint: Checkpoint) -> None:
    """CheckpointError that names a weight which is infinite or no number."""
    for name, array in checkpoint.weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(
                f"{checkpoint.source} holds numbers in {name} that are not finite (or not in float32): no model can"
                " compute with them; take an earlier checkpoint"
            )


def _check_provenance(config: Mapping[str, Any], file: Path) -> None:
    """CheckpointError where what is said of the run is not laid out as any version has it; it is looked up by name."""
    provenance = config.get("provenance", {})
    run = provenance.get("run", {}) if isinstance(provenance, Mapping) else None
    groups: list[Any] = [run.get(group, {}) for group in _TEXTS] if isinstance(run, Mapping) else [run]
    if not all(isinstance(group, Mapping) for group in groups):
        raise CheckpointError(f"{file} is damaged: its section 'provenance' is none; get the checkpoint again")
    for (name, keys), group in zip(_TEXTS.items(), groups, strict=True):
        for key in keys:
            if not isinstance(group.get(key), (str, type(None))):
                raise CheckpointError(
                    f"{file} is damaged: provenance.run.{name}.{key} is no text; get the checkpoint again"
                )


def check_sizes(checkpoint: Checkpoint) -> None:
    """CheckpointError where config.json tells of a network far larger than the weights, before room is made for it."""
    if checkpoint.section("provenance").get("module") is not None:  # no network of ours is made
        return
    config = model_config(checkpoint.section("model"), f"{checkpoint.folder / CONFIG}: model")
    check_room(config, checkpoint.weights, checkpoint.source)


def check_room(config: Architecture, weights: Mapping[str, np.ndarray], source: Path) -> None:
    """CheckpointError where an architecture is far larger than the weights that are to fill it.

    Args:
        config: the architecture.
        weights: name -> array.
        source: where both come from, for the message.
    """
    values = sum(array.size for array in weights.values())

    def has(name: str) -> int:
        return getattr(config, name, None) or 0

    width, layers, heads = has("n_embd"), has("n_layer"), max(1, has("n_head"))
    experts = has("n_expert") * has("moe_intermediate_size")
    inner = max(has("intermediate_size"), experts, heads * has("head_size"), width)
    rows = max(config.n_embedding_rows, has("padding_multiple"), config.time_steps, layers * inner)
    head = has("head_size") or width // heads
    if layers > len(weights) or rows * width > values or has("n_expert") * layers > values:
        raise CheckpointError(
            f"{source} does not fit the model that is described beside it: {brief(values)} numbers are too few"
        )
    if config.block_size * head > max(_TABLES, 4 * values):
        window = f"a window of {config.block_size} tokens"
        raise CheckpointError(f"{source} is too small a model for {window}, of which its description tells")


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    with _one_line_errors(file):
        return load_file(file)


@contextmanager
def _one_line_errors(file: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except TzdError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{file} cannot be read: {reason}; get the checkpoint again") from error
