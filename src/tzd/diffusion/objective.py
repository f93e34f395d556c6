"""Training objectives: what is masked, and how much each masked token counts.

An objective has two halves. `noise` is host mathematics: it masks a batch and gives every position its weight, so
that the loss is Σ weight · CE whatever the objective. `loss` calls the denoiser and runs on the engine.

| name      | what is masked                     | weight of a masked token's CE, per maskable token | is         |
|-----------|------------------------------------|----------------------------------------------------|------------|
| `nelbo`   | each token with probability p_t    | E[−alpha'/(1−alpha) given n] = (L+1)/n (linear)    | the NELBO  |
| `nelbo_t` | each token with probability p_t    | −alpha'/(1−alpha) = 1/t (linear)                   | the NELBO  |
| `exact_k` | exactly k tokens, k ~ U{1..L}      | L/k                                                | the NELBO  |
| `pooled`  | each token with probability p_t    | 1 / masked tokens of the whole batch               | no bound   |
| `block`   | of each block exactly k of its n   | n/k                                                | its NELBO  |

The first three have the same mean: the negative evidence lower bound in nats per token (MDLM, arXiv:2406.07524;
MD4, arXiv:2406.04329; the any-order view of exact_k: RADD, arXiv:2406.03736). `nelbo` is the Rao-Blackwellisation
of `nelbo_t`. `pooled` is Tiny Diffusion's: it weighs noisy batches more, learns quickly, and bounds nothing. `block`
is block diffusion (`tzd.diffusion.blocks`): another model, with a bound of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tzd.arrays import Array
from tzd.config import ObjectiveSettings
from tzd.diffusion.blocks import doubled_layout, mask_blocks
from tzd.diffusion.masking import TIME_SAMPLINGS, draw_times, mask_by_count, mask_by_probability
from tzd.diffusion.schedule import Schedule, schedule, weight_by_count
from tzd.errors import ConfigError, nearest
from tzd.randomness import permutation, uniforms

# The head runs on masked tokens only from this size of the vocabulary on (measured: docs/log.md); below, picking
# them costs what it saves. Their number is rounded up to so many-th parts of the batch, that shapes are few.
HEAD_ON_MASKED_FROM = 2048
_PARTS = 16

T_MIN = 1e-3  # `nelbo_t` only: the variance of 1/t is infinite without it; drops about 1e-3 of the bound (MDLM)


@dataclass(frozen=True)
class Noised:
    """A corrupted batch, on the host or on an engine.

    Attributes:
        x_0: (B, L) int, clean tokens. With block diffusion the batch is twice as long: x_0 twice.
        x_t: (B, L) int, the same with [MASK] where masked; with block diffusion [x_t ; x_0].
        weight: (B, L) float32, 0 where not masked.
        t: (B,) float32, the time of each row, as denoisers conditioned on it see it everywhere: the share of its
            tokens that is masked, or is expected to be.
        head_rows: (N,) int, flattened positions at which the head runs, among them all that weigh anything; None
            runs it at all.
    """

    x_0: Array
    x_t: Array
    weight: Array
    t: Array
    head_rows: Array | None = None

    def rows(self, start: int, stop: int, scale: float) -> Noised:
        """Rows start..stop with their weights multiplied by `scale`."""
        part = slice(start, stop)
        return Noised(self.x_0[part], self.x_t[part], self.weight[part] * np.float32(scale), self.t[part])


def head_rows(weight: np.ndarray, vocab_size: int, *, always: bool = False) -> np.ndarray | None:
    """Where the head needs to run in training: at what is masked, and at some that weigh nothing, to fill up.

    Args:
        weight: (B, L), 0 where not masked.
        vocab_size: V.
        always: pick them whatever V is, where most weigh nothing.

    Returns:
        (N,) int64, ascending, flattened positions, N being one of 16 sizes; None where V is so small that it does not
        pay.
    """
    if vocab_size < HEAD_ON_MASKED_FROM and not always:
        return None
    idle = weight.reshape(-1) == 0
    part = -(-idle.size // _PARTS)
    parts = max(1, -(-(idle.size - int(idle.sum())) // part))
    return np.sort(np.argsort(idle, kind="stable")[: parts * part])


class _Draw(NamedTuple):
    """What an objective decides from: times, position noise, and where masks may fall."""

    curve: Schedule
    time: np.ndarray  # (B,) uniform in [0, 1)
    u: np.ndarray  # (B, L) uniform
    maskable: np.ndarray  # (B, L) bool
    length: np.ndarray  # (B,) number of maskable positions


class _Masks(NamedTuple):
    masked: np.ndarray  # (B, L) bool
    weight: np.ndarray  # (B,) weight of a masked token of the row
    t: np.ndarray  # (B,)


def _per_token(draw: _Draw, weight: np.ndarray) -> np.ndarray:
    """Weights (B,) of a sequence's bound, as weights of the batch's mean bound per token."""
    return weight / np.maximum(draw.length, 1) / len(weight)


def _nelbo(draw: _Draw) -> _Masks:
    p = 1.0 - draw.curve.alpha(draw.time)
    masked = mask_by_probability(draw.maskable, p, draw.u)
    count = masked.sum(axis=1)
    weight = np.zeros(len(count))
    for length in np.unique(draw.length):  # one table per distinct number of maskable tokens
        rows = draw.length == length
        weight[rows] = weight_by_count(draw.curve, int(length))[count[rows]]
    return _Masks(masked, _per_token(draw, weight), p)


def _nelbo_t(draw: _Draw) -> _Masks:
    t = T_MIN + (1.0 - T_MIN) * draw.time
    p = 1.0 - draw.curve.alpha(t)
    masked = mask_by_probability(draw.maskable, p, draw.u)
    return _Masks(masked, _per_token(draw, (1.0 - T_MIN) * draw.curve.weight(t)), p)


def _exact_k(draw: _Draw) -> _Masks:
    count = np.minimum(1 + np.floor(draw.time * draw.length), draw.length).astype(np.int64)
    masked = mask_by_count(draw.maskable, count, draw.u)
    fraction = count / np.maximum(draw.length, 1)
    return _Masks(masked, _per_token(draw, draw.length / np.maximum(count, 1)), fraction)


def _pooled(draw: _Draw) -> _Masks:
    p = 1.0 - draw.curve.alpha(draw.time)
    masked = mask_by_probability(draw.maskable, p, draw.u)
    return _Masks(masked, np.full(len(masked), 1.0 / max(1, masked.sum())), p)


OBJECTIVES: dict[str, Callable[[_Draw], _Masks]] = {
    "nelbo": _nelbo,
    "nelbo_t": _nelbo_t,
    "exact_k": _exact_k,
    "pooled": _pooled,
}
BLOCK = "block"


@dataclass(frozen=True)
class Objective:
    """An objective by name; see the table at the top of this file.

    Attributes:
        settings: the group `objective` of a configuration.
    """

    settings: ObjectiveSettings

    def __post_init__(self) -> None:
        name, sampling = self.settings.name, self.settings.time_sampling
        known = (*OBJECTIVES, BLOCK)
        if name not in known:
            raise ConfigError(f"unknown objective.name '{name}'{nearest(name, known)}")
        if sampling not in TIME_SAMPLINGS:
            raise ConfigError(f"unknown objective.time_sampling '{sampling}'{nearest(sampling, TIME_SAMPLINGS)}")
        schedule(self.settings.schedule, self.settings.schedule_power)

    @property
    def block_len(self) -> int:
        """Length of the blocks of block diffusion; 0 with every other objective."""
        return self.settings.block_len if self.settings.name == BLOCK else 0

    def layout(self, length: int) -> dict[str, np.ndarray]:
        """What the network is told of a batch of windows (B, length), beside the tokens, the same for all rows.

        Returns:
            Nothing; with block diffusion `positions` (1, 2L) int64 and `attention` (1, 2L, 2L) bool.
        """
        return doubled_layout(length, self.block_len) if self.block_len else {}

    def maskable(self, tokens: np.ndarray) -> np.ndarray:
        """(B, L) bool: everything but the prefix that is never masked."""
        return np.broadcast_to(np.arange(tokens.shape[1]) >= self.settings.context_len, tokens.shape)

    def noise(
        self,
        tokens: np.ndarray,
        maskable: np.ndarray,
        *,
        mask_id: int,
        seed: int,
        step: int,
        stream: str = "noise",
    ) -> Noised:
        """Corrupts a *global* batch: what one process would see, of which each of N takes its rows.

        Args:
            tokens: (B, L) int, x_0.
            maskable: (B, L) bool, positions that may be masked and are learnt (prompts are not).
            mask_id: id of [MASK].
            seed: seed of the run.
            step: optimizer step.
            stream: tells apart what is drawn for different ends.

        Returns:
            The corrupted batch; Σ weight · CE is its loss.
        """
        if self.block_len:
            return self._noise_blocks(tokens, maskable, mask_id, seed, step, stream)
        rows, width = tokens.shape
        time = draw_times(self.settings.time_sampling, uniforms(seed, f"{stream}-time", step, rows, 1)[:, 0])
        u = uniforms(seed, f"{stream}-position", step, rows, width)
        curve = schedule(self.settings.schedule, self.settings.schedule_power)
        masks = OBJECTIVES[self.settings.name](_Draw(curve, time, u, maskable, maskable.sum(axis=1)))
        weight = np.where(masks.masked, masks.weight[:, None], 0.0).astype(np.float32)
        x_t = np.where(masks.masked | self._hidden(maskable, seed, step, stream), mask_id, tokens).astype(np.int32)
        return Noised(tokens.astype(np.int32), x_t, weight, masks.t.astype(np.float32))

    def _noise_blocks(
        self, tokens: np.ndarray, maskable: np.ndarray, mask_id: int, seed: int, step: int, stream: str
    ) -> Noised:
        rows, width = tokens.shape
        blocks = -(-width // self.block_len)
        time = draw_times(self.settings.time_sampling, uniforms(seed, f"{stream}-time", step, rows, blocks).ravel())
        time = time[permutation(seed, f"{stream}-stratum", step, len(time))]  # or a block would have strata of its own
        u = uniforms(seed, f"{stream}-position", step, rows, width)
        masked, weight = mask_blocks(maskable, self.block_len, time, u)
        weight = weight / np.maximum(maskable.sum(axis=1, keepdims=True), 1) / rows
        hidden = self._hidden(maskable, seed, step, stream)
        x_t = np.where(np.concatenate([masked | hidden, hidden], axis=1), mask_id, np.tile(tokens, 2)).astype(np.int32)
        weight = np.concatenate([weight, np.zeros_like(weight)], axis=1).astype(np.float32)
        return Noised(np.tile(tokens, 2).astype(np.int32), x_t, weight, masked.mean(axis=1).astype(np.float32))

    def _hidden(self, maskable: np.ndarray, seed: int, step: int, stream: str) -> np.ndarray:
        """Which prompts are [MASK] too, (B, L) bool: those of whole rows, once the positions of the loss are fixed.

        This trains the unconditional branch of guidance (SMDM, arXiv:2410.18514, sft/finetune_mdm.py).
        """
        rows = uniforms(seed, f"{stream}-unconditional", step, len(maskable), 1) < self.settings.unconditional
        return rows & ~maskable

    def loss(self, forward: Callable[..., Array], noised: Noised, cross_entropy: Callable[..., Any]) -> Any:
        """The loss of a corrupted batch.

        Args:
            forward: (x_t (B, L), t (B,)) -> logits (B, L, V), on an engine; where the batch has `head_rows`, (x_t, t,
                head_rows (N,)) -> logits (N, V). An engine may have it give something else that stands for them.
            noised: the batch, on that engine.
            cross_entropy: (logits, or what stands for them, x_0, weight) -> Σ weight · CE, on that engine.
        """
        rows = noised.head_rows
        if rows is None:
            return cross_entropy(forward(noised.x_t, noised.t), noised.x_0, noised.weight)
        logits = forward(noised.x_t, noised.t, rows)
        return cross_entropy(logits, noised.x_0.reshape(-1)[rows], noised.weight.reshape(-1)[rows])
