"""`tzd samplers`: the ways of sampling, what each one is, and its settings."""

from __future__ import annotations

import argparse
import json

from tzd.sampling import descriptions, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    table = {name: {"description": text, "settings": settings_of(name)} for name, text in descriptions().items()}
    if args.json:
        print(json.dumps(table))
        return 0
    for name, row in table.items():
        print(f"{name}\n  {row['description']}")
        print(f"  {' '.join(f'{key}={json.dumps(value)}' for key, value in dict(row['settings']).items())}")
    return 0
