"""Text as pixels, each cell drawn once."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

SHADES = 8  # of a glyph's edge, from the ground to the ink

_ADVANCE, _LINE = 1233 / 2048, 1.25  # the font's, in its sizes
_CONTROL, _DELETE = range(0x2400, 0x2420), 0x2421  # signs of control characters


@cache
def font_file() -> Path:
    """DejaVu Sans Mono, as matplotlib brings it."""
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSansMono.ttf")


@lru_cache(maxsize=4096)
def has_glyph(character: str) -> bool:
    """Whether the font can draw it."""
    return _font_face().get_char_index(ord(character)) != 0


def code_of(character: str) -> str:
    """What stands for a character that the font lacks: its code in hexadecimal; for a control's sign, the control's."""
    code = ord(character)
    code = code - _CONTROL.start if code in _CONTROL else 0x7F if code == _DELETE else code
    return f"{code:02X}"


def cell_size(size: int, columns: int = 1, square: bool = False) -> tuple[int, int]:
    """(height, width) in pixels of a cell that takes so many columns; a square one is wider."""
    height, width = round(_LINE * size), columns * math.ceil(_ADVANCE * size)
    return height, max(height, width) if square else width


class Atlas:
    """Cells of one size, drawn when they are first asked for.

    Args:
        size: of the font, pixels.
        columns: characters of a cell.
        square: as wide as high, for boards.

    Attributes:
        shape: (height, width) of a cell, pixels.
        block: number of the cell that is filled: [MASK].
    """

    def __init__(self, size: int, columns: int = 1, square: bool = False) -> None:
        from PIL import ImageFont

        self.shape = cell_size(size, columns, square)
        self._font = ImageFont.truetype(str(font_file()), size, layout_engine=ImageFont.Layout.BASIC)
        self._column = math.ceil(_ADVANCE * size)
        self._left = (self.shape[1] - columns * self._column) // 2
        self._numbers: dict[str, int] = {}
        self._drawn = np.zeros((64, *self.shape), dtype=np.uint8)
        self.block = self._add("", self._block())

    def number(self, text: str) -> int:
        """The number of the cell that holds this text."""
        known = self._numbers.get(text)
        return self._add(text, self._draw(text)) if known is None else known

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """(…) numbers of cells -> (…, height, width) uint8, how much ink there is, 0..`SHADES` - 1."""
        return self._drawn[numbers]

    def line(self, text: str) -> np.ndarray:
        """A line of text, a character a cell. Returns (height, len(text) · width) uint8, as `take`."""
        cells = self.take(np.array([self.number(character) for character in text], dtype=int))
        return cells.transpose(1, 0, 2).reshape(self.shape[0], -1)

    def _add(self, text: str, ink: np.ndarray) -> int:
        number = len(self._numbers)
        if number == len(self._drawn):
            self._drawn = np.concatenate([self._drawn, np.zeros_like(self._drawn)])
        self._drawn[number] = np.rint(ink * ((SHADES - 1) / 255))
        self._numbers[text] = number
        return number

    def _block(self) -> np.ndarray:
        """A block with a little air around it, so that blanks can be counted."""
        ink = np.zeros(self.shape)
        air = max(1, self.shape[0] // 14)
        ink[air:-air, air:-air] = 255
        return ink

    def _draw(self, text: str) -> np.ndarray:
        from PIL import Image, ImageDraw

        height, width = self.shape
        image = Image.new("L", (width, height))
        draw = ImageDraw.Draw(image)
        ascent, descent = self._font.getmetrics()
        baseline = (height - ascent - descent) // 2 + ascent
        x = self._left
        for character in text:
            columns = cell_len(character)
            if has_glyph(character):
                draw.text((x, baseline), character, fill=255, font=self._font, anchor="ls")
            elif columns:
                self._draw_code(draw, code_of(character), x, columns * self._column)
            x += columns * self._column
        return np.asarray(image)

    def _draw_code(self, draw: ImageDraw, code: str, x: int, width: int) -> None:
        """A frame with hexadecimal digits in it, in two lines."""
        height = self.shape[0]
        draw.rectangle((x, 1, x + width - 2, height - 2), outline=160)
        half = -(-len(code) // 2)
        lines = [code[:half], code[half:]]
        font = _small_font(max(6, min(width * 5 // (4 * half), (height - 4) // 2)))
        for i, line in enumerate(lines):
            y = 2 + (height - 4) * (2 * i + 1) / (2 * len(lines))
            draw.text((x + width / 2 - 0.5, y), line, fill=255, font=font, anchor="mm")


@cache
def _small_font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(font_file()), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _font_face():  # type: ignore[no-untyped-def]  # matplotlib's
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(font_file()))
