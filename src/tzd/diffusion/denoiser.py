"""The denoiser: x_t → logits over clean tokens. One protocol for every engine and model type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tzd.arrays import Array, Arrays, NumpyArrays


class Denoiser(Protocol):
    """What objectives, likelihoods and samplers need of a model."""

    @property
    def engine(self) -> str:
        """Name of what computes: "torch", "mlx", "numpy"."""
        ...

    @property
    def xp(self) -> Arrays:
        """The functions for this engine's arrays."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of tokens that text is made of, V."""
        ...

    @property
    def mask_id(self) -> int:
        """Id of [MASK]. For models created here it is V, one past the vocabulary."""
        ...

    @property
    def seq_len(self) -> int:
        """Longest sequence that the denoiser takes, L."""
        ...

    @property
    def context_len(self) -> int:
        """Length of the prefix that training never masked; 0 for most models."""
        ...

    @property
    def block_len(self) -> int:
        """Length of the blocks of a model of block diffusion (`tzd.diffusion.blocks`); 0 for every other."""
        ...

    @property
    def time_conditioned(self) -> bool:
        """Whether the output depends on `t`."""
        ...

    @property
    def time_steps(self) -> int:
        """Rows of the time embedding; 0 where there is none."""
        ...

    @property
    def banned(self) -> np.ndarray | None:
        """(V,) bool, the columns of the logits that are no tokens of the vocabulary; None if there are none."""
        ...

    @property
    def cacheable(self) -> bool:
        """Whether `empty_cache` may be called."""
        ...

    def empty_cache(self, rows: int, width: int) -> Any:
        """Room for the keys and values of `rows` sequences of `width` positions; `.at(rows)` is a part of it."""
        ...

    def forward(
        self,
        tokens: np.ndarray,
        *,
        t: np.ndarray | None = None,
        positions: np.ndarray | None = None,
        attention: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        cache: Any = None,
    ) -> tuple[Array, Any]:
        """Logits over clean tokens at every position, or at the positions asked for.

        Args:
            tokens: (B, L) int, x_t.
            t: (B,) the time of each row, for denoisers conditioned on it: floats in [0, 1] (0 is clean), or
                integers, which are rows of the time embedding. Without it the masked fraction is used.
            positions: (B, L) int, rotary positions of the tokens; 0 to L-1 if not given.
            attention: (B, L) bool, which tokens may be attended to (pads may not), or (B, L, L) bool, who
                attends to whom. A model of block diffusion keeps to its blocks where it is not given (B, L, L),
                unless there is a cache.
            rows: (N,) int, indices into the flattened (B·L) positions at which logits are wanted.
            cache: `.at(rows)` of what `empty_cache` gave: keys and values of B of its sequences. Those of the tokens
                take their place in it, at `positions`, which must then be given (a token may stand there twice), and
                the tokens attend to all of its positions that `attention`, (B, L, width), allows.

        Returns:
            float32 logits on the engine, (B, L, V), or (N, V) if `rows` is given; and the cache or None.
        """
        ...


def masked_fraction(tokens: np.ndarray, mask_id: int, context_len: int, inside: np.ndarray | None = None) -> np.ndarray:
    """The time that a canvas shows by itself: the masked share of what training could mask.

    Args:
        tokens: (B, L) int.
        mask_id: id of [MASK].
        context_len: length of the prefix that training never masked.
        inside: (B, L) bool, what is no padding; everything if None.

    Returns:
        (B,) float64 in [0, 1].
    """
    inside = np.ones(tokens.shape, dtype=bool) if inside is None else inside
    maskable = np.maximum(1, inside.sum(axis=1) - context_len)
    return np.minimum(1.0, ((tokens == mask_id) & inside).sum(axis=1) / maskable)


def time_rows(t: np.ndarray, steps: int) -> np.ndarray:
    """Rows of a time embedding: integers are rows already, a float t in [0, 1] is in row ceil(t·steps) − 1.

    Tiny Diffusion trains row i with mask-probability (i + 1) / steps.

    Args:
        t: (B,) int or float.
        steps: rows of the embedding.

    Returns:
        (B,) int32.
    """
    if np.issubdtype(t.dtype, np.integer):
        return t.astype(np.int32)
    slack = 1e-6  # so that (i + 1) / steps, rounded up to float32, is still in row i
    return (np.ceil(t * (steps * (1.0 - slack))).astype(np.int32) - 1).clip(0, steps - 1)


@dataclass(frozen=True)
class FunctionDenoiser:
    """Any tokens → logits function as a denoiser: oracles, tests, baselines.

    Attributes:
        function: takes (B, L) ints, in which `mask_id` stands for [MASK], and returns (B, L, V) floats.
        vocab_size: V.
        seq_len: longest sequence.
        mask_id: id of [MASK]; `vocab_size` if not given.
    """

    function: Callable[[np.ndarray], Any]
    vocab_size: int
    seq_len: int
    mask_id: int = -1
    context_len: int = 0
    block_len: int = 0
    engine: str = "numpy"
    time_conditioned: bool = False
    time_steps: int = 0
    banned: np.ndarray | None = None
    cacheable: bool = False
    xp: Arrays = field(default_factory=NumpyArrays)

    def __post_init__(self) -> None:
        if self.mask_id < 0:
            object.__setattr__(self, "mask_id", self.vocab_size)

    def empty_cache(self, rows: int, width: int) -> Any:
        """A function has no keys and values."""
        raise NotImplementedError

    def forward(
        self,
        tokens: np.ndarray,
        *,
        t: np.ndarray | None = None,
        positions: np.ndarray | None = None,
        attention: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        cache: Any = None,
    ) -> tuple[np.ndarray, None]:
        """See `Denoiser.forward`; `t`, `positions`, `attention` and `cache` do not reach the function."""
        logits = np.asarray(self.function(np.asarray(tokens)))
        if rows is not None:
            logits = logits.reshape(-1, logits.shape[-1])[rows]
        return logits, None
