"""Which messages of `tzd.errors` no test states: `make messages` lists them, and fails where there are any.

A message is stated where a test's text holds all of it, word by word, with values in the places of its values; the one
that it begins with, such as a path, may be missing. What quotes another message, and says little else, is left out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
OWN_LETTERS = 8  # fewer than these are no message, only what stands between quoted ones
VALUE = "\ue000"  # a value that a test's f-string puts in


class Message(NamedTuple):
    """A message, where it is made; `None` among its pieces is a value."""

    where: str
    line: int
    pieces: tuple[str | None, ...]

    def __str__(self) -> str:
        return f"{self.where}:{self.line}: {''.join('{}' if piece is None else piece for piece in self.pieces)}"

    def stated_in(self, text: str) -> bool:
        """Whether a text has all of it on one line."""
        pieces = list(self.pieces)
        if pieces[0] is None and len(pieces) > 1:
            pieces = [str(pieces[1]).lstrip(), *pieces[2:]]
        if max((piece for piece in pieces if piece), key=len) not in text:
            return False
        value = ["[^\n]+"] * (len(pieces) - 1) + ["[^\n]*"]
        pattern = "".join(value[i] if piece is None else re.escape(piece) for i, piece in enumerate(pieces))
        return re.search(pattern, text) is not None


def error_classes() -> frozenset[str]:
    """The names of the errors that take a message: TzdError, and all that are made from it."""
    bases: dict[str, list[str]] = {}
    for file in (ROOT / "src/tzd").rglob("*.py"):
        for node in ast.walk(_tree(file)):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, [base.id for base in node.bases if isinstance(base, ast.Name)])
    found = {"TzdError"}
    while more := {name for name, of in bases.items() if found & set(of)} - found:
        found |= more
    return frozenset(found | {"ArgumentTypeError"})


def messages() -> Iterator[Message]:
    """Every message that an error of `src/tzd` is made with."""
    errors = error_classes()
    for file in sorted((ROOT / "src/tzd").rglob("*.py")):
        tree = _tree(file)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            said = node.args[:1] if name in errors else node.args[1:2] if name == "require" else []
            for message in said:
                for pieces in _texts(message, tree):
                    if sum(len(re.sub(r"\W", "", piece)) for piece in pieces if piece) >= OWN_LETTERS:
                        yield Message(str(file.relative_to(ROOT)), node.lineno, pieces)


def stated() -> list[str]:
    """The texts of all tests, and what is left of those that are patterns."""
    texts = set()
    for file in (ROOT / "tests").rglob("*.py"):
        tree = _tree(file)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
                for pieces in _texts(node, tree):
                    text = "".join(VALUE if piece is None else piece for piece in pieces)
                    if len(text) >= OWN_LETTERS:
                        texts |= {text, re.sub(r"\\(\W)", r"\1", text)}
    return sorted(texts)


def unstated() -> list[Message]:
    """The messages that no test states."""
    texts = stated()
    return [message for message in messages() if not any(message.stated_in(text) for text in texts)]


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _texts(node: ast.expr, tree: ast.Module, depth: int = 0) -> Iterator[tuple[str | None, ...]]:
    """What an expression may read, in pieces."""
    if isinstance(node, ast.Constant):
        yield (node.value,) if isinstance(node.value, str) else (None,)
    elif isinstance(node, ast.JoinedStr):
        yield tuple(_joined(value.value if isinstance(value, ast.Constant) else None for value in node.values))
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for left in _texts(node.left, tree, depth):
            for right in _texts(node.right, tree, depth):
                yield tuple(_joined((*left, *right)))
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, tree, depth)
        yield from _texts(node.orelse, tree, depth)
    elif isinstance(node, ast.Name) and depth == 0 and (given := _given(node, tree)):
        for value in given:
            yield from _texts(value, tree, 1)
    else:
        yield (None,)


def _joined(pieces: Iterator[str | None] | tuple[str | None, ...]) -> Iterator[str | None]:
    """Pieces with no two texts, and no two values, in a row."""
    text: str | None = ""
    for piece in pieces:
        if piece is not None and text is not None:
            text += piece
        elif piece is not None or text is not None:
            if text != "":
                yield text
            text = piece
    if text != "":
        yield text


def _given(name: ast.Name, tree: ast.Module) -> list[ast.expr]:
    """What a name is given in the function that it stands in, or in the module."""
    around = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and name in ast.walk(node)]
    for scope in (*reversed(around), tree):
        given = [
            node.value
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name.id for target in node.targets)
        ]
        if given:
            return given
    return []


if __name__ == "__main__":
    found = unstated()
    print(*found, sep="\n")
    sys.exit(bool(found))
