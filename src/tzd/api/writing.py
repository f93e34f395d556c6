"""Writing text with a model, whole or step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tzd.api.model import Model
from tzd.api.numbers import whole
from tzd.errors import UserError
from tzd.sampling import Frame, descriptions
from tzd.sampling import sampler as make_sampler
from tzd.sampling import stream as stream_canvas

Prompt = str | Sequence[str] | Sequence[Sequence[int]] | np.ndarray


@dataclass(frozen=True)
class Sample:
    """What a sampler wrote.

    Attributes:
        text: one text per row, the prompt included; empty for a model without a tokenizer.
        tokens: (B, P + length) int32.
        nfe: denoiser calls that it took; guidance counts two.
    """

    text: list[str]
    tokens: np.ndarray
    nfe: int


def stream(
    model: Model,
    *,
    length: int = 256,
    prompt: Prompt = "",
    sampler: str = "ancestral",
    batch_size: int = 1,
    seed: int = 0,
    **settings: Any,
) -> Iterator[Frame]:
    """Denoises, one `Frame` per step.

    Args:
        model: what `load` returned.
        length: number of new tokens per row; beyond the model's window the text is written in connected windows.
        prompt: what each row begins with: a text, a list of texts of equal length, or (B, P) tokens, an array or
            nested lists.
        sampler: a name; see `samplers`.
        batch_size: rows, where the prompt does not say.
        seed: of every draw.
        settings: the sampler's own, such as `steps`, `temperature`, `block_len`.

    Raises:
        UserError: a setting that the sampler does not have, a value out of its range, or an impossible prompt.
    """
    rule = make_sampler(sampler, **settings)
    rows = _prompt_rows(model, prompt, whole("batch_size", batch_size, 1))
    blank = np.full((len(rows), whole("length", length, 1)), model.mask_id, np.int32)
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
    *_, last = frames
    text = [model.decode(row) for row in last.tokens] if model.tokenizer is not None else []
    return Sample(text, last.tokens, last.nfe)


def _prompt_rows(model: Model, prompt: Prompt, batch_size: int) -> np.ndarray:
    """(B, P) int32."""
    if isinstance(prompt, str):
        row = model.encode(prompt) if prompt else np.zeros(0, np.int32)
        return np.repeat(row[None], batch_size, axis=0)
    given: Any = prompt
    if isinstance(prompt, Sequence) and all(isinstance(text, str) for text in prompt):
        given = [model.encode(str(text)) for text in prompt]
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


def samplers() -> dict[str, str]:
    """Every sampler's name and what it is, in a line."""
    return descriptions()
