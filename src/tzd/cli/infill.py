"""`tzd infill CKPT "To be, or ____ to be"`: fill the blanks of a text."""

from __future__ import annotations

import argparse

from tzd.cli import writing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("checkpoint", metavar="CKPT", help=writing.CHECKPOINT)
    parser.add_argument("text", metavar="TEXT", help="a text with blanks, one for each token to be written")
    parser.add_argument("--mask", default="_", metavar="C", help="the character that stands for a blank (default _)")
    writing.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Fills the blanks."""
    from tzd.api import infill_stream

    writing.check(args)
    model = writing.load_model(args, args.checkpoint)
    frames = infill_stream(model, args.text, mask=args.mask, **writing.request(args))
    writing.write(model, frames, quiet=args.quiet, as_json=args.json, trace=args.save_trace)
    return 0
