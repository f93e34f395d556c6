"""Block diffusion: masked diffusion within blocks, autoregression from block to block.

    log p(x) = Σ_b log p(x^b | x^<b),   each term bounded as in masked diffusion     (BD3-LM, arXiv:2503.09573, eq. 8)

A denoiser that is trained so attends within a block both ways, and to all earlier blocks, which are clean. Training
runs it once on [x_t ; x_0], 2L tokens at the positions 0..L-1 twice: a block of x_t attends to itself and to the
earlier blocks of x_0, a block of x_0 to itself and the earlier ones of x_0 (section 3.2 and appendix B.6). Blocks of
one token make an autoregressive model, whose bound is its likelihood.

Where a block is masked, exactly k of its n maskable tokens are, k uniform in 1..n, each weighing n/k: the any-order
form of the bound, which for a block of one token has no variance.
"""

from __future__ import annotations

import numpy as np

from tzd.diffusion.masking import mask_by_count


def split_blocks(x: np.ndarray, block_len: int) -> np.ndarray:
    """(B, L) -> (B · blocks, block_len), the last block of each row filled up with zeros (False)."""
    rows, length = x.shape
    blocks = -(-length // block_len)
    return np.pad(x, [(0, 0), (0, blocks * block_len - length)]).reshape(rows * blocks, block_len)


def join_blocks(x: np.ndarray, rows: int, length: int) -> np.ndarray:
    """(B · blocks, block_len) -> (B, L), what was filled up left out."""
    return x.reshape(rows, -1)[:, :length]


def block_counts(maskable: np.ndarray, block_len: int, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens of each block are masked.

    Args:
        maskable: (B, L) bool.
        block_len: length of the blocks.
        u: (B · blocks,) in [0, 1).

    Returns:
        (B · blocks,) the counts k, and (B · blocks,) the weights n/k; 0 where nothing is maskable.
    """
    length = split_blocks(maskable, block_len).sum(axis=1)
    count = np.minimum(1 + np.floor(u * length), length).astype(np.int64)
    return count, length / np.maximum(count, 1)


def mask_blocks(maskable: np.ndarray, block_len: int, time: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks every block by itself.

    Args:
        maskable: (B, L) bool.
        block_len: length of the blocks.
        time: (B · blocks,) in [0, 1), which decides how many.
        u: (B, L) in [0, 1), which decides where.

    Returns:
        (B, L) bool, what is masked; (B, L) float64, the weight n/k of its cross-entropies in a row's bound in nats,
        0 where nothing is masked.
    """
    rows, length = maskable.shape
    count, weight = block_counts(maskable, block_len, time)
    masked = mask_by_count(split_blocks(maskable, block_len), count, split_blocks(u, block_len))
    weights = np.where(masked, weight[:, None], 0.0)
    return join_blocks(masked, rows, length), join_blocks(weights, rows, length)


def block_attention(length: int, block_len: int) -> np.ndarray:
    """Who attends to whom in a text of which earlier blocks are clean: (L, L) bool, to one's own block and before."""
    block = np.arange(length) // block_len
    return block[:, None] >= block[None, :]


def doubled_layout(length: int, block_len: int) -> dict[str, np.ndarray]:
    """What a denoiser is told of [x_t ; x_0], beside the tokens.

    Returns:
        `positions` (1, 2L) int64; `attention` (1, 2L, 2L) bool, who attends to whom.
    """
    block = np.arange(length) // block_len
    within, before = block[:, None] == block[None, :], block[:, None] > block[None, :]
    attention = np.block([[within, before], [np.zeros_like(within), within | before]])
    return {"positions": np.tile(np.arange(length), 2)[None], "attention": attention[None]}
