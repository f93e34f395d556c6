"""What has been measured already: a file for each point, so that hours of measuring can be interrupted and shared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tzd.checkpoint.durable import one_line_errors, replace_file
from tzd.errors import UserError
from tzd.untrusted import read_json

_FOLDER = "points"


class Measured:
    """Rows of a comparison, in a folder.

    Args:
        folder: where they are kept; it is made if it is not there.
        conditions: what all of them have in common, as plain data: the model, the judge, how many samples.
        columns: what each row has, beside its label.

    Raises:
        UserError: the folder holds rows that were measured under other conditions, or what is there cannot be read.
        TzdError: there can be no such folder, which is said before anything is measured.
    """

    def __init__(self, folder: Path, conditions: Mapping[str, Any], *, columns: Sequence[str] = ()) -> None:
        self.folder = folder / _FOLDER
        self.conditions = dict(conditions)
        self._columns = ("label", *columns)
        with one_line_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        for path in self._paths():
            for name, value in self._read(path)["conditions"].items():
                if value != self.conditions.get(name):
                    raise UserError(
                        f"{folder} holds points measured with {name} {value}, not {self.conditions.get(name)}: choose"
                        " another folder (--out), or remove it"
                    )

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, in no order."""
        for path in self._paths():
            yield self._read(path)["row"]

    def find(self, label: str) -> dict[str, Any] | None:
        """The row of that label, if it is there."""
        path = self._path(label)
        return self._read(path)["row"] if path.exists() else None

    def keep(self, row: dict[str, Any]) -> None:
        """Writes a row down, under its label."""
        content = {"conditions": self.conditions, "row": row}
        replace_file(self._path(row["label"]), (json.dumps(content, indent=1) + "\n").encode())

    def _path(self, label: str) -> Path:
        return self.folder / f"{label.replace(' ', ',')}.json"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[!.]*.json"))

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content: dict[str, Any] = read_json(path)
            row = content["row"]
            if not isinstance(row, dict) or not isinstance(content["conditions"], dict):
                raise ValueError("no point of a comparison")
            for column in self._columns:
                if column not in row:
                    raise ValueError(f"it has no {column}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}): remove it, and it is measured again") from error
        return content
