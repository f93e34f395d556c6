"""The `litgpt` denoiser: LitGPT's own GPT (github.com/Lightning-AI/litgpt), made bidirectional in every block.

Embedding, blocks, norms and head are LitGPT's modules, so parameters have LitGPT's names. Three things are other than
there: attention has no causal mask, [MASK] has an embedding row behind the vocabulary, and only the vocabulary has
logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tzd.config import LitgptConfig
from tzd.engines.torch.tiny import attention_mask
from tzd.errors import MissingExtraError


class Litgpt(nn.Module):
    """x_t → logits over clean tokens.

    Args:
        config: the architecture.

    Raises:
        MissingExtraError: LitGPT is not installed.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: LitgptConfig) -> None:
        super().__init__()
        try:
            from litgpt.model import GPT

            from tzd.engines.torch.bidirectional import BidirectionalSelfAttention
        except ModuleNotFoundError as error:
            raise MissingExtraError("model_type=litgpt", "litgpt") from error
        self.config = config
        theirs = library_config(config)
        gpt = GPT(theirs)
        for layer, block in enumerate(gpt.transformer.h):
            block.attn = BidirectionalSelfAttention(theirs, layer)
        if config.n_embedding_rows != config.padded_vocab_size:
            gpt.transformer.wte = nn.Embedding(config.n_embedding_rows, config.n_embd)
        self.lm_head: nn.Linear = gpt.lm_head
        self.transformer: nn.ModuleDict = gpt.transformer
        for name in ("cos", "sin"):
            self.register_buffer(name, getattr(gpt, name), persistent=False)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        attention: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Logits of the tokens, not of the padding; see `tzd.diffusion.denoiser.Denoiser.forward`."""
        config = self.config
        length = tokens.shape[1]
        cos, sin = (t[None, :length] if positions is None else t[positions] for t in (self.cos, self.sin))
        mask = attention_mask(attention)
        x = self.transformer["wte"](tokens)
        if config.scale_embeddings:
            x = x * torch.tensor(config.n_embd**0.5, dtype=x.dtype)
        blocks: Any = self.transformer["h"]
        for layer, block in enumerate(blocks):
            if config.rope_indices is None:
                x = block(x, cos, sin, mask)
            else:
                table = config.rope_indices[layer]
                x = block(x, cos[..., table], sin[..., table], mask)
        if config.shift_logits:  # what stands at one position predicts the next; the first has nothing before it
            x = torch.cat((x[:, :1], x[:, :-1]), dim=1)
        if rows is not None:
            x = x.reshape(-1, x.shape[-1])[rows]
        return self._head(self.transformer["ln_f"](x))

    def _head(self, x: Tensor) -> Tensor:
        tokens, cap = self.config.vocab_size, self.config.final_logit_softcapping
        if type(self.lm_head) is nn.Linear:
            bias = None if self.lm_head.bias is None else self.lm_head.bias[:tokens]
            logits = F.linear(x, self.lm_head.weight[:tokens], bias)
        else:  # made for sampling, without the padding
            logits = self.lm_head(x)
        return logits if cap is None else torch.tanh(logits / cap) * cap


def library_config(config: LitgptConfig) -> Any:
    """LitGPT's `Config` of an architecture. Its classes are looked up by the names that `LitgptConfig` has checked."""
    from litgpt.config import Config

    ours = ("mask_id", "shift_logits", "norm_unit_offset", "norm_affine", "rope_indices")
    fields = {name: value for name, value in vars(config).items() if name not in ours}
    # where LitGPT goes by a part of a model's name, it is given that part
    fields["name"] = "Gemma" if config.norm_unit_offset else "" if config.norm_affine else "OLMo"
    fields["intermediate_size"] = config.intermediate_size or 4 * config.n_embd
    fields["rope_indices"] = None if config.rope_indices is None else list(config.rope_indices)
    return Config(padded_vocab_size=config.padded_vocab_size, **fields)


def shapes(config: LitgptConfig) -> dict[str, tuple[int, ...]]:
    """The parameters of an architecture: name -> shape. No memory is taken for them."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Litgpt(config).state_dict().items()}
