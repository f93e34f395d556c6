"""A PyTorch module behind the denoiser protocol."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tzd.checkpoint import check_weights
from tzd.config import Architecture
from tzd.engines.cache import KeyValueRows, KeyValues
from tzd.engines.inputs import banned_columns, block_causal, check_tokens, embedding_rows
from tzd.engines.torch.arrays import TorchArrays
from tzd.engines.torch.cache import Memory
from tzd.engines.torch.inference import bfloat16_is_native, prepare
from tzd.engines.torch.litgpt import Litgpt
from tzd.engines.torch.smdm import Smdm
from tzd.engines.torch.tiny import Tiny
from tzd.errors import ConfigError, UserError

# a new model type is one file and one entry
NETWORKS: dict[str, type[nn.Module]] = {"tiny": Tiny, "smdm": Smdm, "litgpt": Litgpt}
# Tokens that a processor computes at once: what lies between two matrix products stays in its cache (docs/log.md).
_AT_ONCE = 1024


class TorchDenoiser:
    """Implements `tzd.diffusion.denoiser.Denoiser`; see there for the attributes.

    Args:
        network: takes tokens, and those of t, positions, attention and rows that its `forward` names, and returns
            logits; it is used in evaluation mode.
        config: its architecture.
        context_len: length of the prefix that training never masked.
        block_len: length of the blocks of block diffusion; 0 for every other model.
        device: where it computes; the network is moved there.
        autocast: dtype of the matrix products; None computes in the weights' own.
    """

    engine = "torch"

    def __init__(
        self,
        network: nn.Module,
        config: Architecture,
        *,
        context_len: int = 0,
        block_len: int = 0,
        device: torch.device | str = "cpu",
        autocast: torch.dtype | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.config = config
        self.xp = TorchArrays(self.device)
        self.vocab_size = config.vocab_size
        self.mask_id = config.mask_id
        self.seq_len = config.block_size
        self.context_len = context_len
        self.block_len = block_len
        self.time_conditioned = config.time_steps > 0
        self.time_steps = config.time_steps
        self.banned = banned_columns(config)
        self._autocast = autocast
        self._takes = inspect.signature(network.forward).parameters
        self.cacheable = "memory" in self._takes

    def empty_cache(self, rows: int, width: int) -> KeyValues:
        """See `tzd.diffusion.denoiser.Denoiser.empty_cache`."""
        return KeyValues(rows, width)

    def forward(
        self,
        tokens: np.ndarray,
        *,
        t: np.ndarray | None = None,
        positions: np.ndarray | None = None,
        attention: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        cache: KeyValueRows | None = None,
    ) -> tuple[Tensor, KeyValues | None]:
        """See `tzd.diffusion.denoiser.Denoiser.forward`."""
        tokens = np.asarray(tokens)
        check_tokens(tokens, self.config, positions)
        if cache is None:
            attention = block_causal(attention, tokens.shape[1], self.block_len)
        time = None
        if self.time_conditioned:
            time = embedding_rows(t, tokens, self.config, self.context_len)

        inputs = {"t": time, "positions": positions, "attention": attention}
        given = {name: np.asarray(value) for name, value in inputs.items() if value is not None}
        was_training = self.network.training
        if was_training:
            self.network.eval()
        try:
            with torch.inference_mode(), self._precision():
                logits = self._in_parts(tokens.astype(np.int64), given, rows, cache)
            return logits, None if cache is None else cache.store
        finally:
            if was_training:
                self.network.train()

    def _in_parts(
        self, tokens: np.ndarray, given: Mapping[str, np.ndarray], rows: np.ndarray | None, cache: KeyValueRows | None
    ) -> Tensor:
        """Logits of a batch, of which a processor computes some rows at a time."""
        batch, length = tokens.shape
        step = max(1, _AT_ONCE // length) if self.device.type == "cpu" else batch
        wanted = None if rows is None else np.arange(tokens.size)[rows]  # IndexError where one lies outside
        if batch <= step:
            return self._at_once(tokens, given, wanted, cache)
        shape = (batch, length) if wanted is None else (len(wanted),)
        logits = torch.empty((*shape, self.vocab_size), device=self.device)
        for start in range(0, batch, step):
            part = slice(start, start + step)
            inputs = {name: x if len(x) == 1 else x[part] for name, x in given.items()}
            own = None if cache is None else cache.store.at(cache.rows[part])
            if wanted is None:
                logits[part] = self._at_once(tokens[part], inputs, None, own)
                continue
            place = np.flatnonzero(wanted // (step * length) == start // step)
            if place.size or own is not None:  # a cache takes keys and values of what is not wanted, too
                found = self._at_once(tokens[part], inputs, wanted[place] - start * length, own)
                logits[self.xp.asarray(place)] = found
        return logits

    def _at_once(
        self, tokens: np.ndarray, given: Mapping[str, np.ndarray], rows: np.ndarray | None, cache: KeyValueRows | None
    ) -> Tensor:
        inputs: dict[str, Any] = {name: self.xp.asarray(x) for name, x in given.items()}
        if cache is not None:
            inputs["memory"] = Memory(cache, inputs["positions"])
        if rows is not None:
            inputs["rows"] = self.xp.asarray(rows)
        return self._logits(self.xp.asarray(tokens), inputs).float()

    def _logits(self, tokens: Tensor, given: dict[str, Any]) -> Tensor:
        rows = None if "rows" in self._takes else given.pop("rows", None)
        own = type(self.network).__name__
        if missing := [name for name in given if name not in self._takes]:
            raise UserError(f"{own}.forward has no argument '{missing[0]}', which is needed here")
        logits = self.network.forward(tokens, **given)  # not __call__: what is compiled for training runs eagerly here
        if logits.shape[-1] != self.vocab_size:
            shape = tuple(logits.shape)
            raise UserError(f"{own} returns logits of shape {shape}; the vocabulary has {self.vocab_size} tokens")
        return logits if rows is None else logits.flatten(0, -2)[rows]

    def _precision(self) -> AbstractContextManager[Any]:
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self._autocast)


def best_device() -> torch.device:
    """CUDA where there is one, then Apple's GPU, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def build(config: Architecture) -> nn.Module:
    """A network of that architecture, its weights not yet set."""
    if config.model_type not in NETWORKS:
        raise ConfigError(f"the torch engine has no model_type '{config.model_type}' (it has: {', '.join(NETWORKS)})")
    return NETWORKS[config.model_type](config)


def set_weights(network: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Gives a network its weights."""
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})


def weight_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """What a checkpoint of the network holds: name -> shape."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def load_denoiser(
    config: Architecture,
    weights: dict[str, np.ndarray],
    *,
    context_len: int,
    block_len: int = 0,
    where: Path,
    network: nn.Module | None = None,
    precision: str = "32",
) -> TorchDenoiser:
    """The denoiser that a checkpoint holds, on the best device here.

    Args:
        config: the architecture.
        weights: canonical names -> arrays.
        context_len: length of the prefix that training never masked.
        block_len: length of the blocks of block diffusion; 0 for every other model.
        where: its folder, for messages.
        network: a module of the caller's own, for checkpoints that were trained with one.
        precision: of the matrices, one of `tzd.engines.inputs.PRECISIONS`. A module of the caller's own keeps its
            weights, and multiplies in bfloat16 where that is asked for.

    Raises:
        UserError: this engine, this device or this module has no such precision.
    """
    if precision == "int4":
        raise UserError("the torch engine has no precision=int4: take engine=mlx, or precision=int8")
    device, own = best_device(), network is not None
    if precision == "auto":
        precision = "bf16" if bfloat16_is_native(device) else "32"
    if own and precision == "int8":
        raise UserError("precision=int8 is for networks of tzd's own model types: take bf16")
    network = build(config) if network is None else network
    if not isinstance(network, nn.Module):
        raise UserError(f"the torch engine computes with a torch.nn.Module, not with a {type(network).__name__}")
    check_weights(weights, weight_shapes(network), where)
    set_weights(network, weights)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if not own:
        network, dtype = prepare(network.to(device), config, precision)
    return TorchDenoiser(
        network,
        config,
        context_len=context_len,
        block_len=block_len,
        device=device,
        autocast=None if dtype == torch.float32 else dtype,
    )
