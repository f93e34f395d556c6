"""What a browser asks for, checked: nothing that it sends is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tzd.api import infill_stream, stream
from tzd.errors import UserError, nearest
from tzd.sampling import descriptions, settings_of
from tzd.web.limits import HOTTEST, LARGEST_SEED, Limits

if TYPE_CHECKING:
    from tzd.api import Model
    from tzd.sampling import Frame

BLANK = "_"
OWN = "the model's own"  # in place of a sampler's name: what the model brings


@dataclass(frozen=True)
class Asked:
    """A text to be written, as a form says it; `checked` makes one.

    Attributes:
        text: what it begins with; or, where it holds `BLANK`, all of it.
        samplers: one, or several that do the same; names, or `OWN`.
        steps: denoising steps, where a sampler counts them.
        temperature: of the drawn tokens.
        length: new tokens, where the text has no blanks.
        block_len: tokens of a block; None for no blocks.
        seed: of every draw.
    """

    text: str
    samplers: tuple[str, ...]
    steps: int
    temperature: float
    length: int
    block_len: int | None
    seed: int

    @classmethod
    def checked(
        cls, limits: Limits, text: Any, samplers: Any, steps: Any, temperature: Any, length: Any, block: Any, seed: Any
    ) -> Asked:
        """What a form says, if it may.

        Raises:
            UserError: a value is of the wrong kind, or beyond what is allowed.
        """
        block_len = number("the block length", block, 0, limits.length)
        return cls(
            text=checked_text(limits, text),
            samplers=tuple(choice("sampler", name, (OWN, *descriptions())) for name in samplers),
            steps=number("the number of steps", steps, 1, limits.steps),
            temperature=real("the temperature", temperature, 0.0, HOTTEST),
            length=number("the length", length, 1, limits.length),
            block_len=block_len or None,
            seed=number("the seed", seed, 0, LARGEST_SEED),
        )

    def frames(self, model: Model) -> list[Iterator[Frame]]:
        """What each sampler does.

        Raises:
            UserError: the model cannot do it.
        """
        return [self._frames(model, name) for name in self.samplers]

    def _frames(self, model: Model, name: str) -> Iterator[Frame]:
        sampler, brought = model.way(None if name == OWN else name, {})
        settings = {**brought, "sampler": sampler, "seed": self.seed, "temperature": self.temperature}
        if "steps" in settings_of(sampler):
            settings["steps"] = self.steps
        if self.block_len is not None:
            settings["block_len"] = self.block_len
        if BLANK in self.text:
            return infill_stream(model, self.text, mask=BLANK, **settings)
        return stream(model, prompt=self.text, length=self.length, **settings)


def checked_text(limits: Limits, text: Any) -> str:
    """A text that is not too long."""
    if not isinstance(text, str):
        raise UserError("the text must be a text")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError("the text holds half a character: type it again")
    if len(text) > limits.length:
        raise UserError(f"the text has {len(text)} characters, and this page takes {limits.length} at most")
    return text


def choice(what: str, name: Any, known: Any) -> str:
    """One of the names that there are."""
    if not isinstance(name, str) or name not in known:
        raise UserError(f"unknown {what} '{str(name)[:40]}'{nearest(str(name)[:40], known)}")
    return name


def number(what: str, value: Any, least: int, most: int) -> int:
    """A whole number between two others."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise UserError(f"{what} must be a whole number")
    if not least <= value <= most:
        raise UserError(f"{what} must lie between {least} and {most} here, not at {str(value)[:20]}")
    return int(value)


def real(what: str, value: Any, least: float, most: float) -> float:
    """A number between two others."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{what} must be a number")
    if not least <= value <= most:
        raise UserError(f"{what} must lie between {least:g} and {most:g} here, not at {str(value)[:20]}")
    return float(value)
