"""The settings of SMDM's bidirectional encoder, and the sizes in which it was published.

Nie et al., "Scaling up Masked Diffusion Models on Text" (arXiv:2410.18514), github.com/ML-GSAI/SMDM,
lit_gpt/config.py and lit_gpt/diffmodel.py, which descend from LitGPT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tzd.config.architecture import TOO_LARGE
from tzd.errors import nearest
from tzd.mapping import require

NORMS = ("RMSNorm", "LayerNorm")
MLPS = ("LLaMAMLP", "GptNeoxMLP")
ROTARY_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class SmdmConfig:
    """The architecture of an `smdm` denoiser, as a checkpoint holds it. It is not conditioned on time.

    Attributes:
        vocab_size: number of tokens, V.
        mask_id: id of [MASK]; the embedding's last row, which lies behind the (padded) vocabulary, unless given.
        n_layer: transformer blocks.
        n_head: attention heads of the queries.
        n_embd: width of the residual stream.
        block_size: longest sequence, L.
        intermediate_size: width of the MLP; 4 · n_embd if None.
        n_query_groups: heads of keys and values, each shared by as many queries; n_head if None.
        bias: whether attention, and a GptNeoxMLP, have biases.
        norm_class_name: RMSNorm or LayerNorm, with weights.
        norm_eps: epsilon of the norms.
        mlp_class_name: LLaMAMLP (SwiGLU, arXiv:2002.05202) or GptNeoxMLP (GELU).
        rotary_percentage: share of each head that is rotated.
        rope_base: base of the rotary frequencies.
        rotary_dtype: the tables' precision: float32, or bfloat16, in which SMDM itself keeps them.
        parallel_residual: whether the MLP reads what the attention reads, instead of what it writes.
        shared_attention_norm: whether a parallel MLP has no norm of its own.
        padding_multiple: embedding and head have so many rows that this divides their number; those behind the
            vocabulary are no tokens, and have no logits.
    """

    model_type: ClassVar[str] = "smdm"
    time_steps: ClassVar[int] = 0

    vocab_size: int
    mask_id: int = -1
    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 384
    block_size: int = 256
    intermediate_size: int | None = None
    n_query_groups: int | None = None
    bias: bool = False
    norm_class_name: str = "RMSNorm"
    norm_eps: float = 1e-5
    mlp_class_name: str = "LLaMAMLP"
    rotary_percentage: float = 1.0
    rope_base: float = 10000.0
    rotary_dtype: str = "float32"
    parallel_residual: bool = False
    shared_attention_norm: bool = False
    padding_multiple: int = 1

    def __post_init__(self) -> None:
        for name in ("vocab_size", "n_layer", "n_head", "n_embd", "block_size", "padding_multiple"):
            require(getattr(self, name) >= 1, f"model.{name} must be at least 1, not {getattr(self, name)}")
            require(getattr(self, name) < TOO_LARGE, f"model.{name}={getattr(self, name)} is larger than any model's")
        if self.mask_id == -1:
            object.__setattr__(self, "mask_id", self.padded_vocab_size)
        require(
            0 <= self.mask_id <= self.padded_vocab_size,
            f"model.mask_id must lie in 0..{self.padded_vocab_size}, not {self.mask_id}",
        )
        for name in ("intermediate_size", "n_query_groups"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"model.{name} must be at least 1, not {value}")
        for name, known in (
            ("norm_class_name", NORMS),
            ("mlp_class_name", MLPS),
            ("rotary_dtype", ROTARY_DTYPES),
        ):
            value = getattr(self, name)
            require(value in known, f"unknown model.{name} '{value}'{nearest(value, known)}")
        require(self.norm_eps > 0, f"model.norm_eps must be positive, not {self.norm_eps}")
        require(self.rope_base > 0, f"model.rope_base must be positive, not {self.rope_base}")
        self._check_heads()

    def _check_heads(self) -> None:
        require(
            self.n_embd % self.n_head == 0,
            f"model.n_head={self.n_head} does not divide model.n_embd={self.n_embd}",
        )
        require(
            self.n_head % self.groups == 0,
            f"model.n_query_groups={self.groups} does not divide model.n_head={self.n_head}",
        )
        require(
            0 < self.rotary_percentage <= 1,
            f"model.rotary_percentage must lie in (0, 1], not {self.rotary_percentage}",
        )
        require(
            self.rotary_width >= 2 and self.rotary_width % 2 == 0,
            f"model.rotary_percentage={self.rotary_percentage} of a head of width {self.head_size} is"
            f" {self.rotary_width}; rotary positions need an even width",
        )
        require(
            self.parallel_residual or not self.shared_attention_norm,
            "model.shared_attention_norm=true needs model.parallel_residual=true",
        )

    @property
    def mlp_width(self) -> int:
        """Width of the MLP."""
        return self.intermediate_size or 4 * self.n_embd

    @property
    def groups(self) -> int:
        """Heads of keys and values."""
        return self.n_query_groups or self.n_head

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.n_embd // self.n_head

    @property
    def rotary_width(self) -> int:
        """How much of a head is rotated."""
        return int(self.rotary_percentage * self.head_size)

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the head."""
        return -(-self.vocab_size // self.padding_multiple) * self.padding_multiple

    @property
    def n_embedding_rows(self) -> int:
        """Rows of the token embedding: one more than the head has."""
        return self.padded_vocab_size + 1


@dataclass(frozen=True)
class Size:
    """What tells the published sizes apart.

    Attributes:
        n_layer: transformer blocks.
        n_head: attention heads.
        n_embd: width of the residual stream.
        intermediate_size: width of the MLP.
    """

    n_layer: int
    n_head: int
    n_embd: int
    intermediate_size: int


# Named for their millions of parameters beside embedding and head. All have 32000 tokens, windows of 2048, RMSNorm
# (eps 1e-5), SwiGLU, rotary positions in the whole head, and no biases.
SIZES = {
    "Diff_LLaMA_6M": Size(6, 4, 256, 1024),
    "Diff_LLaMA_19M": Size(8, 6, 384, 1536),
    "Diff_LLaMA_34M": Size(8, 8, 512, 2048),
    "Diff_LLaMA_48M": Size(9, 9, 576, 2304),
    "Diff_LLaMA_66M": Size(10, 10, 640, 2560),
    "Diff_LLaMA_75M": Size(16, 8, 640, 1600),
    "Diff_LLaMA_85M": Size(13, 10, 640, 2560),
    "Diff_LLaMA_113M": Size(12, 12, 768, 3072),
    "Diff_LLaMA_142M": Size(15, 12, 768, 3072),
    "Diff_LLaMA_170M": Size(18, 12, 768, 3072),
    "Diff_LLaMA_180M": Size(14, 14, 896, 3584),
    "Diff_LLaMA_206M": Size(16, 14, 896, 3584),
    "Diff_LLaMA_231M": Size(18, 14, 896, 3584),
    "Diff_LLaMA_268M": Size(16, 16, 1024, 4096),
    "Diff_LLaMA_302M": Size(18, 16, 1024, 4096),
    "Diff_LLaMA_336M": Size(20, 16, 1024, 4096),
    "Diff_LLaMA_472M": Size(18, 10, 1280, 5120),
    "Diff_LLaMA_551M": Size(21, 10, 1280, 5120),
    "Diff_LLaMA_571M": Size(18, 11, 1408, 5632),
    "Diff_LLaMA_629M": Size(24, 10, 1280, 5120),
    "Diff_LLaMA_666M": Size(21, 11, 1408, 5632),
    "Diff_LLaMA_717M": Size(19, 12, 1536, 6144),
    "Diff_LLaMA_761M": Size(24, 11, 1408, 5632),
    "Diff_LLaMA_831M": Size(22, 12, 1536, 6144),
    "Diff_LLaMA_944M": Size(25, 12, 1536, 6144),
    "Diff_LLaMA_1028M": Size(20, 14, 1792, 7168),
    "Diff_LLaMA_1233M": Size(24, 14, 1792, 7168),
    "Diff_LLaMA_1476M": Size(22, 16, 2048, 8192),
    "Diff_LLaMA_1678M": Size(25, 16, 2048, 8192),
    "Diff_LLaMA_2121M": Size(28, 17, 2176, 8704),
}
