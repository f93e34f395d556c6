"""Writing text with a model, whole or step by step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tzd.api.model import Model
from tzd.api.numbers import whole
from tzd.corpus.chat import Message, PairTokenizer, user_says
from tzd.errors import UserError
from tzd.sampling import Frame, descriptions
from tzd.sampling import sampler as make_sampler
from tzd.sampling import stream as stream_canvas

Prompt = str | Sequence[str] | Sequence[Message] | Sequence[Sequence[int]] | np.ndarray
_LENGTH = 256  # new tokens, where nothing says how many


@dataclass(frozen=True)
class Sample:
    """What a sampler wrote.

    Attributes:
        text: one text per row, the prompt included; empty for a model without a tokenizer. Where the model has learnt
            to end its answers (`data=pairs`), it ends there.
        tokens: (B, P + length) int32.
        nfe: denoiser calls that it took; guidance counts two.
        answers: likewise without what was given before the first blank.
    """

    text: list[str]
    tokens: np.ndarray
    nfe: int
    answers: list[str] = field(default_factory=list)


def stream(
    model: Model,
    *,
    length: int | None = None,
    prompt: Prompt = "",
    sampler: str = "ancestral",
    batch_size: int = 1,
    seed: int = 0,
    chat: bool | None = None,
    **settings: Any,
) -> Iterator[Frame]:
    """Denoises, one `Frame` per step.

    Args:
        model: what `load` returned.
        length: number of new tokens per row; beyond the model's window the text is written in connected windows. 256 if
            None; for a model that was trained on prompts and answers, what the prompt leaves of its window.
        prompt: what each row begins with: a text, a list of texts of equal length, or (B, P) tokens, an array or
            nested lists; or a conversation, a list of messages with "role" and "content", which is to be answered.
        sampler: a name; see `samplers`.
        batch_size: rows, where the prompt does not say.
        seed: of every draw.
        chat: whether a prompt is written by the tokenizer's chat template: True, False, or None: as the model was
            trained, and for a model of the hub where the prompt is a conversation.
        settings: the sampler's own, such as `steps`, `temperature`, `block_len`.

    Raises:
        UserError: a setting that the sampler does not have, a value out of its range, or an impossible prompt.
    """
    rule = make_sampler(sampler, **settings)
    rows = _prompt_rows(model, prompt, whole("batch_size", batch_size, 1), chat)
    length = _room(model, rows.shape[1]) if length is None else whole("length", length, 1)
    blank = np.full((len(rows), length), model.mask_id, np.int32)
    canvas = np.concatenate([rows, blank], axis=1)
    return stream_canvas(model.denoiser, canvas, sampler=rule, seed=whole("seed", seed, 0))


def sample(model: Model, **request: Any) -> Sample:
    """Writes text. Takes what `stream` takes."""
    return finished(model, stream(model, **request))


def infill(
    model: Model,
    text: str,
    *,
    mask: str = "_",
    sampler: str = "ancestral",
    batch_size: int = 1,
    seed: int = 0,
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
        settings: the sampler's own.

    Raises:
        UserError: the text has no blank.
    """
    return finished(
        model, infill_stream(model, text, mask=mask, sampler=sampler, batch_size=batch_size, seed=seed, **settings)
    )


def infill_stream(
    model: Model,
    text: str,
    *,
    mask: str = "_",
    sampler: str = "ancestral",
    batch_size: int = 1,
    seed: int = 0,
    **settings: Any,
) -> Iterator[Frame]:
    """Like `infill`, one `Frame` per step."""
    if len(mask) != 1:
        raise UserError(f"the mask must be a single character, not {mask!r}")
    if mask not in text:
        raise UserError(f"the text has no blank: write {mask!r} for every token that is to be filled in")
    rule = make_sampler(sampler, **settings)
    pieces = [np.append(model.encode(part), model.mask_id) for part in text.split(mask)]
    row = np.concatenate(pieces)[:-1].astype(np.int32)
    canvas = np.repeat(row[None], whole("batch_size", batch_size, 1), axis=0)
    return stream_canvas(model.denoiser, canvas, sampler=rule, seed=whole("seed", seed, 0))


def finished(model: Model, frames: Iterator[Frame]) -> Sample:
    """The last of a sampler's frames as a `Sample`."""
    first = next(frames)
    last = (deque(frames, maxlen=1) or [first])[0]
    if model.tokenizer is None:
        return Sample([], last.tokens, last.nfe)
    begins = first.masked.argmax(axis=1)
    ends = _ends(model, last.tokens, first.masked)
    texts = [model.decode(row[:end]) for row, end in zip(last.tokens, ends, strict=True)]
    answers = [model.decode(row[begin:end]) for row, begin, end in zip(last.tokens, begins, ends, strict=True)]
    return Sample(texts, last.tokens, last.nfe, answers)


def _ends(model: Model, tokens: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """(B,) where each row's text ends: at the first end-of-text token that was written behind all that was given."""
    width = tokens.shape[1]
    marks = (model.tokenizer.eos_id,) if isinstance(model.tokenizer, PairTokenizer) else model.ends
    behind = np.logical_and.accumulate(blank[:, ::-1], axis=1)[:, ::-1]
    end = behind & np.isin(tokens, marks)
    return np.where(end.any(axis=1), end.argmax(axis=1), width)


def _room(model: Model, prompt: int) -> int:
    """New tokens where nothing says how many."""
    if not isinstance(model.tokenizer, PairTokenizer):
        return _LENGTH
    window = model.denoiser.seq_len
    if prompt >= window:
        raise UserError(f"the prompt has {prompt} tokens, and leaves no room in the model's window of {window}")
    return window - prompt


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


def _prompt_rows(model: Model, prompt: Prompt, batch_size: int, chat: bool | None) -> np.ndarray:
    """(B, P) int32."""
    given: Any = prompt
    if isinstance(prompt, str) or _is_conversation(prompt):
        row = _prompt_tokens(model, given, chat)
        return np.repeat(row[None], batch_size, axis=0)
    if isinstance(prompt, Sequence) and all(isinstance(text, str) for text in prompt):
        given = [_prompt_tokens(model, str(text), chat) for text in prompt]
    try:
        rows = np.atleast_2d(given)
    except ValueError as error:
        raise UserError(
            "the prompts of one batch must be of equal length, in tokens; sample them one by one"
        ) from error
    if rows.dtype.kind not in "iu" or rows.ndim != 2 or not len(rows):
        raise UserError(
            "a prompt is a text, a list of texts, or whole numbers (B, P); "
            f"it cannot be {rows.dtype} of shape {rows.shape}"
        )
    if rows.size and (rows.min() < 0 or rows.max() >= model.denoiser.vocab_size):
        raise UserError(f"the prompt has tokens outside 0..{model.denoiser.vocab_size - 1}")
    return rows.astype(np.int32)


def _is_conversation(prompt: Prompt) -> bool:
    if not isinstance(prompt, Sequence) or not prompt or not all(isinstance(said, Mapping) for said in prompt):
        return False
    if not all(isinstance(said.get(key), str) for said in prompt for key in ("role", "content")):  # type: ignore[union-attr]
        raise UserError('a conversation is a list of {"role": TEXT, "content": TEXT}')
    return True


def samplers() -> dict[str, str]:
    """Every sampler's name and what it is, in a line."""
    return descriptions()
