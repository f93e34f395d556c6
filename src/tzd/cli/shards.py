"""`tzd corpus build | check`: corpora of any size, as folders of memory-mapped shards."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tzd.config import TokenizerSettings
from tzd.errors import UserError

if TYPE_CHECKING:
    from tzd.corpus.shards import Index


FLAGS = {  # what messages about the group `tokenizer` mean here
    "tokenizer.name=": "--tokenizer ",
    "tokenizer.name": "--tokenizer",
    "tokenizer.vocab_size": "--vocab-size",
    "tokenizer.pretrained_model_name_or_path": "--pretrained",
    "tokenizer=": "--tokenizer ",
}


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tzd corpus build`."""
    from tzd.corpus.build import SHARD_TOKENS

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="files, folders, globs: text, .jsonl, .parquet, .gz and .zst of them",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the folder to make")
    parser.add_argument("--tokenizer", required=True, metavar="KIND", help="ascii, char, byte, bpe or hf")
    parser.add_argument("--vocab-size", type=int, metavar="N", help="for bpe: number of tokens to train")
    parser.add_argument("--pretrained", metavar="PATH", help="for hf: a folder, or a name on the hub")
    parser.add_argument("--column", default="text", help="key or column that holds a document (default text)")
    parser.add_argument(
        "--separator", metavar="TEXT", help=r"what ends a document in a text file, such as '\n\n' (default: its end)"
    )
    for split in ("validation", "test"):
        parser.add_argument(
            f"--{split}", type=float, default=0.05, metavar="SHARE", help=f"share of the characters for {split}: 0.05"
        )
    parser.add_argument(
        "--shard-tokens", type=int, default=SHARD_TOKENS, metavar="N", help=f"tokens of a shard ({SHARD_TOKENS})"
    )
    parser.add_argument(
        "--workers", type=int, default=cores, metavar="N", help="processes that tokenize (default: one per core)"
    )


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Builds a folder of shards."""
    from tzd.corpus.build import build_shards

    try:
        index = build_shards(
            args.sources,
            args.out,
            TokenizerSettings(args.tokenizer, args.vocab_size, args.pretrained),
            column=args.column,
            separator=args.separator and args.separator.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t"),
            shard_tokens=args.shard_tokens,
            validation=args.validation,
            test=args.test,
            workers=args.workers,
            progress=_progress(args),
        )
    except UserError as error:
        message = str(error)
        for setting, flag in FLAGS.items():
            message = message.replace(setting, flag)
        raise UserError(message) from error
    return _shown(Path(args.out), index, args)


def show(args: argparse.Namespace) -> dict[str, Any]:
    """Says what a folder holds."""
    from tzd.corpus.shards import open_shards

    corpus = open_shards(args.name)
    return _shown(corpus.folder, corpus.index, args)


def check(args: argparse.Namespace) -> dict[str, Any]:
    """Reads all of a folder and compares it with its checksums."""
    from tqdm import tqdm

    from tzd.corpus.shards import open_shards

    corpus = open_shards(args.folder)
    size = sum(file.stat().st_size for file in corpus.files)
    with tqdm(total=size, desc="checking", unit="B", unit_scale=True, disable=not _progress(args), leave=False) as bar:
        corpus.check(bar.update)
    if not args.json:
        print(f"{corpus.folder} is whole: {size:,} bytes as its index has them")
    return {"folder": str(corpus.folder), "bytes": size, "sha256": corpus.index.sha256}


def _shown(folder: Path, index: Index, args: argparse.Namespace) -> dict[str, Any]:
    from tzd.mapping import to_mapping

    values = to_mapping(index)
    splits = values["splits"]
    if not args.json:
        kind, size = index.tokenizer["kind"], index.tokenizer["vocab_size"]
        made = f"{_count(index.shards, 'shard')} from {_count(index.sources, 'file')}"
        print(f"{folder}: {made}, tokenized by {kind} ({size} tokens)\n")
        print(f"{'':<10}  {'tokens':>15}  {'documents':>13}  {'characters':>15}")
        for name, split in splits.items():
            print(f"{name:<10}  {split['tokens']:>15,}  {split['documents']:>13,}  {split['characters']:>15,}")
        print(f"sha256      {index.sha256}")
    return {
        "folder": str(folder),
        "splits": splits,
        "shards": len(index.shards),
        "tokenizer": index.tokenizer,
        "sources": values["sources"],
        "sha256": index.sha256,
    }


def _count(things: Sized, name: str) -> str:
    return f"{len(things):,} {name}{'s'[: len(things) != 1]}"


def _progress(args: argparse.Namespace) -> bool:
    return not args.json and sys.stderr.isatty()
