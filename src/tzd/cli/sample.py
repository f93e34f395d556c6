"""`tzd sample [CKPT]`: write text; on a terminal, watch it being denoised."""

from __future__ import annotations

import argparse

from tzd.cli import writing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    writing.add_checkpoint_argument(parser)
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what the text begins with")
    parser.add_argument(
        "--length", type=int, metavar="N", help="new tokens (default 256; for a model of answers, to the window's end)"
    )
    parser.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        help="write the prompt by the tokenizer's chat template (default: as the model was trained)",
    )
    writing.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Writes text."""
    from tzd import stream

    writing.check(args)
    model = writing.load_model(args, args.checkpoint)
    frames = stream(model, prompt=args.prompt, length=args.length, chat=args.chat, **writing.request(args, model))
    writing.write(model, frames, quiet=args.quiet, as_json=args.json, trace=args.save_trace)
    return 0
