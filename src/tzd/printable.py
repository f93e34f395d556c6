"""Text that a terminal shows and does not obey."""

from __future__ import annotations

_SIGNS = {ord("\n"): "⏎", ord("\t"): "⇥", 0x7F: "␡", **{c: chr(0x2400 + c) for c in range(32) if c not in (9, 10)}}


def printable(text: str, keep: str = "\n\t") -> str:
    """`text` with control characters, but for those in `keep`, as signs: a terminal obeys none of them."""
    signs = {code: sign for code, sign in _SIGNS.items() if chr(code) not in keep}
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text.translate(signs))
