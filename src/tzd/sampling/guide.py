"""The denoiser call: which rows and positions, at which time, guided, and without what may not be predicted."""

from __future__ import annotations

import numpy as np

from tzd.arrays import Array
from tzd.diffusion.denoiser import Denoiser, masked_fraction
from tzd.errors import UserError
from tzd.sampling.blocks import Cursor
from tzd.sampling.cache import Cache, cache_kind
from tzd.sampling.combination import Sampler


class Guide:
    """Asks a denoiser, as a sampler wants it asked.

    Guidance: l = l_u + (w + 1)(l_c − l_u) (Nie et al., 2025), l_u with [MASK] in the place of what was given.
    Where nothing was given there is nothing to be guided by, and no second pass.

    Args:
        denoiser: the model.
        sampler: the rules; `cfg_scale` is w, 0 is off. With `legacy` the index of a row's step is taken for the time,
            and [MASK] is not banned, as in Tiny Diffusion's own decoders.
        banned: (V,) bool, tokens that are not to be written, beside those that the denoiser bans; None bans no others.
        rows: number of rows of the canvas, B.
        width: of each row's window, W.

    Raises:
        UserError: `banned` has another shape, or leaves nothing.
        ConfigError: the denoiser has no such cache.
    """

    def __init__(self, denoiser: Denoiser, sampler: Sampler, banned: np.ndarray | None, rows: int, width: int) -> None:
        self.denoiser, self.sampler = denoiser, sampler
        kind = cache_kind(sampler.cache, denoiser)
        branches = 2 if sampler.cfg_scale > 0 else 1
        self._cache = (
            None if kind == "none" else Cache(denoiser, kind, sampler.cache_refresh, rows, width, branches=branches)
        )
        size = denoiser.vocab_size
        if banned is not None and (np.shape(banned) != (size,) or np.asarray(banned).dtype != bool):
            raise UserError(f"banned must be {size} truth values, one for each token, not {np.shape(banned)}")
        self._banned = np.zeros(size, dtype=bool) if denoiser.banned is None else denoiser.banned.copy()
        if banned is not None:
            self._banned |= banned
        if denoiser.mask_id < size and not sampler.legacy:
            self._banned[denoiser.mask_id] = True
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
        batch, given, seen, asked = tokens[rows], (frozen & inside)[rows], inside[rows], ask[rows]
        guided = self.sampler.cfg_scale > 0 and bool(given.any())
        if guided:
            batch = np.concatenate([batch, np.where(given, np.int32(self.denoiser.mask_id), batch)])
            seen, asked = np.concatenate([seen, seen]), np.concatenate([asked, asked])
        times = self._times(batch, seen, np.resize(cursor.index[rows], len(batch)))
        if self._cache is None:
            attention = {} if seen.all() else {"attention": seen}
            logits, _ = self.denoiser.forward(batch, t=times, rows=np.flatnonzero(asked), **attention)
        else:
            logits = self._cache.logits(batch, seen, asked, times, rows, cursor)
        logits = self.denoiser.xp.floats(logits)
        if guided:
            half = logits.shape[0] // 2
            logits = logits[half:] + (self.sampler.cfg_scale + 1) * (logits[:half] - logits[half:])
        return self._ban(logits), 1 + guided

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
