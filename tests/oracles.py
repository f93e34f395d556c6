"""Denoisers whose every probability is known."""

from __future__ import annotations

from itertools import product

import numpy as np

from tzd.diffusion.denoiser import FunctionDenoiser


def tabular_denoiser(vocab_size: int, seq_len: int, seed: int) -> FunctionDenoiser:
    """Arbitrary logits for every canvas: no joint distribution need fit them, which is what a trained model is like."""
    table = np.random.default_rng(seed).normal(size=((vocab_size + 1) ** seq_len, seq_len, vocab_size))

    def logits(tokens: np.ndarray) -> np.ndarray:
        place = (vocab_size + 1) ** np.arange(tokens.shape[1])
        return table[tokens @ place][:, : tokens.shape[1]]

    return FunctionDenoiser(logits, vocab_size, seq_len)


def enumerated_nelbo(denoiser: FunctionDenoiser, tokens: np.ndarray) -> float:
    """The bound in nats, straight from its definition: a sum over all masks, one at a time."""
    length, total = len(tokens), 0.0
    masks = [np.array(m) for m in product((False, True), repeat=length) if any(m)]
    for n in range(1, length + 1):
        of_size = [m for m in masks if m.sum() == n]
        cross_entropies = []
        for mask in of_size:
            x_t = np.where(mask, denoiser.mask_id, tokens)[None]
            logits = denoiser.function(x_t)[0]
            log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            cross_entropies.append(-log_p[np.arange(length), tokens][mask].mean())
        total += float(np.mean(cross_entropies))
    return total
