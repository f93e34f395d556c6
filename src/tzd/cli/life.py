"""`tzd life [CKPT]`: Conway's Game of Life on a board of text, whose living cells the model writes anew."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tzd.cli import showing, writing
from tzd.errors import CorpusError, UserError
from tzd.printable import printable
from tzd.sampling.patterns import NAMES

if TYPE_CHECKING:
    from tzd.api import Model
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

GENERATIONS = 100
_LONGEST_TOKEN = 16  # characters that a token has on average at most: more of a text is not read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    writing.add_checkpoint_argument(parser)
    add_game_arguments(parser)


def add_game_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds everything but the model."""
    add = parser.add_argument
    add("--data", metavar="X", help="what stands on the board first: the beginning of a file, or of the validation"
        " split of a corpus by name (if not given, the model writes it)")  # fmt: skip
    add("--pattern", default="text", metavar="P", help=f"what lives first: {', '.join(NAMES)}, or a .cells or .rle file"
        " (default text: half of the cells, by its characters and chance)")  # fmt: skip
    add("--size", type=size, default=(32, 32), metavar="HxW", help="lines and columns of the board (default 32x32)")
    add("--wrap", action=argparse.BooleanOptionalAction, default=True, help="the board's edges meet (the default)")
    add("--iterations", type=int, default=GENERATIONS, metavar="N", help=f"generations (default {GENERATIONS})")
    add("--endless", action="store_true", help="play until Ctrl-C, or until nothing lives")
    add("--density", type=float, default=0.35, metavar="D", help="share of random cells that live (default 0.35)")
    add("--reseed", action="store_true", help="begin anew with random cells where a board is dead, still or blinking")
    add("--interval", type=float, metavar="MS", help="milliseconds between frames, in place of --speed")
    writing.add_sampler_arguments(parser)
    parser.set_defaults(sampler="llada")
    parser.epilog = f"{parser.epilog} Defaults: --sampler llada --steps 3, at most so many passes for a generation."
    add("--ban", action="append", default=[], metavar="TEXT", help="a token not to write; may be given several times")
    add("--seed", type=int, default=0, help="of every draw (default 0)")
    writing.add_model_arguments(parser, "auto")
    showing.add_arguments(parser)
    add("--quiet", action="store_true", help="print the last board only, without the live view")
    add("--json", action="store_true", help="end with one JSON object: text, tokens, alive, generation, nfe, period")


def size(text: str) -> tuple[int, int]:
    """Lines and columns, of "32x48" or "32"."""
    sides = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text, re.ASCII)
    if sides is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no size: lines x columns, such as 32x48")
    return int(sides[1]), int(sides[2] or sides[1])


def run(args: argparse.Namespace) -> int:
    """Plays."""
    from tzd import life

    _check(args)
    model = writing.load_model(args, args.checkpoint)
    panel = showing.panel_of(model, _title(args), columns=args.size[1])
    frames = life(
        model,
        text=_text(args, model),
        pattern=args.pattern,
        size=args.size,
        wrap=args.wrap,
        generations=None if args.endless else args.iterations,
        density=args.density,
        reseed=args.reseed,
        sampler=args.sampler,
        seed=args.seed,
        ban=args.ban,
        **writing.settings(args),
    )
    last = _play(args, panel, frames)
    _tell(args, model, panel, last)
    showing.settle(args)
    return 0


def _check(args: argparse.Namespace) -> None:
    """What can be said before a model is loaded."""
    if args.interval is not None:
        if args.speed is not None:
            raise UserError("--interval and --speed say the same: give one of them")
        if not args.interval > 0:
            raise UserError(f"--interval must be above 0 milliseconds, not {args.interval:g}")
        args.speed = 1000 / args.interval
    if args.iterations < 0:
        raise UserError(f"--iterations must be at least 0, not {args.iterations}")
    if args.endless and args.save:
        raise UserError("--endless never gets to writing a file: give --iterations with --save")
    showing.check(args)


def _text(args: argparse.Namespace, model: Model) -> Any:
    """(N,) tokens of what stands on the board first; None has the model write it."""
    if args.data is None:
        return None
    from tzd.cli.measuring import real_text

    real, (lines, columns) = real_text(args.data), args.size
    try:
        return model.encode(real.text[: _LONGEST_TOKEN * lines * columns])[: lines * columns]
    except CorpusError as error:
        raise CorpusError(f"{args.data}: {error}") from error


def _title(args: argparse.Namespace) -> str:
    lines, columns = args.size
    return printable(f"life · {Path(args.pattern).name} · {lines}×{columns}", keep="")


def _play(args: argparse.Namespace, panel: Panel, frames: Iterator[Frame]) -> Frame:
    """Shows the game; returns its last frame."""
    last = None
    with closing(showing.passing(args, [panel], ((frame,) for frame in frames))) as shown:
        try:
            for moment in shown:
                last = moment[0]
        except KeyboardInterrupt:
            if not args.endless:
                raise
    if last is None:
        raise KeyboardInterrupt
    return last


def _tell(args: argparse.Namespace, model: Model, panel: Panel, last: Frame) -> None:
    """Prints the last board, and how the game went."""
    from tzd.sampling.life import period

    assert last.alive is not None
    alive, columns = last.alive.reshape(args.size), args.size[1]
    repeats = period(alive, wrap=args.wrap)
    if not args.save:
        cells = panel.glyphs[panel.cells(last)].reshape(-1, columns)
        print("\n".join("".join(line).rstrip() for line in cells))
    count, living = alive.size, int(alive.sum())
    fate = _fate(living, repeats) if not last.masked.any() else ""
    passes = "1 denoiser pass" if last.nfe == 1 else f"{last.nfe} denoiser passes"
    told = f"generation {last.generation}: {living} of {count} cells live{fate} ({passes})"
    print(told, file=sys.stderr)
    if args.json:
        values = {"text": model.decode(last.tokens[0]), "tokens": last.tokens[0].tolist(), "alive": alive.tolist()}
        print(json.dumps({**values, "generation": last.generation, "nfe": last.nfe, "period": repeats}))


def _fate(living: int, repeats: int | None) -> str:
    """What is to be said of a board that repeats itself after so many generations."""
    if not living:
        return "; nothing lives any more"
    if repeats == 1:
        return "; nothing changes any more"
    return "" if repeats is None else f"; it repeats every {repeats} generations"
