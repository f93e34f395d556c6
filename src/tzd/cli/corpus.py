"""`tzd corpus list | show | fetch | build | check`: what there is to train on, and what it holds."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from tzd.cli import shards

PREVIEW_LINES = 6
PREVIEW_WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands and their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|fetch|build|check")
    listing = actions.add_parser("list", help="the named corpora, and where each was found")
    show = actions.add_parser("show", help="a corpus: its splits, its hash, its first lines")
    fetch = actions.add_parser("fetch", help="download a corpus into the user's cache, unless it is here already")
    build = actions.add_parser("build", help="tokenize text of any size into memory-mapped shards, for data=shards")
    check = actions.add_parser("check", help="read all of such a folder and compare it with its checksums")
    show.add_argument("name", metavar="NAME", help="one that 'tzd corpus list' names, or a folder of shards")
    fetch.add_argument("name", metavar="NAME", help="one that 'tzd corpus list' names")
    shards.add_build_arguments(build)
    check.add_argument("folder", metavar="FOLDER", help="what 'tzd corpus build' made")
    show.add_argument(
        "--data",
        "--path",
        dest="path",
        metavar="PATH",
        help="for 'text': a file, several separated by commas, a folder or a glob",
    )
    for action in (listing, show, fetch):
        action.add_argument("--data-dir", metavar="FOLDER", help="look here first, before $TZD_DATA_DIR and ./data")
    for action in (listing, show, fetch, build, check):
        action.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    actions = {"list": _list, "show": _show, "fetch": _fetch, "build": shards.build, "check": shards.check}
    result = actions[args.action](args)
    if args.json:
        print(json.dumps(result))
    return 0


def _list(args: argparse.Namespace) -> dict[str, Any]:
    from tzd.corpus import Lookup, corpora

    lookup = Lookup(data_dir=args.data_dir)
    found = {
        name: {
            "description": source.description,
            "needs_file": source.file is not None,
            "path": _string(lookup.find(source.file.name)) if source.file else None,
        }
        for name, source in corpora().items()
    }
    if not args.json:
        width = max(map(len, found))
        for name, row in found.items():
            missing = f"not here; get it: tzd corpus fetch {name}" if row["needs_file"] else "needs no download"
            print(f"{name:<{width}}  {row['description']}\n{'':<{width}}  {row['path'] or missing}")
    return found


def _show(args: argparse.Namespace) -> dict[str, Any]:
    from tzd.corpus import open_corpus
    from tzd.corpus.shards import is_sharded

    if is_sharded(args.name):
        return shards.show(args)
    corpus = open_corpus(
        args.name, path=args.path, data_dir=args.data_dir, progress=not args.json and sys.stderr.isatty()
    )
    text = corpus.text
    result: dict[str, Any] = {
        "name": corpus.name,
        "description": corpus.description,
        "characters": len(text),
        "distinct_characters": len(set(text)),
        "splits": {split: len(part) for split, part in corpus.splits.items()},
        "sha256": corpus.sha256,
        "entropy": corpus.entropy,
    }
    if not args.json:
        print(f"{corpus.name}: {corpus.description}\n")
        print(f"characters  {len(text):>13,}   {len(set(text))} distinct")
        for split, part in corpus.splits.items():
            print(f"{split:<10}  {len(part):>13,}")
        print(f"sha256      {corpus.sha256}")
        if corpus.entropy is not None:
            bits = corpus.entropy / math.log(2)
            print(f"entropy     {corpus.entropy:.6f} nats per character ({bits:.6f} bits), exactly")
        print(f"\n{_preview(corpus.splits['train'])}")
    return result


def _fetch(args: argparse.Namespace) -> dict[str, Any]:
    from tzd.corpus import Lookup, find_corpus

    file = find_corpus(args.name).file
    lookup = Lookup(data_dir=args.data_dir, progress=not args.json and sys.stderr.isatty())
    path = lookup.published(file) if file else None
    if not args.json:
        print(path or f"{args.name} needs no download")
    return {"name": args.name, "path": _string(path)}


def _string(path: object) -> str | None:
    return None if path is None else str(path)


def _preview(text: str) -> str:
    """The first lines of a text, cut to a width; what is not printable is a dot, lest it command the terminal."""
    lines = text[: PREVIEW_LINES * PREVIEW_WIDTH].split("\n")[:PREVIEW_LINES]
    shown = ["".join(c if c.isprintable() else "·" for c in line) for line in lines]
    return "\n".join(line if len(line) <= PREVIEW_WIDTH else f"{line[: PREVIEW_WIDTH - 1]}…" for line in shown)
