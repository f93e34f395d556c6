"""An MLX module behind the denoiser protocol."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from tzd.checkpoint import check_weights
from tzd.config import Architecture
from tzd.engines.cache import KeyValueRows, KeyValues
from tzd.engines.inputs import banned_columns, block_causal, check_tokens, embedding_rows
from tzd.engines.mlx.arrays import MlxArrays
from tzd.engines.mlx.cache import Memory
from tzd.engines.mlx.precision import BITS, cast, quantise
from tzd.engines.mlx.smdm import Smdm
from tzd.engines.mlx.streams import blas_threads, chunks
from tzd.engines.mlx.tiny import Tiny
from tzd.errors import ConfigError, UserError

NETWORKS: dict[str, type[nn.Module]] = {"tiny": Tiny, "smdm": Smdm}  # a new model type is one file and one entry


class MlxDenoiser:
    """Implements `tzd.diffusion.denoiser.Denoiser`; see there for the attributes.

    It computes on MLX's default device: the GPU where there is one.

    Args:
        network: takes tokens, and those of t, positions, attention and rows that its `__call__` names, and returns
            logits; it is used in evaluation mode.
        config: its architecture.
        context_len: length of the prefix that training never masked.
        block_len: length of the blocks of block diffusion; 0 for every other model.
        dtype: computes with a copy of the network whose weights are of this dtype; None computes in the network's own.
    """

    engine = "mlx"

    def __init__(
        self,
        network: nn.Module,
        config: Architecture,
        *,
        context_len: int = 0,
        block_len: int = 0,
        dtype: mx.Dtype | None = None,
    ) -> None:
        self.network = network if dtype is None else cast(network, dtype)
        self.config = config
        self.xp = MlxArrays()
        self.vocab_size = config.vocab_size
        self.mask_id = config.mask_id
        self.seq_len = config.block_size
        self.context_len = context_len
        self.block_len = block_len
        self.time_conditioned = config.time_steps > 0
        self.time_steps = config.time_steps
        self.banned = banned_columns(config)
        self._takes = inspect.signature(network.__call__).parameters
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
    ) -> tuple[mx.array, KeyValues | None]:
        """See `tzd.diffusion.denoiser.Denoiser.forward`. The logits are computed when it returns."""
        tokens = np.asarray(tokens)
        check_tokens(tokens, self.config, positions)
        if cache is None:
            attention = block_causal(attention, tokens.shape[1], self.block_len)
        if attention is not None and len(attention) == 1:  # the same for all rows, which are shared out
            attention = np.broadcast_to(attention, (len(tokens), *attention.shape[1:]))
        given = {"positions": positions, "attention": attention}
        if self.time_conditioned:
            given["t"] = embedding_rows(t, tokens, self.config, self.context_len)
        inputs = {name: np.asarray(value) for name, value in given.items() if value is not None}
        where = None if rows is None else np.asarray(rows)
        self._check(tokens, inputs, where, tokens.shape[1] if cache is None else cache.store.width)

        was_training = self.network.training
        self.network.eval()
        try:
            logits = self._shared_out(tokens.astype(np.int32), inputs, where, cache)
            return logits, None if cache is None else cache.store
        finally:
            self.network.train(was_training)

    def _shared_out(
        self,
        tokens: np.ndarray,
        inputs: dict[str, np.ndarray],
        rows: np.ndarray | None,
        cache: KeyValueRows | None,
    ) -> mx.array:
        """Logits of a batch whose rows are computed some at a time, those on several streams."""
        width = tokens.shape[1]
        dealt = chunks(len(tokens), width * (width if cache is None else cache.store.width))
        stops = [part.stop for shares in dealt for _, part in shares]
        owner = None if rows is None else np.searchsorted(stops, rows // width, side="right")
        logits: list[mx.array] = []
        number = 0
        for shares in dealt:
            memories, done = [], len(logits)
            with blas_threads(len(shares)):
                for stream, part in shares:
                    given: dict[str, Any] = {name: value[part] for name, value in inputs.items()}
                    if rows is not None:
                        given["rows"] = rows[owner == number] - part.start * width
                    number += 1
                    if rows is not None and cache is None and not given["rows"].size:
                        continue  # nothing is wanted of this share, and nothing kept
                    if cache is not None:
                        given["memory"] = Memory(cache.store.at(cache.rows[part]), given["positions"])
                        memories.append(given["memory"])
                    with mx.stream(stream):
                        logits.append(self._logits(tokens[part], given))
                for memory in memories:
                    memory.keep()
                mx.eval(logits[done:], [] if cache is None else cache.store.layers)
        joined = mx.concatenate(logits) if logits else mx.zeros((0, self.vocab_size))
        if owner is not None and (np.diff(owner) < 0).any():  # asked for in another order than that of the shares
            joined = joined[mx.array(np.argsort(np.argsort(owner, kind="stable")))]
        mx.eval(joined)
        return joined

    def _logits(self, tokens: np.ndarray, given: dict[str, Any]) -> mx.array:
        inputs = {name: mx.array(x) if isinstance(x, np.ndarray) else x for name, x in given.items()}
        rows = None if "rows" in self._takes else inputs.pop("rows", None)
        own = type(self.network).__name__
        if missing := [name for name in inputs if name not in self._takes]:
            raise UserError(f"{own}.__call__ has no argument '{missing[0]}', which is needed here")
        logits = self.network(mx.array(tokens), **inputs)
        positions = inputs["rows"].shape if "rows" in inputs else tokens.shape
        if tuple(logits.shape) != (*positions, self.vocab_size):
            raise UserError(
                f"{own} returns logits of shape {logits.shape}; the vocabulary has {self.vocab_size} tokens"
            )
        return (logits if rows is None else logits.reshape(-1, self.vocab_size)[rows]).astype(mx.float32)

    def _check(self, tokens: np.ndarray, inputs: dict[str, np.ndarray], rows: np.ndarray | None, attended: int) -> None:
        """UserError for indices that lie outside: MLX reads beyond an array's end without a word."""
        if rows is not None and rows.size and not 0 <= rows.min() <= rows.max() < tokens.size:
            raise UserError(f"rows must lie in 0..{tokens.size - 1}, not in {rows.min()}..{rows.max()}")
        positions, attention = inputs.get("positions"), inputs.get("attention")
        if positions is not None:
            if positions.shape != tokens.shape:
                raise UserError(f"positions must have the tokens' shape {tokens.shape}, not {positions.shape}")
            if not 0 <= positions.min() <= positions.max() < self.seq_len:
                low, high = positions.min(), positions.max()
                raise UserError(f"positions must lie in 0..{self.seq_len - 1}, not in {low}..{high}")
        if attention is not None and attention.shape not in (tokens.shape, (*tokens.shape, attended)):
            raise UserError(f"attention must be (B, L) or (B, L, L), not {attention.shape} for tokens {tokens.shape}")


def build(config: Architecture) -> nn.Module:
    """A network of that architecture, its weights not yet set."""
    if config.model_type not in NETWORKS:
        raise ConfigError(f"the mlx engine has no model_type '{config.model_type}' (it has: {', '.join(NETWORKS)})")
    return NETWORKS[config.model_type](config)


def weights_of(network: nn.Module) -> dict[str, mx.array]:
    """What a checkpoint holds of a network: canonical names -> its parameters, and its tables where it has some."""
    tables = network.tables() if isinstance(network, Tiny) else {}
    return {**dict(tree_flatten(network.parameters())), **tables}


def weight_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Canonical names -> shapes of what `weights_of` gives."""
    return {name: tuple(value.shape) for name, value in weights_of(network).items()}


def set_weights(network: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Gives a network its weights, in the dtypes that it has.

    Args:
        network: a network.
        weights: canonical names -> arrays, all of `weights_of(network)` and nothing else.
    """
    new = {name: mx.array(weights[name]).astype(old.dtype) for name, old in weights_of(network).items()}
    if isinstance(network, Tiny):
        network.set_tables({name: new.pop(name) for name in network.tables()})
    network.update(tree_unflatten(list(new.items())))
    mx.eval(network)  # what is computed already may be used by any thread


def load_denoiser(
    config: Architecture,
    weights: dict[str, np.ndarray],
    *,
    context_len: int,
    block_len: int = 0,
    where: Path,
    network: nn.Module | None = None,
    precision: str = "32",
) -> MlxDenoiser:
    """The denoiser that a checkpoint holds.

    Args:
        config: the architecture.
        weights: canonical names -> arrays.
        context_len: length of the prefix that training never masked.
        block_len: length of the blocks of block diffusion; 0 for every other model.
        where: its folder, for messages.
        network: a module of the caller's own, for checkpoints that were trained with one.
        precision: of the matrices, one of `tzd.engines.inputs.PRECISIONS`; "auto" is "32" here.

    Raises:
        UserError: this engine, or this model, has no such precision.
    """
    if precision not in ("auto", "32", "bf16", *BITS):
        raise UserError(f"the mlx engine has no precision={precision}")
    if network is not None and precision in BITS:
        raise UserError(f"precision={precision} is for models of the package's own, not for a network that is given")
    network = build(config) if network is None else network
    if not isinstance(network, nn.Module):
        raise UserError(f"the mlx engine computes with an mlx.nn.Module, not with a {type(network).__name__}")
    check_weights(weights, weight_shapes(network), where)
    set_weights(network, weights)
    if precision in BITS:
        quantise(network, BITS[precision])
    dtype = mx.bfloat16 if precision == "bf16" else None
    return MlxDenoiser(network, config, context_len=context_len, block_len=block_len, dtype=dtype)
