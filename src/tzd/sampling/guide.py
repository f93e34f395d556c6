"""The denoiser call: which rows and positions, at which time, guided, and without what may not be predicted."""

from __future__ import annotations

import numpy as np

from tzd.arrays import Array
from tzd.diffusion.denoiser import Denoiser, masked_fraction
from tzd.errors import ConfigError, UserError
from tzd.sampling.blocks import Cursor
from tzd.sampling.cache import Cache, cache_kind
from tzd.sampling.combination import Sampler


class Guide:
    """Asks a denoiser, as a sampler wants it asked.

    Guidance: l = l_u + (w + 1)(l_c − l_u) (Nie et al., 2025), l_u with [MASK] in the place of what was given.
    A row in whose window nothing was given has nothing to be guided by, and does not enter a second time.

    Args:
        denoiser: the model.
        sampler: the rules; `cfg_scale` is w, 0 is off. With `legacy` the index of a row's step is taken for the time,
            and [MASK] is not banned, as in Tiny Diffusion's own decoders.
        banned: (V,) bool, tokens that are not to be written, beside those that the denoiser bans; None bans no others.
        rows: number of rows of the canvas, B.
        width: of each row's window, W.

    Raises:
        UserError: `banned` has another shape, or leaves nothing.
        ConfigError: the denoiser has no such cache, or no prior.
    """

    def __init__(self, denoiser: Denoiser, sampler: Sampler, banned: np.ndarray | None, rows: int, width: int) -> None:
        self.denoiser, self.sampler, self._width = denoiser, sampler, width
        if sampler.prior and denoiser.block_len:
            raise ConfigError("prior is for denoisers that attend both ways; one of block diffusion always sees a text")
        kind = cache_kind(sampler.cache, denoiser)
        branches = 2 if sampler.cfg_scale > 0 else 1
        self._cache = (
            None if kind == "none" else Cache(denoiser, kind, sampler.cache_refresh, rows, width, branches=branches)
        )
        size = denoiser.vocab_size
        if banned is not None and (np.shape(banned) != (size,) or np.asarray(banned).dtype != bool):
            kind = f"{np.shape(banned)} {np.asarray(banned).dtype}"
            raise UserError(f"banned must be {size} truth values, one for each token, not {kind}")
        self._banned = np.zeros(size, dtype=bool) if denoiser.banned is None else denoiser.banned.copy()
        if denoiser.mask_id < size:
            self._banned[denoiser.mask_id] = not sampler.legacy
        if banned is not None:
            self._banned |= banned
        if self._banned.all():
            raise UserError("every token is banned: there is nothing to write with")

    def logits(
        self, tokens: np.ndarray, frozen: np.ndarray, inside: np.ndarray, ask: np.ndarray, cursor: Cursor
    ) -> tuple[Array, int]:
        """Logits at the positions asked for, after guidance and bans.

        Args:
            tokens: (B, W) int, x_t in each row's window.
            frozen: (B, W) bool, what was given.
            inside: (B, W) bool, what is no padding.
            ask: (B, W) bool, where logits are wanted; rows without any do not enter the batch.
            cursor: where each row stands.

        Returns:
            (N, V) float32 at least, on the engine, in the order of np.nonzero(ask); and the number of denoiser calls
            that it counts for.
        """
        rows = np.flatnonzero(ask.any(axis=1))
        given = (frozen & inside)[rows]
        guided = given.any(axis=1) & (self.sampler.cfg_scale > 0)
        source = np.concatenate(
            [np.arange(len(rows)), np.flatnonzero(guided)]
        )  # these rows once, the guided ones again
        entered = rows[source]
        batch, seen, asked = tokens[entered], inside[entered], ask[entered]
        batch[len(rows) :][given[guided]] = self.denoiser.mask_id
        times = self._times(batch, seen, cursor.index[entered])
        if self._cache is None:
            attention = {} if seen.all() else {"attention": seen}
            logits, _ = self.denoiser.forward(batch, t=times, rows=np.flatnonzero(asked), **attention)
        else:
            logits = self._cache.logits(batch, seen, asked, times, rows, source, cursor)
        logits = self.denoiser.xp.floats(logits)
        if guided.any():
            logits = self._mix(logits, guided[np.nonzero(ask[rows])[0]])
        return self._ban(logits), 1 + bool(guided.any())

    def prior(self) -> np.ndarray:
        """What the denoiser writes into a window of which it sees nothing, on average over its positions; one call.

        Returns:
            (V,) float64, probabilities; what may not be written has none.
        """
        xp, blank = self.denoiser.xp, np.full((1, self._width), self.denoiser.mask_id, np.int32)
        times = self._times(blank, np.ones(blank.shape, bool), np.zeros(1, np.int64))
        logits, _ = self.denoiser.forward(blank, t=times, rows=np.arange(self._width))
        with np.errstate(invalid="ignore", over="ignore"):  # as where tokens are drawn, which says what is not finite
            probabilities = xp.to_numpy(xp.softmax(self._ban(xp.floats(logits))))
        return np.asarray(probabilities.mean(axis=0, dtype=np.float64))

    def _mix(self, logits: Array, guided: np.ndarray) -> Array:
        """Guided logits (N, V): of N conditional ones, followed by the unconditional ones where `guided` (N,) bool."""
        xp, place, count = self.denoiser.xp, np.flatnonzero(guided), len(guided)
        conditional, other = logits[:count], logits[count:]
        among = conditional if guided.all() else xp.rows(conditional, xp.asarray(place))
        with np.errstate(invalid="ignore", over="ignore"):  # −inf − −inf: what the model itself rules out stays so
            mixed = other + (self.sampler.cfg_scale + 1) * (among - other)
        mixed = xp.where(among == -np.inf, -np.inf, mixed)
        if guided.all():
            return mixed
        index = np.arange(count)
        index[place] = count + np.arange(len(place))
        return xp.rows(xp.concatenate([conditional, mixed]), xp.asarray(index))

    def _times(self, batch: np.ndarray, seen: np.ndarray, index: np.ndarray) -> np.ndarray | None:
        """(B,) t, for denoisers that are conditioned on it."""
        denoiser = self.denoiser
        if not denoiser.time_conditioned:
            return None
        if self.sampler.legacy:
            return np.minimum(index, denoiser.time_steps - 1)
        return masked_fraction(batch, denoiser.mask_id, denoiser.context_len, seen)

    def _ban(self, logits: Array) -> Array:
        """−inf where the column may not be written: after guidance, in which −inf − −inf would not be a number."""
        if not self._banned.any():
            return logits
        return self.denoiser.xp.where(self.denoiser.xp.asarray(self._banned), -np.inf, logits)
