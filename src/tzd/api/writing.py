"""Writing text with a model, whole or step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tzd.api.model import Model
from tzd.api.numbers import whole
from tzd.api.showing import Run, ShownFrame, picture, shown
from tzd.corpus.chat import Message, PairTokenizer, user_says
from tzd.errors import UserError
from tzd.sampling import Frame, descriptions
from tzd.sampling import sampler as make_sampler
from tzd.sampling import stream as stream_canvas

Prompt = str | Sequence[Message] | Sequence[str | Sequence[Message] | Sequence[int] | np.ndarray] | np.ndarray
Ban = str | int | Iterable[str | int]
_PROMPTS = "a prompt is a text, whole numbers (P,), a conversation, or a list of such"
_LENGTH = 256  # new tokens, where nothing says how many
_LONGEST, _MOST_ROWS = 10**9, 10**6  # no memory holds more


@dataclass(frozen=True)
class Sample:
    """What a sampler wrote.

    Attributes:
        text: one text per row, the prompt included; empty for a model without a tokenizer. Where the model has learnt
            to end its answers (`data=pairs`), it ends there.
        tokens: (B, T) int32, prompts and what follows them; T is the longest row's.
        nfe: denoiser calls that it took; guidance counts two.
        lengths: (B,) int64, tokens of each row. Those behind are the model's [MASK], and part of nothing.
        answers: likewise as text, without what was given before the first blank.
        steps: (B, T) int32, the step that wrote each token; 0 for what was given.
        confidence: (B, T) float32, the denoiser's probability of each token when it was written; 1 for what was given.
        run: sampler, settings, seed and the like.
    """

    text: list[str]
    tokens: np.ndarray
    nfe: int
    lengths: np.ndarray
    answers: list[str]
    steps: np.ndarray = field(repr=False)
    confidence: np.ndarray = field(repr=False)
    run: Run = field(repr=False)

    def _repr_html_(self) -> str:
        """The texts in a notebook, coloured by confidence; where the pointer rests, when a token was written."""
        blank, none = self.confidence == 0, np.zeros(self.tokens.shape, bool)
        frame = ShownFrame(
            int(self.steps.max()), self.tokens, blank, none, self.confidence, self.nfe, self.lengths,
            steps=self.steps, run=self.run,
        )  # fmt: skip
        count = int(self.lengths.sum())
        return picture(frame, none, f"{count} {self.run.panel.unit} · NFE {self.nfe}")


def stream(
    model: Model,
    *,
    length: int | None = None,
    prompt: Prompt = "",
    sampler: str | None = None,
    batch_size: int = 1,
    seed: int = 0,
    chat: bool | None = None,
    ban: Ban = (),
    **settings: Any,
) -> Iterator[Frame]:
    """Denoises, one `Frame` per step.

    Args:
        model: what `load` returned.
        length: number of new tokens per row; beyond the model's window the text is written in connected windows. 256 if
            None; for a model that was trained on prompts and answers, what the prompt leaves of its window.
        prompt: what each row begins with: a text; (P,) tokens; or a conversation, a list of messages with "role" and
            "content", which is to be answered. Or a list of such, one for each row, of any lengths.
        sampler: a name; see `samplers`. None is the one that the model brings, or else "dilated".
        batch_size: rows, where the prompt does not say.
        seed: of every draw.
        chat: whether a prompt is written by the tokenizer's chat template: True, False, or None: as the model was
            trained, and for a model of the hub where the prompt is a conversation.
        ban: what is not to be written: single tokens, as texts or as their numbers.
        settings: the sampler's own, such as `steps`, `temperature`, `block_len`.

    Raises:
        UserError: a setting that the sampler does not have, a value out of its range, or an impossible prompt.
    """
    sampler, settings = model.way(sampler, settings)
    rule = make_sampler(sampler, **settings)
    rows = _prompt_rows(model, prompt, whole("batch_size", batch_size, 1, _MOST_ROWS), chat)
    given = np.array([len(row) for row in rows])
    lengths = given + (_room(model, given) if length is None else whole("length", length, 1, _LONGEST))
    canvas = np.full((len(rows), lengths.max()), model.mask_id, np.int32)
    canvas[np.arange(canvas.shape[1]) < given[:, None]] = np.concatenate(rows)
    frames = stream_canvas(
        model.denoiser,
        canvas,
        lengths=lengths,
        banned=banned_tokens(model, ban),
        eos_id=_marks(model) or None,
        sampler=rule,
        seed=whole("seed", seed, 0),
    )
    return shown(frames, Run.of(model, sampler=sampler, settings=settings, seed=seed))


def sample(model: Model, **request: Any) -> Sample:
    """Writes text. Takes what `stream` takes."""
    return finished(model, stream(model, **request))


def infill(
    model: Model,
    text: str,
    *,
    mask: str = "_",
    sampler: str | None = None,
    batch_size: int = 1,
    seed: int = 0,
    ban: Ban = (),
    **settings: Any,
) -> Sample:
    """Fills the blanks of a text; the rest of it never changes.

    Args:
        model: what `load` returned.
        text: a text in which every `mask` stands for one token to be written.
        mask: a single character.
        sampler: a name; see `samplers`.
        batch_size: number of versions.
        seed: of every draw.
        ban: what is not to be written: single tokens, as texts or as their numbers.
        settings: the sampler's own.

    Raises:
        UserError: the text has no blank.
    """
    request = {"mask": mask, "sampler": sampler, "batch_size": batch_size, "seed": seed, "ban": ban, **settings}
    return finished(model, infill_stream(model, text, **request))


def infill_stream(
    model: Model,
    text: str,
    *,
    mask: str = "_",
    sampler: str | None = None,
    batch_size: int = 1,
    seed: int = 0,
    ban: Ban = (),
    **settings: Any,
) -> Iterator[Frame]:
    """Like `infill`, one `Frame` per step."""
    if len(mask) != 1:
        raise UserError(f"the mask must be a single character, not {mask!r}")
    if mask not in text:
        raise UserError(f"the text has no blank: write {mask!r} for every token that is to be filled in")
    sampler, settings = model.way(sampler, settings)
    rule = make_sampler(sampler, **settings)
    pieces = [np.append(model.encode(part), model.mask_id) for part in text.split(mask)]
    row = np.concatenate(pieces)[:-1].astype(np.int32)
    canvas = np.repeat(row[None], whole("batch_size", batch_size, 1, _MOST_ROWS), axis=0)
    seed = whole("seed", seed, 0)
    frames = stream_canvas(model.denoiser, canvas, banned=banned_tokens(model, ban), sampler=rule, seed=seed)
    return shown(frames, Run.of(model, sampler=sampler, settings=settings, seed=seed))


def finished(model: Model, frames: Iterable[Frame]) -> Sample:
    """The last of a sampler's frames as a `Sample`.

    Raises:
        UserError: there are no frames.
    """
    passing = shown(frames, Run.of(model))
    first = next(passing, None)
    if first is None:
        raise UserError("there are no frames: call stream again, for its frames can be drawn only once")
    last = (deque(passing, maxlen=1) or [first])[0]
    texts, answers = _texts(model, first, last) if model.tokenizer is not None else ([], [])
    return Sample(texts, last.tokens, last.nfe, last.lengths, answers, last.steps, last.confidence, last.run)


def _texts(model: Model, first: Frame, last: Frame) -> tuple[list[str], list[str]]:
    """The text of each row, and of each row's answer."""
    begins = first.masked.argmax(axis=1)
    ends = _ends(model, last, first.masked)
    texts = [model.decode(row[:end]) for row, end in zip(last.tokens, ends, strict=True)]
    answers = [model.decode(row[begin:end]) for row, begin, end in zip(last.tokens, begins, ends, strict=True)]
    return texts, answers


def _marks(model: Model) -> tuple[int, ...]:
    """The tokens at which an answer ends; none where texts go on."""
    marks = (model.tokenizer.eos_id,) if isinstance(model.tokenizer, PairTokenizer) else model.ends
    return tuple(mark for mark in marks if mark < model.denoiser.vocab_size)


def _ends(model: Model, last: Frame, blank: np.ndarray) -> np.ndarray:
    """(B,) where each row's text ends: at the first end-of-text token that was written behind all that was given."""
    padding = np.arange(blank.shape[1]) >= last.lengths[:, None]
    behind = np.logical_and.accumulate((blank | padding)[:, ::-1], axis=1)[:, ::-1]
    end = padding | (behind & np.isin(last.tokens, _marks(model)))
    return np.where(end.any(axis=1), end.argmax(axis=1), last.lengths)


def _room(model: Model, prompts: np.ndarray) -> np.ndarray:
    """(B,) new tokens behind prompts of (B,) tokens, where nothing says how many."""
    if not isinstance(model.tokenizer, PairTokenizer):
        return np.full(len(prompts), _LENGTH)
    window = model.denoiser.seq_len
    if prompts.max() >= window:
        raise UserError(f"the prompt has {prompts.max()} tokens, and leaves no room in the model's window of {window}")
    return window - prompts


def banned_tokens(model: Model, ban: Ban) -> np.ndarray | None:
    """(V,) bool, of what the caller does not want; None if that is nothing."""
    size = model.denoiser.vocab_size
    banned = np.zeros(size, bool)
    for item in ban if isinstance(ban, Iterable) and not isinstance(ban, str) else [ban]:
        tokens = model.encode(item) if isinstance(item, str) else [whole("a token of ban", item, 0)]
        if len(tokens) != 1:
            raise UserError(f"ban={item!r} is {len(tokens)} tokens, and only single tokens can be banned")
        if tokens[0] >= size:
            raise UserError(f"ban={item} is none of the model's tokens, 0..{size - 1}")
        banned[tokens[0]] = True
    return banned if banned.any() else None


def _prompt_tokens(model: Model, prompt: str | Sequence[Message], chat: bool | None) -> np.ndarray:
    """(P,) int32 of a text or a conversation."""
    if not prompt:
        return np.zeros(0, np.int32)
    tokenizer, conversation = model.tokenizer, bool(chat) or not isinstance(prompt, str)
    if conversation and tokenizer is not None and model.template is not None:
        tokenizer = PairTokenizer(tokenizer, model.template)
    if isinstance(tokenizer, PairTokenizer):
        return tokenizer.prompt(user_says(prompt) if isinstance(prompt, str) else prompt, chat=chat)
    if conversation:
        raise UserError("this model was not trained on prompts and answers: give a plain text (no chat, no messages)")
    return model.encode(str(prompt))


def _prompt_rows(model: Model, prompt: Prompt, batch_size: int, chat: bool | None) -> list[np.ndarray]:
    """(P,) int32 of each row."""
    if isinstance(prompt, str) or _is_conversation(prompt):
        return [_prompt_row(model, prompt, chat)] * batch_size
    rows: Any = np.atleast_1d(prompt) if isinstance(prompt, np.ndarray) else prompt
    if not isinstance(rows, (Sequence, np.ndarray)) or not len(rows):
        raise UserError(f"{_PROMPTS}, not {prompt!r}")
    one = not isinstance(rows[0], (Sequence, np.ndarray))
    return [_prompt_row(model, row, chat) for row in ([rows] if one else rows)]


def _prompt_row(model: Model, prompt: Any, chat: bool | None) -> np.ndarray:
    """(P,) int32 of one prompt."""
    if isinstance(prompt, str) or _is_conversation(prompt):
        return _prompt_tokens(model, prompt, chat)
    try:
        row = np.asarray(prompt)
    except ValueError as error:  # lists of lists
        raise UserError(f"{_PROMPTS}, not {prompt!r}") from error
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise UserError(f"{_PROMPTS}; a row cannot be {row.dtype} of shape {row.shape}")
    if row.size and (row.min() < 0 or row.max() >= model.denoiser.vocab_size):
        raise UserError(f"the prompt has tokens outside 0..{model.denoiser.vocab_size - 1}")
    return row.astype(np.int32)


def _is_conversation(prompt: Any) -> bool:
    if not isinstance(prompt, Sequence) or not prompt or not all(isinstance(said, Mapping) for said in prompt):
        return False
    if not all(isinstance(said.get(key), str) for said in prompt for key in ("role", "content")):
        raise UserError('a conversation is a list of {"role": TEXT, "content": TEXT}')
    return True


def samplers() -> dict[str, str]:
    """Every sampler's name and what it is, in a line."""
    return descriptions()
