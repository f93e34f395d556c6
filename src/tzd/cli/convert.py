"""`tzd convert SRC DST`: weights of any format that tzd reads, as a tzd checkpoint."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("source", metavar="SRC", help="a run folder, a checkpoint folder, or the weights in one")
    parser.add_argument("destination", metavar="DST", help="a folder that does not exist yet")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Converts, and says where the result is."""
    from tzd import convert

    written = convert(args.source, args.destination)
    print(f"wrote {written}")
    if args.json:
        print(json.dumps({"checkpoint": str(written)}))
    return 0
