"""`tzd watch CKPT`: see a text being denoised, in one window or on and on; `tzd watch x.npz`: see it again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, pairwise
from typing import TYPE_CHECKING

from tzd.cli import replaying, sample, showing, writing
from tzd.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from tzd.api import Model
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

_CHARACTER = 4  # tokens that a character has at most, where they are bytes
# What says how much is written, and what each leaves no room for.
_EXTENT = {"length": "--length", "blocks": "--blocks", "endless": "--endless", "infill": "--infill"}
_ALONE = {
    "infill": ("prompt", "chat"),
    "blocks": ("chat",),
    "endless": ("chat", "json", "save", "save_trace", "window"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    sample.add_arguments(parser)
    parser.add_argument("--infill", metavar="TEXT", help="fill the blanks of a text instead, _ for each token")
    parser.add_argument("--blocks", type=int, metavar="N", help="as much as N windows hold, each overlapping the last")
    parser.add_argument("--endless", action="store_true", help="window after window, until Ctrl-C")
    showing.add_arguments(parser)
    parser.epilog = f"In place of CKPT, a trace that --save-trace wrote is replayed. {parser.epilog}"


def run(args: argparse.Namespace) -> int:
    """Shows the denoising, and prints the text."""
    from tzd.viewers.trace import is_trace

    showing.check(args)
    if args.checkpoint is not None and is_trace(args.checkpoint):
        return _replay(args)
    _check(args)
    model = writing.load_model(args, args.checkpoint)
    if args.endless:
        return _go_on(args, model)
    moments = ((frame,) for frame in _frames(args, model))
    frames = (frame for (frame,) in showing.passing(args, [_panel(args, model)], moments))
    writing.write(model, frames, quiet=True, as_json=args.json, trace=args.save_trace)
    showing.settle(args)
    return 0


def _check(args: argparse.Namespace) -> None:
    """UserError where flags exclude each other; nothing has been loaded yet."""
    from tzd.sampling import sampler

    writing.check(args)
    extent = [key for key in _EXTENT if getattr(args, key) is not None and getattr(args, key) is not False]
    for one, other in pairwise(extent):
        raise UserError(f"{_EXTENT[one]} and {_EXTENT[other]} exclude each other: leave one of them out")
    for key in extent:
        for other in _ALONE.get(key, ()):
            if getattr(args, other):
                raise UserError(f"{_EXTENT[key]} does not go with --{other.replace('_', '-')}: leave one of them out")
    if args.endless and args.batch_size != 1:
        raise UserError("--endless writes one text: leave --batch-size out")
    if args.blocks is not None and args.blocks < 1:
        raise UserError(f"--blocks must be at least 1, not {args.blocks}")
    if args.sampler is not None:
        sampler(args.sampler, **writing.settings(args))


def _panel(args: argparse.Namespace, model: Model) -> Panel:
    title = showing.title_of(*model.way(args.sampler, writing.settings(args)))
    return showing.panel_of(model, title)


def _frames(args: argparse.Namespace, model: Model) -> Iterator[Frame]:
    from tzd import stream
    from tzd.api import infill_stream

    asked = writing.request(args, model)
    if args.infill is not None:
        return infill_stream(model, args.infill, **asked)
    length = args.length
    if args.blocks:
        window, overlap = _window(args, model)
        given = len(model.encode(args.prompt))
        length = window + (args.blocks - 1) * (window - overlap) - given
        if length < 1:
            raise UserError(
                f"the prompt's {given} tokens leave nothing to write in --blocks {args.blocks}: ask for more"
            )
    return stream(model, prompt=args.prompt, length=length, chat=args.chat, **asked)


def _go_on(args: argparse.Namespace, model: Model) -> int:
    """Writes window after window until interrupted; on a terminal, the text so far stands above."""
    held = args.prompt  # a drawing begins on a line of its own: what belongs to the next line waits for it
    try:
        for text in _windows(args, model):
            if sys.stdout.isatty():
                *lines, held = _lines(writing.safe(held + text))
                print(*lines, sep="\n", end="\n" if lines else "", flush=True)
            else:
                print(held + text, end="", flush=True)
                held = ""
    except KeyboardInterrupt:
        print(writing.safe(held))
        raise
    return 0


def _lines(text: str) -> list[str]:
    """The lines of a text on a terminal, those that are too long for it as several."""
    from rich.cells import chop_cells
    from rich.console import Console

    columns = Console().width
    return [part for line in text.split("\n") for part in chop_cells(line, columns) or [""]]


def _windows(args: argparse.Namespace, model: Model) -> Iterator[str]:
    """The new text of one window after the other, each conditioned on the end of the one before."""
    import numpy as np

    from tzd import stream

    window, overlap = _window(args, model)
    panel, asked = _panel(args, model), writing.request(args, model)
    tokens, step, nfe = model.encode(args.prompt), 0, 0
    heard, said = tokens, len(tokens)  # what has been written, as far back as a window, and how much of it is text
    for seed in count(args.seed):
        given = tokens if seed == args.seed and len(tokens) < window else tokens[len(tokens) - overlap :]
        prompt = given if len(given) else ""
        frames = stream(model, **{**asked, "seed": seed}, prompt=prompt, length=window - len(given))
        moments = ((replace(frame, step=step + frame.step, nfe=nfe + frame.nfe),) for frame in frames)
        (last,) = showing.show(args, [panel], moments)
        tokens, step, nfe = last.tokens[0], last.step, last.nfe
        heard = np.concatenate([heard, tokens[len(given) :]])
        end = _whole(model, heard)
        yield model.decode(heard[:end])[len(model.decode(heard[:said])) :]
        old = max(0, len(heard) - max(window, _CHARACTER))
        heard, said = heard[old:], end - old


def _whole(model: Model, tokens: np.ndarray) -> int:
    """How many of the tokens make whole characters: where tokens are bytes, the rest of the last may still come."""
    ends = range(len(tokens), max(0, len(tokens) - _CHARACTER), -1)
    return next((end for end in ends if not model.decode(tokens[:end]).endswith("\N{REPLACEMENT CHARACTER}")), ends[0])


def _window(args: argparse.Namespace, model: Model) -> tuple[int, int]:
    """Tokens of the model's window, and how many of them each but the first has from the one before."""
    from tzd.corpus.chat import PairTokenizer
    from tzd.sampling import sampler
    from tzd.sampling.loop import overlap_of

    if model.ends or isinstance(model.tokenizer, PairTokenizer):
        flag = "--endless" if args.endless else "--blocks"
        raise UserError(f"{flag} is for texts that go on, and this model's answers end: leave it out")
    name, settings = model.way(args.sampler, writing.settings(args))
    rule = sampler(name, **settings)
    window, overlap = model.denoiser.seq_len, overlap_of(rule, model.denoiser)
    if not 0 <= overlap < window:
        raise UserError(f"an overlap of {overlap} leaves nothing to write in the model's window of {window}")
    return window, overlap


def _replay(args: argparse.Namespace) -> int:
    trace = replaying.read(args, args.checkpoint, add_arguments)
    moments = ((frame,) for frame in trace.frames)
    (last,) = showing.show(args, [trace.panel], moments, pace=replaying.pace(len(trace.frames)))
    print("\n\n---\n\n".join(writing.safe(text) for text in trace.text))
    if args.json:
        print(json.dumps({"text": trace.text, "tokens": last.tokens.tolist(), "nfe": last.nfe}))
    showing.settle(args)
    return 0
