"""The networks of the Hugging Face hub, built of their files.

What the transformers library has is built by it. Code that comes with a model runs only where that is allowed, and its
weights are put in their places here, each of them: the library's own loader (version 5) leaves unset, without a word,
what older code computes for itself, such as rotary tables. Weights are safetensors; a `.bin` is a pickle, which can run
code too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tzd.checkpoint.layout import is_plain_name
from tzd.checkpoint.read import mismatch, read_object
from tzd.errors import CheckpointError, TzdError, UserError, brief, first_line
from tzd.hub import quietly

_CLASSES = ("AutoModelForMaskedLM", "AutoModel", "AutoModelForCausalLM")  # of a model's own code, in this order
_LAYER = re.compile(r"\.\d+\.")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_COUNTS, _MOST = ("num_", "n_"), 100_000  # beginnings of settings that count parts; how many there may be
_TABLES = 1 << 22  # numbers in the tables of a window's positions, however small a model is
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"


def own_code(described: Mapping[str, Any]) -> str | None:
    """The class of a model's own code that computes, as "module.Class"; None where the library has the model."""
    import transformers

    classes = described.get("auto_map")
    if described.get("model_type") in transformers.CONFIG_MAPPING or not isinstance(classes, dict):
        return None
    return next((str(classes[key]) for key in _CLASSES if key in classes), None)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights; CheckpointError if one of them is missing, or there is only a pickle."""
    names = [_WEIGHTS]
    if (folder / _INDEX).is_file():
        said = read_object(folder / _INDEX).get("weight_map")
        if not isinstance(said, dict) or not said:
            raise CheckpointError(f"{folder / _INDEX} is damaged: it names no weights; get the file again")
        names = sorted(set(map(str, said.values())))
    if strange := [name for name in names if not is_plain_name(name)]:
        raise CheckpointError(f"{folder / _INDEX} names '{strange[0]}', which is not a file of this folder")
    files = [folder / name for name in names]
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(
            f"{folder} does not hold {missing[0]}; weights are read from safetensors only, for a .bin is a pickle,"
            " which can run code: look for a revision or a copy of the model that has them"
        )
    return files


def library_network(name: str, folder: Path, described: Mapping[str, Any], files: Sequence[Path]) -> nn.Module:
    """A masked language model that the transformers library has, in the precision of its weights.

    Args:
        name: of the model, for messages.
        folder: where its files lie.
        described: its config.json.
        files: what `weight_files` said.

    Raises:
        UserError: it has the model, but as one that cannot fill in blanks, or its config.json asks for code.
        CheckpointError: the files are damaged or incomplete.
    """
    import transformers

    dtype = "dtype" if _major() >= 5 else "torch_dtype"
    try:
        _refuse_kernels(name, described)
        shapes = _stored_shapes(files)
        _check_counts(name, described, len(shapes))
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if type(config) not in transformers.MODEL_FOR_MASKED_LM_MAPPING:
            raise UserError(
                f"{name} is a '{config.model_type}' model, which cannot fill in blanks: give one that can (LLaDA,"
                " Dream, a masked language model)"
            )
        _check_room(name, transformers.AutoModelForMaskedLM, config, shapes)
        with quietly():
            network, said = transformers.AutoModelForMaskedLM.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # an error all the same, below, that names them
                **{dtype: "auto"},
            )
    except TzdError:
        raise
    except Exception as error:  # the library raises OSError, ValueError, RuntimeError and more for what it cannot read
        reason = first_line(error)
        raise CheckpointError(f"the transformers library cannot load {name} ({reason}); get its files again") from error
    if other := sorted(key for key, *_ in said["mismatched_keys"]):
        raise CheckpointError(f"{name} has weights of another shape than its config.json says: {', '.join(other[:3])}")
    if missing := sorted(said["missing_keys"]):
        raise CheckpointError(f"{name} lacks weights of its {type(network).__name__}: {', '.join(missing[:3])}")
    if foreign := sorted(key for key in said["unexpected_keys"] if _LAYER.search(key)):  # others are other heads'
        raise CheckpointError(
            f"{name} holds weights of layers that its config.json has not: {', '.join(foreign[:3])}; take both from"
            " one place"
        )
    return network


def _stored_shapes(files: Sequence[Path]) -> list[tuple[int, ...]]:
    """The shapes of all tensors that files hold, of their headers alone."""
    from safetensors import safe_open

    shapes = []
    for file in files:
        with safe_open(file, "pt") as content:
            shapes += [tuple(content.get_slice(key).get_shape()) for key in content.keys()]  # noqa: SIM118 - no mapping
    return shapes


def _refuse_kernels(name: str, described: Mapping[str, Any]) -> None:
    """UserError where config.json asks the library to fetch compiled code of the hub, and to run it (`kernels`)."""
    for group in (described, *(value for value in described.values() if isinstance(value, dict))):
        for key, value in group.items():
            if key.endswith("_implementation") and "/" in str(value):
                raise UserError(
                    f"{name} computes with code of another repository ({key}={brief(value)} in its config.json): leave"
                    " that out of a copy of it"
                )


def _check_counts(name: str, described: Mapping[str, Any], tensors: int) -> None:
    """CheckpointError where config.json tells of so many parts that counting them would not end."""
    for key, value in described.items():
        most = tensors if key in _LAYERS else _MOST
        if type(value) is int and value > most and (key.startswith(_COUNTS) or key in _LAYERS):
            raise CheckpointError(
                f"{name} has {tensors} weights, and its config.json says {key}={brief(value)}: they do not belong"
                " together; take both from one place"
            )


def _check_room(name: str, network_class: Any, config: Any, shapes: Sequence[tuple[int, ...]]) -> None:
    """CheckpointError where config.json tells of a network that the weights cannot fill, before room is made for it."""
    held = sum(math.prod(shape) for shape in shapes)
    with torch.device("meta"), quietly():
        planned = network_class.from_config(config)
    needed = sum(value.numel() for value in (*planned.parameters(), *planned.buffers()))
    if needed > max(_TABLES, 2 * held):  # a head that is not stored is the embedding's
        raise CheckpointError(
            f"{name} has {held} numbers in its weights, and its config.json tells of a network of {brief(needed)}:"
            " take both from one place"
        )


def own_network(name: str, folder: Path, own: str, described: Mapping[str, Any], files: Sequence[Path]) -> nn.Module:
    """A network of a model's own code, in the precision of its weights, with every weight in its place.

    Args:
        name: of the model, for messages.
        folder: where its files lie.
        own: what `own_code` said.
        described: its config.json.
        files: what `weight_files` said.

    Raises:
        UserError: the code lies in another repository, of which nobody has said a revision.
        CheckpointError: weights are missing, unexpected, of another shape or damaged.
        TzdError: the code fails.
    """
    if "--" in own:
        raise UserError(
            f"{name} computes with code of another repository ({own.partition('--')[0]}): copy it into a folder with"
            " the model's files, and leave that name out of its config.json"
        )
    from safetensors.torch import load_file
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    try:
        from transformers.initialization import no_init_weights
    except ImportError:  # before version 5
        from transformers.modeling_utils import no_init_weights
    try:
        stored = {key: value for file in files for key, value in load_file(file).items()}
    except Exception as error:  # safetensors' own error has no base but this
        raise CheckpointError(f"the weights of {name} cannot be read: {first_line(error)}; get them again") from error
    default = torch.get_default_dtype()
    with own_code_errors(name, described), quietly():
        try:
            network_class: Any = get_class_from_dynamic_module(own, folder, local_files_only=True)
            config = network_class.config_class.from_pretrained(folder, local_files_only=True)
            for key, value in described.items():  # version 5 of the library drops some, which older code reads
                if not hasattr(config, key):
                    setattr(config, key, value)
            tied, config.tie_word_embeddings = getattr(config, "tie_word_embeddings", False), False  # done below
            torch.set_default_dtype(next((v.dtype for v in stored.values() if v.is_floating_point()), default))
            with no_init_weights():
                network: nn.Module = network_class(config)
        finally:
            torch.set_default_dtype(default)
    stored |= _tied(network, stored) if tied else {}
    shapes = ({key: tuple(value.shape) for key, value in tensors.items()} for tensors in (stored, network.state_dict()))
    if complaint := mismatch(*shapes):
        raise CheckpointError(f"the weights of {name} do not fit its own code: {complaint}")
    network.load_state_dict(stored, assign=True)
    return network


def _tied(network: Any, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head's weights under their own name, where they are the embedding's and stored once."""
    shared = network.get_input_embeddings().weight
    names = [key for key, value in network.state_dict(keep_vars=True).items() if value.shape == shared.shape]
    have = [stored[key] for key in names if key in stored]
    return {key: have[0] for key in names if key not in stored and len(have) == 1}


@contextmanager
def own_code_errors(name: str, described: Mapping[str, Any]) -> Iterator[None]:
    """Whatever a model's own code raises becomes one line that says which library it was written for."""
    try:
        yield
    except Exception as error:
        import transformers

        written = described.get("transformers_version", "another version")
        mend = "; try pip install 'transformers<5'" if _major() >= 5 else ""
        raise TzdError(
            f"the own code of {name} does not run with transformers {transformers.__version__}"
            f" ({type(error).__name__}: {first_line(error)}): it was written for {written}{mend}"
        ) from error


def _major() -> int:
    import transformers

    return int(transformers.__version__.partition(".")[0])
