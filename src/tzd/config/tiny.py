"""The settings of Tiny Diffusion's transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tzd.config.architecture import TOO_LARGE
from tzd.mapping import require


@dataclass(frozen=True)
class TinyConfig:
    """The architecture of a `tiny` denoiser (Tiny Diffusion's transformer), as a checkpoint holds it.

    Attributes:
        vocab_size: number of tokens, V; the head has V columns.
        mask_id: id of [MASK]; V unless the weights come from a system that put it elsewhere.
        n_layer: transformer blocks.
        n_head: attention heads; they divide `n_embd` into heads of even width.
        n_embd: width of the residual stream.
        block_size: longest sequence, L.
        intermediate_size: width of the MLP; 4 · n_embd if None.
        dropout: rate after attention and MLP, and on the embedding, while training.
        norm_eps: epsilon of the root-mean-square norms.
        rope_base: base of the rotary frequencies.
        time_steps: rows of the time embedding; 0 for a model that is not conditioned on time.
        value_residual: whether each layer but the first mixes its values with those of the first, by two learnt numbers
            (Zhou et al., arXiv:2410.17897, section 3).
        rotary_tables: whether the tables of rotary positions come with the weights (`rotary.cos`, `rotary.sin`), as
            in files of Tiny Diffusion's MLX port, which trained them; else they are computed.
    """

    model_type: ClassVar[str] = "tiny"

    vocab_size: int
    mask_id: int = -1
    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 384
    block_size: int = 256
    intermediate_size: int | None = None
    dropout: float = 0.0
    norm_eps: float = 1e-5
    rope_base: float = 10000.0
    time_steps: int = 0
    value_residual: bool = False
    rotary_tables: bool = False

    def __post_init__(self) -> None:
        if self.mask_id == -1:
            object.__setattr__(self, "mask_id", self.vocab_size)
        for name in ("vocab_size", "n_layer", "n_head", "n_embd", "block_size"):
            require(getattr(self, name) >= 1, f"model.{name} must be at least 1, not {getattr(self, name)}")
            require(getattr(self, name) < TOO_LARGE, f"model.{name}={getattr(self, name)} is larger than any model's")
        require(
            0 <= self.mask_id <= self.vocab_size,
            f"model.mask_id must lie in 0..{self.vocab_size}, not {self.mask_id}",
        )
        require(
            self.n_embd % self.n_head == 0,
            f"model.n_head={self.n_head} does not divide model.n_embd={self.n_embd}",
        )
        require(
            (self.n_embd // self.n_head) % 2 == 0,
            f"model.n_embd / model.n_head is {self.n_embd // self.n_head}; rotary positions need an even head width",
        )
        require(
            self.intermediate_size is None or self.intermediate_size >= 1,
            f"model.intermediate_size must be at least 1, not {self.intermediate_size}",
        )
        require(0 <= self.dropout < 1, f"model.dropout must lie in [0, 1), not {self.dropout}")
        require(self.norm_eps > 0, f"model.norm_eps must be positive, not {self.norm_eps}")
        require(self.rope_base > 0, f"model.rope_base must be positive, not {self.rope_base}")
        require(self.time_steps >= 0, f"model.time_steps must not be negative, not {self.time_steps}")

    @property
    def mlp_width(self) -> int:
        """Width of the MLP."""
        return self.intermediate_size or 4 * self.n_embd

    @property
    def n_embedding_rows(self) -> int:
        """Rows of the token embedding: V, and one more where [MASK] lies beyond the vocabulary."""
        return max(self.vocab_size, self.mask_id + 1)
