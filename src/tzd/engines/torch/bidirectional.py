"""LitGPT's attention without its causal mask. Importing this imports LitGPT, which takes seconds."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from litgpt.model import CausalSelfAttention
from torch import Tensor


class BidirectionalSelfAttention(CausalSelfAttention):
    """LitGPT's attention, but that a missing mask lets every token attend to every other.

    LitGPT has no setting for this: its attention is causal wherever no mask is given, and a mask rules out the fastest
    kernels.
    """

    def scaled_dot_product_attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, heads, L, width) -> (B, L, heads, width).

        Args:
            q: queries.
            k: keys, as many heads.
            v: values, as many heads.
            mask: bool, who attends to whom, or what broadcasts to it.
        """
        config = self.config
        if config.attention_logit_softcapping is not None:  # LitGPT adds its mask to the scores
            lowest = torch.finfo(q.dtype).min
            mask = q.new_zeros(()) if mask is None else torch.where(mask, q.new_zeros(()), lowest)
            return super().scaled_dot_product_attention(q, k, v, mask)
        scale = self.mscale**2 / math.sqrt(config.attention_scores_scalar or config.head_size)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).transpose(1, 2)
