"""`tzd serve [CKPT]`: a page in the browser on which a model writes."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

from tzd.cli import writing
from tzd.errors import MissingExtraError, UserError
from tzd.web.limits import Limits

PORT = 7860


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    limits = Limits()
    writing.add_checkpoint_argument(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve at (default 127.0.0.1: this machine only)"
    )
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"default {PORT}; 0 takes any that is free")
    for name, text in (
        ("length", "new tokens of a text, and characters of what it begins with"),
        ("steps", "denoising steps"),
        ("generations", "of a Game of Life"),
    ):
        default = getattr(limits, name)
        parser.add_argument(
            f"--max-{name}",
            dest=name,
            type=int,
            default=default,
            metavar="N",
            help=f"{text}, at most (default {default})",
        )
    parser.add_argument(
        "--concurrency", type=int, default=limits.concurrency, metavar="N",
        help=f"runs that compute at once (default {limits.concurrency})",
    )  # fmt: skip
    parser.add_argument(
        "--queue", type=int, default=limits.queue, metavar="N", help=f"runs that may wait (default {limits.queue})"
    )
    parser.add_argument("--open", action="store_true", help="open a browser")
    writing.add_model_arguments(parser, "auto")


def run(args: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C."""
    if find_spec("gradio") is None:
        raise MissingExtraError("tzd serve", "web")
    limits = Limits(**{field.name: getattr(args, field.name) for field in fields(Limits)})
    from tzd.web.server import LOCAL, address, application, listen, serve

    taken = listen(args.host, args.port)
    with taken:
        model = writing.load_model(args, args.checkpoint)
        if model.tokenizer is None:
            raise UserError(
                f"{args.checkpoint} has no tokenizer, so that it cannot write text: put its tokenizer.json beside it"
            )
        app = application(model, Path(args.checkpoint).name, limits, local=args.host in LOCAL)
        if args.host not in LOCAL:
            print(
                f"tzd: warning: whoever reaches this machine at {args.host} can use this page; it asks for no password",
                file=sys.stderr,
            )
        print(f"{args.checkpoint} writes at {address(taken)} (Ctrl-C ends it)", flush=True)
        if args.open:
            webbrowser.open(address(taken))
        serve(app, taken)
    return 0
