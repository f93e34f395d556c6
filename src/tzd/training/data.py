"""What a run reads: its examples to train on and its held-out text, with the tokenizer that makes tokens of both."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tzd.config import RunConfig
from tzd.corpus import SPLITS, Batch, Tokenizer, Windows, evaluation_windows, make_tokenizer, open_corpus, token_array
from tzd.corpus.chat import TEMPLATE_FILES, ChatTemplate, PairTokenizer, read_template
from tzd.corpus.conversations import open_pairs
from tzd.corpus.packing import Packer
from tzd.corpus.pairs import tokenize
from tzd.corpus.shards import open_shards
from tzd.corpus.stream import StreamedWindows, open_stream
from tzd.corpus.windows import TokenRow
from tzd.errors import ConfigError, CorpusError
from tzd.hub import repository
from tzd.mapping import require


class Examples(Protocol):
    """An endless sequence of rows to train on, whose g-th is a pure function of the seed and g."""

    @property
    def per_epoch(self) -> int:
        """Rows in which everything there is to train on is seen once."""
        ...

    def batch(self, first: int, count: int) -> Batch:
        """Rows `first` to `first + count - 1` of the sequence."""
        ...


@dataclass(frozen=True)
class TrainingData:
    """A run's data, opened.

    Attributes:
        name: of the corpus.
        sha256: of the corpus; a run is resumed on the same one only.
        tokenizer: text <-> tokens.
        examples: what is trained on.
        validation: the rows that are scored while training, as `tzd.diffusion.likelihood.nelbo` takes them.
        test: those that a finished run is scored on; none where the test split is too short.
        characters_per_token: of what is scored of the validation split.
        test_characters_per_token: of what is scored of the test split.
        prompt: (P,) int32, what a sample drawn while training goes on from; it may be empty.
    """

    name: str
    sha256: str
    tokenizer: Tokenizer
    examples: Examples
    validation: tuple[np.ndarray | Batch, ...]
    test: tuple[np.ndarray | Batch, ...]
    characters_per_token: float
    test_characters_per_token: float
    prompt: np.ndarray


def open_data(config: RunConfig, *, progress: bool = False) -> TrainingData:
    """Opens the corpus and checks the configuration against it.

    Args:
        config: the run.
        progress: whether to show how far a download is, and to say what is left out.

    Raises:
        CorpusError: there is no such text, or too little of it.
    """
    return OPENERS.get(config.data.name, _open_text)(config, progress)


def _open_text(config: RunConfig, progress: bool) -> TrainingData:
    """A text, cut into windows."""
    corpus = open_corpus(config.data.name, path=config.data.path, data_dir=config.data.data_dir, progress=progress)
    tokenizer = make_tokenizer(config.tokenizer, corpus)
    train, validation, test = (token_array(corpus, tokenizer, split) for split in SPLITS)
    windows = Windows(train, config.data.block_size, config.seed)
    characters = len(corpus.splits["validation"]), len(corpus.splits["test"])
    return _held_out_windows(config, corpus.name, corpus.sha256, tokenizer, windows, validation, test, characters)


def _open_shards(config: RunConfig, progress: bool) -> TrainingData:
    """A folder of shards, cut into windows."""
    require(config.data.path is not None, "data=shards needs data.path=FOLDER, which tzd corpus build makes")
    corpus = open_shards(str(config.data.path))
    corpus.check_tokenizer(config.tokenizer)
    train, validation, test = (corpus.tokens(split) for split in SPLITS)
    windows = Windows(train, config.data.block_size, config.seed)
    splits = corpus.index.splits
    characters = splits.validation.characters, splits.test.characters
    return _held_out_windows(
        config, corpus.name, corpus.index.sha256, corpus.tokenizer, windows, validation, test, characters
    )


def _open_stream(config: RunConfig, progress: bool) -> TrainingData:
    """A stream of documents, cut into windows as it is read."""
    settings, training = config.data, config.training
    require(settings.num_workers <= 1, "a stream has one end: set data.num_workers to 1 or 0")
    if training.max_steps is None:
        raise ConfigError("nobody knows the length of a stream: set training.max_steps, which is its epoch")
    stream = open_stream(settings, config.seed)
    packer = Packer(make_tokenizer(config.tokenizer, stream))
    validation, test = (stream.held_out(split, packer) for split in ("validation", "test"))
    per_epoch = training.max_steps * settings.batch_size * training.gradient_accumulation_steps
    windows = StreamedWindows(stream, packer, settings.block_size, per_epoch)
    characters = int(validation.character_ends.max(initial=0)), int(test.character_ends.max(initial=0))
    sha256 = hashlib.sha256(validation.tokens.tobytes()).hexdigest()  # nobody has read the rest
    return _held_out_windows(
        config, stream.name, sha256, packer.tokenizer, windows, validation.tokens, test.tokens, characters
    )


def _held_out_windows(
    config: RunConfig,
    name: str,
    sha256: str,
    tokenizer: Tokenizer,
    windows: Examples,
    validation: TokenRow,
    test: TokenRow,
    characters: tuple[int, int],
) -> TrainingData:
    """The data of a run on windows, with those of the held-out tokens; `characters`: of either held-out split."""
    length, limit, context = config.data.block_size, config.training.val_windows, config.objective.context_len
    if len(validation) <= context:
        raise CorpusError(
            f"the validation split has {len(validation)} tokens, and the first {context} of a window are never scored:"
            f" it takes at least {context + 1}; use a longer text (data.path)"
        )
    scored = tuple(evaluation_windows(validation, length, limit))
    return TrainingData(
        name=name,
        sha256=sha256,
        tokenizer=tokenizer,
        examples=windows,
        validation=scored,
        test=tuple(evaluation_windows(test, length, limit)) if len(test) > context else (),
        characters_per_token=characters[0] / max(1, len(validation)),
        test_characters_per_token=characters[1] / max(1, len(test)),
        prompt=scored[0][0, :context],
    )


def _open_pairs(config: RunConfig, progress: bool) -> TrainingData:
    """Prompts and answers."""
    settings, context = config.data, config.objective.context_len
    require(not context, f"objective.context_len={context} is for texts; what data=pairs never masks are the prompts")
    pairs = open_pairs(settings, progress=progress)
    tokenizer = PairTokenizer(make_tokenizer(config.tokenizer, pairs), _chat_template(config))
    train, validation, test = (
        tokenize(
            pairs.splits[split], tokenizer, settings.block_size, drop=settings.too_long == "drop", seed=config.seed
        )
        for split in SPLITS
    )
    dropped = train.dropped + validation.dropped + test.dropped
    if dropped and progress:  # which one process shows
        said = sum(map(len, pairs.splits.values()))
        print(f"{dropped:,} of {said:,} pairs are left out: longer than data.block_size", file=sys.stderr)
    if not train.per_epoch or not validation.per_epoch:
        raise CorpusError(f"no pair is left to train or to validate on: raise data.block_size={settings.block_size}")
    limit = config.training.val_windows
    held_out = validation.evaluation(limit)
    return TrainingData(
        name=settings.name,
        sha256=pairs.sha256,
        tokenizer=tokenizer,
        examples=train,
        validation=(held_out,),
        test=(test.evaluation(limit),) if test.per_epoch else (),
        characters_per_token=validation.characters_per_token,
        test_characters_per_token=test.characters_per_token,
        prompt=held_out.tokens[0, : int(held_out.maskable[0].argmax())],
    )


def _chat_template(config: RunConfig) -> ChatTemplate | None:
    """The template that comes with the tokenizer, if there is one and it is wanted."""
    name, wanted = config.tokenizer.pretrained_model_name_or_path, config.data.chat_template
    if wanted is False:
        return None
    template = read_template(repository(name, files=TEMPLATE_FILES)) if name is not None else None
    require(
        template is not None or wanted is not True,
        f"data.chat_template=true, but the tokenizer '{name or config.tokenizer.name}' has none",
    )
    return template


# What is no text cut into windows, by `data.name`.
OPENERS: dict[str, Callable[[RunConfig, bool], TrainingData]] = {
    "pairs": _open_pairs,
    "shards": _open_shards,
    "stream": _open_stream,
}
