"""The denoiser call: which rows and positions, at which time, guided, and without what may not be predicted."""

from __future__ import annotations

import numpy as np

from tzd.arrays import Array
from tzd.diffusion.denoiser import Denoiser, masked_fraction


def guided_logits(
    denoiser: Denoiser,
    tokens: np.ndarray,
    frozen: np.ndarray,
    ask: np.ndarray,
    cfg_scale: float,
    legacy_step: np.ndarray | None = None,
) -> tuple[Array, int]:
    """Logits at the positions asked for, after guidance and bans.

    Guidance: l = l_u + (w + 1)(l_c − l_u) (Nie et al., 2025), l_u with [MASK] in the place of what was given.
    Where nothing was given there is nothing to be guided by, and no second pass.

    Args:
        denoiser: the model.
        tokens: (B, W) int, x_t in each row's window.
        frozen: (B, W) bool, what was given.
        ask: (B, W) bool, where logits are wanted; rows without any do not enter the batch.
        cfg_scale: w; 0 is off.
        legacy_step: (B,) int, the index of each row's step where it is to be taken for the time and [MASK] is not
            banned, as in Tiny Diffusion's own decoders; None otherwise.

    Returns:
        (N, V) float32 at least, on the engine, in the order of np.nonzero(ask); and the number of denoiser calls
        that it counts for.
    """
    rows = ask.any(axis=1)
    batch, given = tokens[rows], frozen[rows]
    where = np.flatnonzero(ask[rows])
    guided = cfg_scale > 0 and bool(given.any())
    if guided:
        where = np.concatenate([where, where + batch.size])
        batch = np.concatenate([batch, np.where(given, np.int32(denoiser.mask_id), batch)])
    t = None
    if denoiser.time_conditioned:
        if legacy_step is None:
            t = masked_fraction(batch, denoiser.mask_id, denoiser.context_len)
        else:
            t = np.resize(np.minimum(legacy_step[rows], denoiser.time_steps - 1), len(batch))
    logits, _ = denoiser.forward(batch, t=t, rows=where)
    logits = denoiser.xp.floats(logits)
    if guided:
        conditional, unconditional = logits[: len(where) // 2], logits[len(where) // 2 :]
        logits = unconditional + (cfg_scale + 1) * (conditional - unconditional)
    return _ban(denoiser, logits, mask_too=legacy_step is None), 1 + guided


def _ban(denoiser: Denoiser, logits: Array, mask_too: bool) -> Array:
    """−inf where the column is no token: after guidance, in which −inf − −inf would not be a number."""
    columns = logits.shape[-1]
    banned = np.zeros(columns, dtype=bool) if denoiser.banned is None else denoiser.banned.copy()
    if denoiser.mask_id < columns:
        banned[denoiser.mask_id] = mask_too
    if not banned.any():
        return logits
    return denoiser.xp.where(denoiser.xp.asarray(banned), -np.inf, logits)
