"""`tzd compare [CKPT] --samplers a,b`: several ways of sampling side by side, or several traces."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tzd.cli import replaying, showing, writing
from tzd.cli.contenders import Way, parse_samplers
from tzd.errors import UserError
from tzd.printable import printable

if TYPE_CHECKING:
    from tzd.api import Model
    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

    Moment = tuple[Frame, ...]

SAMPLERS = "dilated,ancestral,llada"  # where nobody says which; the model's own in place of the first, if it has one
AR = "left-to-right"  # how an autoregressive model is sampled
_OF_AR = ("temperature", "top_p", "top_k_tokens")  # the settings that it shares


@dataclass(eq=False)
class Run:
    """One of the runs that are compared.

    Attributes:
        panel: what is shown of it.
        frames: what it yields.
        seconds: what it has taken so far.
    """

    panel: Panel
    frames: Iterator[Frame]
    seconds: float = 0.0

    def __iter__(self) -> Run:
        return self

    def __next__(self) -> Frame:
        begun = time.perf_counter()
        try:
            return next(self.frames)
        finally:
            self.seconds += time.perf_counter() - begun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("checkpoint", metavar="CKPT", nargs="*", help=f"{writing.CHECKPOINT}, the first of which is the"
                        " default; or several traces")  # fmt: skip
    parser.add_argument("--samplers", metavar="A,B", help="their names, each with settings of its own if it has any:"
                        f" ancestral:steps=64,llada:steps=16:temperature=0.5 (default {SAMPLERS},"
                        " the first as the model brings it)")  # fmt: skip
    parser.add_argument("--ar", metavar="CKPT", help="an autoregressive model of the same text beside them"
                        " (objective=block, objective.block_len=1)")  # fmt: skip
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what each text begins with")
    parser.add_argument("--length", type=int, metavar="N", help="new tokens of each (default 256)")
    parser.add_argument("--ban", action="append", default=[], metavar="TEXT", help="a token not to write")
    parser.add_argument("--seed", type=int, default=0, help="of every draw of each of them (default 0)")
    writing.add_setting_arguments(parser)
    writing.add_model_arguments(parser, "auto")
    parser.add_argument("--quiet", action="store_true", help="print the texts only, without the live view")
    parser.add_argument("--json", action="store_true", help="end with one JSON object: the runs' texts, nfe, seconds")
    showing.add_arguments(parser)
    parser.epilog = (
        "A setting such as --temperature holds for all samplers. They go on in turn, so that each has called the"
        " denoiser as often as the others. In place of CKPT, two or more traces that --save-trace wrote are replayed."
    )


def run(args: argparse.Namespace) -> int:
    """Shows the runs side by side, then prints what they wrote and what it took."""
    from tzd.checkpoint.npz import NPZ
    from tzd.viewers.trace import is_trace

    showing.check(args)
    traces = [path for path in args.checkpoint if is_trace(path)]
    if traces and len(traces) == len(args.checkpoint):
        return _replay(args)
    gone = [path for path in args.checkpoint if path.endswith(NPZ) and not Path(path).exists()]
    if gone and len(args.checkpoint) > 1:
        raise UserError(f"there is no trace {gone[0]}: give files that --save-trace wrote")
    if traces:
        raise UserError(f"{traces[0]} is a trace: compare traces with each other, or the samplers of one model")
    if len(args.checkpoint) > 1:
        raise UserError(f"give one model, or traces alone, not {len(args.checkpoint)} (another text is --prompt)")
    settings = writing.settings(args)
    ways = parse_samplers(args.samplers or SAMPLERS, settings)
    model = writing.load_model(args, args.checkpoint[0] if args.checkpoint else None)
    return _sample(args, model, ways if args.samplers else [model.way(None, settings), *ways[1:]])


def _sample(args: argparse.Namespace, model: Model, ways: list[Way]) -> int:
    """Compares samplers."""
    from tzd.api import finished

    models = [model] * len(ways)
    titles = [showing.title_of(*way) for way in ways]
    if args.ar is not None:
        shared = {key: value for key, value in writing.settings(args).items() if key in _OF_AR}
        models, ways = [*models, _load_ar(args)], [*ways, (AR, shared)]
        titles.append(showing.title_of("autoregressive", shared))
    runs = [_start(args, *each) for each in zip(models, titles, ways, strict=True)]
    first, last = _shown(args, runs)
    texts = [finished(model, iter(ends)).text[0] for model, *ends in zip(models, first, last, strict=True)]
    _print(args, runs, last, texts, [run.seconds for run in runs])
    showing.settle(args)
    return 0


def _load_ar(args: argparse.Namespace) -> Model:
    model = writing.load_model(args, args.ar)
    if model.denoiser.block_len != 1:
        raise UserError(f"{args.ar} is no autoregressive model: it was not trained with objective.block_len=1")
    return model


def _start(args: argparse.Namespace, model: Model, title: str, way: Way) -> Run:
    from tzd import stream

    name, settings = way
    asked: dict[str, Any] = {"prompt": args.prompt, "length": args.length, "ban": args.ban, "seed": args.seed}
    return Run(showing.panel_of(model, title), iter(stream(model, sampler=name, **asked, **settings)))


def _replay(args: argparse.Namespace) -> int:
    """Compares traces."""
    if len(args.checkpoint) == 1:
        raise UserError(f"{args.checkpoint[0]} is a single trace: give another to compare it with, or 'tzd watch' it")
    traces = [replaying.read(args, path, add_arguments) for path in args.checkpoint]
    titles = [trace.panel.title for trace in traces]
    if len(set(titles)) < len(titles) or not all(titles):  # the files' names tell them apart
        titles = [printable(Path(path).name, keep="") for path in args.checkpoint]
    panels = [replace(trace.panel, title=title) for trace, title in zip(traces, titles, strict=True)]
    runs = [Run(panel, iter(trace.frames)) for panel, trace in zip(panels, traces, strict=True)]
    _, last = _shown(args, runs, pace=replaying.pace(max(len(trace.frames) for trace in traces)))
    _print(args, runs, last, ["\n\n".join(trace.text) for trace in traces], [None] * len(runs))
    showing.settle(args)
    return 0


def _shown(args: argparse.Namespace, runs: Sequence[Run], pace: float | None = None) -> tuple[Moment, Moment]:
    """Shows runs side by side; returns the first moment and the last."""
    from tzd.viewers.timeline import in_step

    moments = in_step(runs)
    first = next(moments)
    return first, showing.show(args, [run.panel for run in runs], chain([first], moments), pace=pace)


def _print(
    args: argparse.Namespace, runs: Sequence[Run], last: Moment, texts: list[str], seconds: Sequence[float | None]
) -> None:
    """Each run's title, what it took, and its text."""
    rows: list[dict[str, Any]] = [
        {"title": run.panel.title, "nfe": frame.nfe, "text": text, "seconds": took}
        for run, frame, text, took in zip(runs, last, texts, seconds, strict=True)
    ]
    said = []
    for row in rows:
        seconds_said = "" if row["seconds"] is None else f" · {row['seconds']:.2f} s"
        said.append(f"{row['title']} · NFE {row['nfe']}{seconds_said}\n\n{writing.safe(row['text'])}")
    print("\n\n---\n\n".join(said))
    if args.json:
        print(json.dumps({"runs": rows}))
