"""LitGPT's own file, `lit_model.pth`, read into NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tzd.checkpoint.litgpt import assemble, read_architecture
from tzd.checkpoint.read import Checkpoint, check_room
from tzd.engines.torch.litgpt import shapes
from tzd.engines.torch.pt import read_arrays


def read_lit_model(path: Path, given: Mapping[str, int]) -> Checkpoint:
    """Reads a `lit_model.pth` and what lies beside it; see `tzd.checkpoint.litgpt`.

    Args:
        path: the file.
        given: what the user says about it: n_head, block_size, context_len; it must be so.

    Raises:
        CheckpointError: it is damaged, or does not fit its model_config.yaml.
        MissingExtraError: LitGPT is not installed.
    """
    config, tokenizer = read_architecture(path, given)
    arrays = read_arrays(path, part="model")  # what LitGPT's training saves, a converted model is the part itself
    check_room(config, arrays, path)  # or a network as large as is said would be laid out
    context_len = given.get("context_len", 0)
    return assemble(path, arrays, shapes(config), config=config, tokenizer=tokenizer, context_len=context_len)
