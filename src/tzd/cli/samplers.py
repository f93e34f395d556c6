"""`tzd samplers`: the ways of sampling, what each one is, and its settings."""

from __future__ import annotations

import argparse
import json

from tzd.sampling import descriptions, parts, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    known = descriptions()
    if args.json:
        print(json.dumps({name: {"description": text, "settings": settings_of(name)} for name, text in known.items()}))
        return 0
    for name, text in known.items():
        settings = " ".join(f"{key}={json.dumps(value)}" for key, value in settings_of(name).items())
        print(f"{name}\n  {text}\n  {settings}")
    print("\nor a combination of your own (with 'tzd sample', --order, --count, --remask and their settings):")
    for part, names in parts().items():
        print(f"  {part:<6}  {' '.join(names)}")
    return 0
