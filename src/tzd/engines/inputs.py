"""What every engine's denoiser holds its inputs against before it computes."""

from __future__ import annotations

import numpy as np

from tzd.config import Architecture
from tzd.diffusion.blocks import block_attention
from tzd.diffusion.denoiser import masked_fraction, time_rows
from tzd.errors import UserError

# What matrices may be kept and multiplied in; no engine has all of them. "auto" is an engine's own choice for sampling.
PRECISIONS = ("auto", "32", "bf16", "int8", "int4")


def check_tokens(tokens: np.ndarray, config: Architecture, positions: np.ndarray | None = None) -> None:
    """UserError unless `tokens` is a (B, L) canvas that a denoiser of that architecture can take."""
    if tokens.ndim != 2 or not tokens.size:
        raise UserError(f"tokens must be a non-empty (B, L) array, not of shape {tokens.shape}")
    if tokens.shape[1] > config.block_size and positions is None:
        raise UserError(f"{tokens.shape[1]} tokens are longer than the model's window of {config.block_size}")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= config.n_embedding_rows:
        raise UserError(
            f"token {high if low >= 0 else low} is outside 0..{config.n_embedding_rows - 1}"
            f" ([MASK] is {config.mask_id})"
        )


def embedding_rows(t: np.ndarray | None, tokens: np.ndarray, config: Architecture, context_len: int) -> np.ndarray:
    """Rows of the time embedding for a canvas.

    Args:
        t: (B,) or (1,), as `Denoiser.forward` takes it; the masked fraction if None.
        tokens: (B, L) int.
        config: the architecture; it has a time embedding.
        context_len: length of the prefix that training never masked.

    Returns:
        (B,) int32.

    Raises:
        UserError: a time that cannot be.
    """
    t = masked_fraction(tokens, config.mask_id, context_len) if t is None else np.asarray(t)
    steps = config.time_steps
    if t.shape not in ((1,), (len(tokens),)):
        raise UserError(f"t must have one entry per row, ({len(tokens)},), not the shape {t.shape}")
    if np.issubdtype(t.dtype, np.integer):
        if not ((t >= 0) & (t < steps)).all():
            raise UserError(f"t={t.tolist()}: integers are rows of the time embedding, 0..{steps - 1}")
    elif not ((t >= 0) & (t <= 1)).all():
        raise UserError(f"t={t.tolist()}: a time lies in [0, 1], from clean to all [MASK]")
    return np.broadcast_to(time_rows(t, steps), (len(tokens),))


def banned_columns(config: Architecture) -> np.ndarray | None:
    """(V,) bool, the columns of the logits that are no tokens; None if there are none."""
    return np.arange(config.vocab_size) == config.mask_id if config.mask_id < config.vocab_size else None


def block_causal(attention: np.ndarray | None, length: int, block_len: int) -> np.ndarray | None:
    """Who attends to whom, where a model of block diffusion is not told for every pair: nobody to later blocks.

    Args:
        attention: as `Denoiser.forward` takes it.
        length: L.
        block_len: length of the model's blocks; 0 leaves everything as it is.

    Returns:
        As `Denoiser.forward` takes it; (B, L, L) or (1, L, L) for a model of block diffusion.
    """
    if not block_len or (attention is not None and attention.ndim == 3):
        return attention
    own = block_attention(length, block_len)[None]
    return own if attention is None else own & attention[:, None, :]
