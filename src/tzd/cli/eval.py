"""`tzd eval CKPT --data X`: how well a model predicts a text."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tzd.cli import writing
from tzd.config import DataSettings
from tzd.corpus import SPLITS, corpora, open_corpus, resolve_file
from tzd.corpus.chat import Message, PairTokenizer
from tzd.corpus.conversations import find_file, open_pairs, read_lines
from tzd.corpus.files import read_text
from tzd.errors import CorpusError, UserError, nearest

if TYPE_CHECKING:
    from tzd.api import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("checkpoint", metavar="CKPT", help=writing.CHECKPOINT)
    parser.add_argument(
        "--data",
        required=True,
        metavar="X",
        help="a corpus by name: its validation split is scored; or a file: all of it is. For a model of prompts and"
        " answers: a .jsonl of such",
    )
    parser.add_argument("--split", choices=SPLITS, help="of a named corpus (default validation), or of a .jsonl")
    parser.add_argument("--prompt-key", metavar="KEY", help="of a .jsonl (default: as in training)")
    parser.add_argument("--answer-key", metavar="KEY", help="of a .jsonl (default: as in training)")
    parser.add_argument("--data-dir", metavar="FOLDER", help="look here first for a corpus")
    parser.add_argument("--draws", type=int, default=8, metavar="N", help="masks per window (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the masks (default 0)")
    writing.add_model_arguments(parser)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the NELBO of a text."""
    from tzd import answers_nelbo, nelbo

    model = writing.load_model(args, args.checkpoint)
    if isinstance(model.tokenizer, PairTokenizer) and args.data.endswith(".jsonl"):
        pairs = _pairs(args, model)
        bound = answers_nelbo(model, pairs, draws=args.draws, seed=args.seed)
        print(f"{args.data}: {len(pairs):,} answer{'s'[: len(pairs) != 1]}, {bound.tokens:,} tokens with their ends")
    else:
        if args.prompt_key is not None or args.answer_key is not None:
            raise UserError(
                "--prompt-key and --answer-key are for a .jsonl and a model of prompts and answers (data=pairs)"
            )
        what, text = _text(args)
        bound = nelbo(model, text, draws=args.draws, seed=args.seed)
        print(f"{what}: {len(text):,} characters, {bound.tokens:,} tokens")
    stderr = bound.stderr if math.isfinite(bound.stderr) else None  # one window, masked once, has none
    error = "" if stderr is None else f" ± {stderr:.4f}"
    print(f"NELBO {bound.nats_per_token:.4f}{error} nats per token")
    if bound.bits_per_char is not None:
        print(f"      {bound.bits_per_char:.4f} bits per character")
    if args.json:
        values = {name: getattr(bound, name) for name in ("nats_per_token", "bits_per_char", "tokens")}
        print(json.dumps({**values, "stderr": stderr}))
    return 0


def _pairs(args: argparse.Namespace, model: Model) -> list[tuple[Sequence[Message], str]]:
    """Prompts and answers of a file."""
    trained = (model.provenance or {}).get("run", {}).get("data", {})
    keys = {name: trained[name] for name in ("prompt_key", "answer_key", "messages_key") if name in trained}
    given = {name: getattr(args, name) for name in ("prompt_key", "answer_key") if getattr(args, name) is not None}
    settings = DataSettings(name="pairs", path=args.data, data_dir=args.data_dir, **{**keys, **given})
    if args.split is not None:
        pairs = open_pairs(settings).splits[args.split]
    else:
        pairs = [pair for turns in read_lines(find_file(args.data, args.data_dir), settings) for pair in turns]
    return [(pair.messages, pair.answer) for pair in pairs]


def _text(args: argparse.Namespace) -> tuple[str, str]:
    """What is scored, and its text."""
    known = [name for name in corpora() if name != "text"]
    if args.data in known:
        split = args.split or "validation"
        corpus = open_corpus(args.data, data_dir=args.data_dir, progress=sys.stderr.isatty())
        return f"{split} split of {args.data}", corpus.splits[split]
    try:
        file = resolve_file(args.data, data_dir=args.data_dir, progress=sys.stderr.isatty())
    except CorpusError as error:
        raise UserError(f"there is no corpus '{args.data}'{nearest(args.data, known)}, and {error}") from error
    if file.is_dir():
        raise UserError(f"{file} is a folder; --data takes one file of it, or a corpus by name")
    if args.split is not None:
        raise UserError(f"--split is for a named corpus; {file} is a file, and scored whole")
    text = read_text(file)
    if not text:
        raise UserError(f"{file} is empty: there is nothing to score")
    return str(file), text
