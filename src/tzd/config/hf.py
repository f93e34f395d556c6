"""Models of the hub: what is said of one, and how each kind is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tzd.errors import CheckpointError

Config = Mapping[str, Any]  # the content of a repository's config.json

# Where a config.json says how long a text the model takes.
_LENGTHS = ("max_sequence_length", "max_position_embeddings", "n_positions")
# Positions begin behind the padding's: pad_token_id + 1 of them are lost (transformers, modeling_roberta.py).
_OFFSET_POSITIONS = ("camembert", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod")


@dataclass(frozen=True)
class Convention:
    """How a kind of model is called, beyond tokens in and logits out.

    Attributes:
        mask_id: id of [MASK] where neither the configuration nor the tokenizer says it.
        shift: whether the logits of position i are those of token i + 1, as an autoregressive model has them.
        attention: how its `forward` takes who may be attended to: "pads", (B, L) of 0 and 1; "full", the word for
            everything, or (B, 1, L, L) of truth values.
        ends: tokens at which an answer ends, where the tokenizer has them.
        longest: length of the texts that it is good for, where its configuration promises more.
    """

    mask_id: int | None = None
    shift: bool = False
    attention: str = "pads"
    ends: tuple[str, ...] = ()
    longest: int | None = None


CONVENTIONS: dict[str, Convention] = {
    # github.com/ML-GSAI/LLaDA, generate.py: mask_id=126336, logits as they come; the chat ends a turn with <|eot_id|>
    "llada": Convention(mask_id=126336, ends=("<|endoftext|>", "<|eot_id|>")),
    # github.com/DreamLM/Dream, generation_utils.py: attention_mask "full", cat(logits[:, :1], logits[:, :-1]);
    # beyond 2048 tokens it writes nonsense (DreamLM/Dream-Coder, issue 4), though config.json has 131072 positions
    "Dream": Convention(
        mask_id=151666, shift=True, attention="full", ends=("<|endoftext|>", "<|im_end|>"), longest=2048
    ),
}


@dataclass(frozen=True)
class HfConfig:
    """A model of the hub, as far as a sampler or a score has to know it; an `Architecture`.

    Attributes:
        name: the repository or folder.
        kind: the hub's `model_type`: llada, Dream, bert, …
        vocab_size: columns of the logits, V; those that are no tokens of the tokenizer are banned.
        mask_id: id of [MASK].
        block_size: longest text, L, without the special tokens around it.
        n_embedding_rows: rows of the token embedding.
        shift: see `Convention`.
        attention: see `Convention`.
        before: special tokens put before every window, such as [CLS]; they are never masked nor scored.
        behind: the same behind it, such as [SEP].
        ends: tokens at which an answer ends.
    """

    model_type: ClassVar[str] = "hf"
    time_steps: ClassVar[int] = 0

    name: str
    kind: str
    vocab_size: int
    mask_id: int
    block_size: int
    n_embedding_rows: int
    shift: bool = False
    attention: str = "pads"
    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()


def convention(config: Config) -> Convention:
    """How a model is called, by its `model_type`."""
    return CONVENTIONS.get(str(config.get("model_type")), Convention())


def window(config: Config, name: str) -> int:
    """The longest text that a model takes, special tokens included.

    Raises:
        CheckpointError: its configuration does not say.
    """
    length = next((config[key] for key in _LENGTHS if type(config.get(key)) is int and config[key] > 0), None)
    if length is None:
        raise CheckpointError(
            f"{name}: config.json does not say how long a text it takes; give one of {', '.join(_LENGTHS)} there"
        )
    if config.get("model_type") in _OFFSET_POSITIONS:
        length -= int(config.get("pad_token_id") or 0) + 1
    return min(length, convention(config).longest or length)
