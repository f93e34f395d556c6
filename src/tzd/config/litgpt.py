"""The settings of LitGPT's GPT (github.com/Lightning-AI/litgpt, litgpt/config.py), made bidirectional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tzd.config.architecture import TOO_LARGE
from tzd.errors import nearest
from tzd.mapping import require

NORMS = ("RMSNorm", "LayerNorm")
QK_NORMS = ("default", "olmo2")
MLPS = ("LLaMAMLP", "GptNeoxMLP", "GemmaMLP", "LLaMAMoE")
GELUS = ("none", "tanh")
ROPE_ADJUSTMENTS = ({"factor"}, {"factor", "low_freq_factor", "high_freq_factor", "original_max_seq_len"})


@dataclass(frozen=True)
class LitgptConfig:
    """The architecture of a `litgpt` denoiser, as a checkpoint holds it. It is not conditioned on time.

    Fields have LitGPT's names. What its code reads out of a model's name is a field here.

    Attributes:
        vocab_size: number of tokens, V.
        mask_id: id of [MASK]; an embedding row behind the (padded) vocabulary, unless given.
        n_layer: transformer blocks.
        n_head: attention heads of the queries.
        n_embd: width of the residual stream.
        block_size: longest sequence, L.
        head_size: width of a head; n_embd / n_head if None.
        n_query_groups: heads of keys and values, each shared by as many queries; n_head if None.
        intermediate_size: width of the MLP; 4 · n_embd if None.
        bias: whether attention and MLP have biases.
        attn_bias: whether queries, keys and values have, where `bias` is false.
        norm_class_name: RMSNorm or LayerNorm.
        norm_eps: epsilon of the norms.
        norm_unit_offset: whether an RMSNorm multiplies by 1 + weight (Gemma).
        norm_affine: whether a LayerNorm has weights (OLMo's has none).
        norm_1: whether attention reads a normalised residual stream.
        norm_2: whether the MLP does.
        norm_qk: whether queries and keys are normalised.
        norm_qk_type: "default" normalises each head, "olmo2" all heads together.
        post_attention_norm: whether what attention writes is normalised.
        post_mlp_norm: whether what the MLP writes is.
        parallel_residual: whether the MLP reads what attention reads, instead of what it writes.
        shared_attention_norm: whether a parallel MLP has no norm of its own.
        mlp_class_name: LLaMAMLP (SwiGLU), GptNeoxMLP (GELU), GemmaMLP (gated GELU) or LLaMAMoE (mixture of SwiGLUs).
        gelu_approximate: none or tanh.
        n_expert: experts of a mixture.
        n_expert_per_token: how many of them a token goes through.
        moe_intermediate_size: width of an expert; intermediate_size if None.
        rotary_percentage: share of each head that is rotated.
        rope_base: base of the rotary frequencies.
        rope_condense_ratio: positions are divided by it.
        rope_adjustments: `factor` alone, or Llama 3's four, by which frequencies are changed.
        rope_local_base_freq: base of the second table, where layers have one of two.
        rope_indices: for each layer, whether it uses the second table (1) or the first (0).
        attention_scores_scalar: scores are divided by its root; by that of head_size if None.
        attention_logit_softcapping: bound of the scores, by a tanh.
        final_logit_softcapping: bound of the logits, by a tanh.
        scale_embeddings: whether embeddings are multiplied by √n_embd.
        lm_head_bias: whether the head has a bias.
        padding_multiple: embedding and head have so many rows that this divides their number; those behind the
            vocabulary are no tokens, and have no logits.
        shift_logits: whether the network's output at one position is taken as the logits of the next (Dream,
            arXiv:2508.15487), as autoregressive weights have it.
    """

    model_type: ClassVar[str] = "litgpt"
    time_steps: ClassVar[int] = 0

    vocab_size: int
    mask_id: int = -1
    n_layer: int = 12
    n_head: int = 8
    n_embd: int = 512
    block_size: int = 256
    head_size: int | None = None
    n_query_groups: int | None = None
    intermediate_size: int | None = None
    bias: bool = False
    attn_bias: bool = False
    norm_class_name: str = "RMSNorm"
    norm_eps: float = 1e-5
    norm_unit_offset: bool = False
    norm_affine: bool = True
    norm_1: bool = True
    norm_2: bool = True
    norm_qk: bool = False
    norm_qk_type: str = "default"
    post_attention_norm: bool = False
    post_mlp_norm: bool = False
    parallel_residual: bool = False
    shared_attention_norm: bool = False
    mlp_class_name: str = "LLaMAMLP"
    gelu_approximate: str = "none"
    n_expert: int = 0
    n_expert_per_token: int = 0
    moe_intermediate_size: int | None = None
    rotary_percentage: float = 1.0
    rope_base: float = 10000.0
    rope_condense_ratio: int = 1
    rope_adjustments: dict[str, float] | None = None
    rope_local_base_freq: float | None = None
    rope_indices: tuple[int, ...] | None = None
    attention_scores_scalar: int | None = None
    attention_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    scale_embeddings: bool = False
    lm_head_bias: bool = False
    padding_multiple: int = 1
    shift_logits: bool = False

    def __post_init__(self) -> None:
        counted = ("vocab_size", "n_layer", "n_head", "n_embd", "block_size", "rope_condense_ratio", "padding_multiple")
        sizes = ("head_size", "n_query_groups", "intermediate_size", "moe_intermediate_size", "attention_scores_scalar")
        for name in (*counted, *(name for name in sizes if getattr(self, name) is not None)):
            require(getattr(self, name) >= 1, f"model.{name} must be at least 1, not {getattr(self, name)}")
            require(getattr(self, name) < TOO_LARGE, f"model.{name}={getattr(self, name)} is larger than any model's")
        if self.mask_id == -1:
            object.__setattr__(self, "mask_id", self.padded_vocab_size)
        require(
            0 <= self.mask_id <= self.padded_vocab_size,
            f"model.mask_id must lie in 0..{self.padded_vocab_size}, not {self.mask_id}",
        )
        for name, known in (
            ("norm_class_name", NORMS),
            ("norm_qk_type", QK_NORMS),
            ("mlp_class_name", MLPS),
            ("gelu_approximate", GELUS),
        ):
            value = getattr(self, name)
            require(value in known, f"unknown model.{name} '{value}'{nearest(value, known)}")
        capped = ("rope_local_base_freq", "attention_logit_softcapping", "final_logit_softcapping")
        for name in ("norm_eps", "rope_base", *(name for name in capped if getattr(self, name) is not None)):
            require(getattr(self, name) > 0, f"model.{name} must be positive, not {getattr(self, name)}")
        self._check_heads()
        self._check_rotation()
        self._check_experts()

    def _check_heads(self) -> None:
        require(
            self.head_size is not None or self.n_embd % self.n_head == 0,
            f"model.n_head={self.n_head} does not divide model.n_embd={self.n_embd}",
        )
        groups = self.n_query_groups or self.n_head
        require(
            self.n_head % groups == 0,
            f"model.n_query_groups={groups} does not divide model.n_head={self.n_head}",
        )
        require(
            self.parallel_residual or not self.shared_attention_norm,
            "model.shared_attention_norm=true needs model.parallel_residual=true",
        )
        require(
            self.norm_class_name == "RMSNorm" or not self.norm_unit_offset,
            "model.norm_unit_offset=true needs model.norm_class_name=RMSNorm",
        )
        require(
            self.norm_class_name == "LayerNorm" or self.norm_affine,
            "model.norm_affine=false needs model.norm_class_name=LayerNorm",
        )

    def _check_rotation(self) -> None:
        width = int(self.rotary_percentage * self.width_of_head)
        require(
            0 < self.rotary_percentage <= 1 and width >= 2 and width % 2 == 0,
            f"model.rotary_percentage={self.rotary_percentage} of a head of width {self.width_of_head} is"
            f" {width}; rotary positions need an even width within the head",
        )
        require(
            (self.rope_indices is None) == (self.rope_local_base_freq is None),
            "model.rope_indices and model.rope_local_base_freq go together: give both, or none",
        )
        indices = self.rope_indices
        require(
            indices is None or (len(indices) == self.n_layer and set(indices) <= {0, 1}),
            f"model.rope_indices must be {self.n_layer} numbers (model.n_layer), each 0 or 1, not {indices}",
        )
        adjusted = self.rope_adjustments
        require(
            adjusted is None
            or (set(adjusted) in ROPE_ADJUSTMENTS and all(_positive(value) for value in adjusted.values())),
            f"model.rope_adjustments must be a positive factor, or factor, low_freq_factor, high_freq_factor and"
            f" original_max_seq_len, not {adjusted}",
        )
        low, high = (adjusted or {}).get("low_freq_factor", 0), (adjusted or {}).get("high_freq_factor", 1)
        require(low < high, f"model.rope_adjustments: low_freq_factor={low} must be below high_freq_factor={high}")

    def _check_experts(self) -> None:
        if self.mlp_class_name == "LLaMAMoE":
            require(
                1 <= self.n_expert_per_token <= self.n_expert,
                f"model.mlp_class_name=LLaMAMoE needs model.n_expert_per_token in 1..n_expert,"
                f" not {self.n_expert_per_token} of {self.n_expert}",
            )
        else:
            require(
                self.n_expert == 0 and self.n_expert_per_token == 0 and self.moe_intermediate_size is None,
                "model.n_expert, n_expert_per_token and moe_intermediate_size need model.mlp_class_name=LLaMAMoE",
            )

    @property
    def width_of_head(self) -> int:
        """Width of a head."""
        return self.head_size or self.n_embd // self.n_head

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the head."""
        return -(-self.vocab_size // self.padding_multiple) * self.padding_multiple

    @property
    def n_embedding_rows(self) -> int:
        """Rows of the token embedding: one more than the head has where [MASK] lies behind it."""
        return max(self.padded_vocab_size, self.mask_id + 1)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < TOO_LARGE
