"""`tzd models`: the models that come with tzd, by which name, how good they are, and where they lie."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tzd.checkpoint.layout import CONFIG, WEIGHTS
from tzd.checkpoint.read import read_object
from tzd.checkpoint.shipped import shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the table; the first is what commands take that are given no other."""
    models = {name: _described(folder) for name, folder in shipped().items()}
    if args.json:
        print(json.dumps(models))
        return 0
    for name, model in models.items():
        default = " (where no other is named)" if name == next(iter(models)) else ""
        bound = model["nats_per_token"]
        score = "not validated" if bound is None else f"validation NELBO {bound:.3f} nats per token"
        print(
            f"{name}{default}\n"
            f"  learnt {model['corpus'] or 'what it does not say'}: {score}\n"
            f"  {model['megabytes']:.1f} MB in {model['folder']}"
        )
    return 0


def _described(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; None for what it does not say, as one of weights that were converted."""
    said = _section(read_object(folder / CONFIG), "provenance")
    bound = _section(said, "validation").get("nats_per_token")
    return {
        "corpus": said.get("corpus"),
        "nats_per_token": bound if isinstance(bound, float) else None,
        "megabytes": (folder / WEIGHTS).stat().st_size / 1e6,
        "folder": str(folder),
    }


def _section(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = said.get(name)
    return section if isinstance(section, Mapping) else {}
