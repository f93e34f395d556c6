"""The settings of the groups `data`, `tokenizer` and `objective`: what is read, and how it is corrupted."""

from __future__ import annotations

from dataclasses import dataclass

from tzd.mapping import require


@dataclass(frozen=True)
class DataSettings:
    """Hydra group `data`: the corpus and its windows.

    Attributes:
        name: a named corpus (shakespeare, pydocs, text, text8, markov), pairs, shards or stream.
        path: for `text`: a file, several (separated by commas), a folder or a glob; for `shards`: their folder.
        data_dir: folder in which corpora are looked for first.
        batch_size: windows per process and forward pass.
        block_size: window length, in tokens.
        num_workers: processes that prepare batches; 0 does it in the training process, which is fast enough for
            token arrays.
        dataset: a dataset of Hugging Face's library in place of `path`: a name on the hub, a folder or a file.
        subset: its subset, also called configuration, where it has several.
        prompt_key: for `pairs`: the key, or column, of a row's prompt.
        answer_key: for `pairs`: that of its answer.
        messages_key: for `pairs`: that of a conversation, a list of messages with `role` and `content`, which takes the
            place of the two.
        chat_template: for `pairs`: whether prompts are written by the tokenizer's chat template: true, false, or
            "auto": where there is one.
        too_long: for `pairs`: what is done about pairs that no window holds: error, or drop (it says how many).
        column: for `stream`: the column that holds a document.
        shuffle_buffer: for `stream`: documents among which the next one is drawn; 0 keeps the dataset's order.
        held_out_documents: for `stream`: documents to validate on, and as many to test on: the first of the dataset's
            splits of these names, or else of all.
    """

    name: str = "shakespeare"
    path: str | None = None
    data_dir: str | None = None
    batch_size: int = 16
    block_size: int = 256
    num_workers: int = 0
    dataset: str | None = None
    subset: str | None = None
    prompt_key: str = "prompt"
    answer_key: str = "answer"
    messages_key: str = "messages"
    chat_template: bool | str = "auto"
    too_long: str = "error"
    column: str = "text"
    shuffle_buffer: int = 1000
    held_out_documents: int = 1000

    def __post_init__(self) -> None:
        require(
            isinstance(self.chat_template, bool) or self.chat_template == "auto",
            f"data.chat_template must be true, false or auto, not '{self.chat_template}'",
        )
        require(self.too_long in ("error", "drop"), f"data.too_long must be error or drop, not '{self.too_long}'")
        require(self.batch_size >= 1, f"data.batch_size must be at least 1, not {self.batch_size}")
        require(self.block_size >= 1, f"data.block_size must be at least 1, not {self.block_size}")
        require(self.num_workers >= 0, f"data.num_workers must not be negative, not {self.num_workers}")
        require(self.shuffle_buffer >= 0, f"data.shuffle_buffer must not be negative, not {self.shuffle_buffer}")
        require(
            self.held_out_documents >= 1, f"data.held_out_documents must be at least 1, not {self.held_out_documents}"
        )


@dataclass(frozen=True)
class TokenizerSettings:
    """Hydra group `tokenizer`.

    Attributes:
        name: ascii, char, byte, bpe, hf, or corpus: that of the folder of shards.
        vocab_size: for `bpe`: number of tokens to train.
        pretrained_model_name_or_path: for `hf`: a name on the hub or a local folder.
    """

    name: str = "char"
    vocab_size: int | None = None
    pretrained_model_name_or_path: str | None = None


@dataclass(frozen=True)
class ObjectiveSettings:
    """Hydra group `objective`: what is corrupted, and how it is weighted.

    The default is what learnt fastest when measured (docs/log.md). Whatever trains, the NELBO is what is reported.

    Attributes:
        name: nelbo, nelbo_t, exact_k, pooled or block.
        block_len: for `block`: length of the blocks; 1 is an autoregressive model.
        schedule: masking schedule: linear, cosine, sine or poly.
        schedule_power: k of the `poly` schedule p_t = t^k.
        time_sampling: independent, jittered or systematic.
        context_len: length of a prefix that is never masked.
        unconditional: share of the rows whose prompt is [MASK] throughout, so that a sampler has something to guide
            away from (`cfg_scale`).
    """

    name: str = "pooled"
    block_len: int = 16
    schedule: str = "linear"
    schedule_power: float = 1.0
    time_sampling: str = "jittered"
    context_len: int = 0
    unconditional: float = 0.0

    def __post_init__(self) -> None:
        require(self.block_len >= 1, f"objective.block_len must be at least 1, not {self.block_len}")
        require(
            self.name != "block" or self.schedule == "linear",
            f"objective.schedule={self.schedule}: block diffusion masks uniformly many tokens of a block; leave it out",
        )
        require(0 <= self.unconditional < 1, f"objective.unconditional must lie in [0, 1), not {self.unconditional}")
        require(self.context_len >= 0, f"objective.context_len must not be negative, not {self.context_len}")
        require(
            0.05 <= self.schedule_power <= 100,
            f"objective.schedule_power must lie in 0.05..100, not {self.schedule_power}",
        )
