"""Single files of weights as they are written and read, without an engine."""

import json
from pathlib import Path

import numpy as np
import pytest

from tzd.checkpoint import port
from tzd.config import TinyConfig
from tzd.diffusion.rotary import rotary_tables
from tzd.errors import CheckpointError

CONFIG = TinyConfig(vocab_size=128, mask_id=0, n_layer=2, n_head=2, n_embd=8, block_size=6, time_steps=9)
FILE = Path("m.npz")


def theirs(config=CONFIG):
    """Arrays by the port's names, the tables those that are computed."""
    arrays = {
        name: (np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + index) / 7
        for index, (name, shape) in enumerate(port.shapes(config, tables=True).items())
    }
    cos, sin = rotary_tables(2 * config.block_size, config.n_embd // config.n_head, config.rope_base)
    return arrays | {"cos": cos[None, :, None], "sin": sin[None, :, None]}


def stored(arrays=None, **said):
    np.savez(FILE, **(theirs() if arrays is None else arrays))
    if said:
        Path("config.json").write_text(json.dumps(said))
    return FILE


def refusal(attempt, kind=CheckpointError):
    with pytest.raises(kind) as error:
        attempt()
    return str(error.value)
