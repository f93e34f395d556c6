"""`tzd infill [CKPT] "To be, or ____ to be"`: fill the blanks of a text."""

from __future__ import annotations

import argparse
import os

from tzd.checkpoint.shipped import shipped
from tzd.cli import writing
from tzd.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    writing.add_checkpoint_argument(parser)
    parser.set_defaults(checkpoint=None)
    parser.add_argument("text", metavar="TEXT", help="a text with blanks, one for each token to be written")
    parser.add_argument("--mask", default="_", metavar="C", help="the character that stands for a blank (default _)")
    writing.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Fills the blanks."""
    from tzd.api import infill_stream

    writing.check(args)
    _check_text(args)
    model = writing.load_model(args, args.checkpoint)
    frames = infill_stream(model, args.text, mask=args.mask, **writing.request(args, model))
    writing.write(model, frames, quiet=args.quiet, as_json=args.json, trace=args.save_trace)
    return 0


def _check_text(args: argparse.Namespace) -> None:
    """UserError where a single argument is no text to be filled in, but a model; nothing has been loaded yet."""
    there = os.path.exists(args.text)  # noqa: PTH110, a text may be too long for Path.exists
    if args.checkpoint is None and (there or args.text in shipped()):
        raise UserError(
            f"{args.text} is a model, and no text says what is to be filled in: tzd infill {args.text} TEXT"
        )
