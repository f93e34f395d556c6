"""`tzd bench samplers CKPT`: what each way of sampling costs, and what its text is worth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.cli import writing
from tzd.errors import UserError
from tzd.sampling import descriptions

if TYPE_CHECKING:
    from tzd.api import Model
    from tzd.evaluation.frontier import Bench

COLUMNS = {  # column -> what the table calls it
    "nfe": "NFE",
    "characters_per_second": "chars/s",
    "judge_nats_per_char": "judge",
    "unigram_entropy": "entropy",
    "repeated_within": "8-grams again",
    "repeated_across": "elsewhere",
    "distinct_2": "distinct-2",
    "copied": "copied",
    "infill_accuracy": "infill",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands and their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="samplers")
    bench = actions.add_parser("samplers", help="every sampler and budget: cost, quality, variety, infilling")
    bench.add_argument("checkpoint", metavar="CKPT", help=writing.CHECKPOINT)
    bench.add_argument("--judge", metavar="CKPT", help="an autoregressive model of the same corpus (objective=block,"
                       " objective.block_len=1)")  # fmt: skip
    bench.add_argument("--samplers", metavar="A,B", help="their names; all if not given")
    bench.add_argument("--budgets", metavar="N,N", default="8,16,32,64,128,256", help="numbers of steps")
    bench.add_argument("--samples", type=int, default=1024, metavar="N", help="texts of each (default 1024)")
    bench.add_argument("--length", type=int, metavar="N", help="tokens of a text; the model's window if not given")
    bench.add_argument("--batch-size", type=int, default=64, metavar="N", help="texts at a time (default 64)")
    bench.add_argument("--data", metavar="X", help="corpus of real text; the one that the model was trained on if not"
                       " given")  # fmt: skip
    bench.add_argument("--data-dir", metavar="FOLDER", help="look here first for it")
    bench.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")
    bench.add_argument("--out", type=Path, default=Path("bench-samplers"), metavar="FOLDER",
                       help="where samplers.json and frontier.png go (default bench-samplers)")  # fmt: skip
    bench.add_argument("--json", action="store_true", help="end with one JSON object")
    writing.add_model_arguments(bench)


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table as it grows, writes a file and a picture."""
    from tzd.evaluation.frontier import contenders, to_rows

    names = list(descriptions()) if args.samplers is None else [name.strip() for name in args.samplers.split(",")]
    field = list(contenders(names, _numbers(args.budgets)))
    bench, title = _bench(args)
    points = [bench.real()]
    _print_row(dict(zip(COLUMNS, COLUMNS.values(), strict=True)), "")
    _print_row(to_rows(points)[0], "real text")
    for contender in field:
        points.append(bench.measure(contender))
        _print_row(to_rows(points[-1:])[0], contender.label)
    rows = to_rows(points)
    args.out.mkdir(parents=True, exist_ok=True)
    result = {"model": str(args.checkpoint), "judge": args.judge, "samples": args.samples, "length": bench.length,
              "seed": args.seed, "points": rows}  # fmt: skip
    (args.out / "samplers.json").write_text(json.dumps(result, indent=1) + "\n")
    if args.judge is not None:
        from tzd.viewers.frontier import plot_frontier

        plot_frontier(rows, args.out / "frontier.png", title)
        print(f"\n{args.out / 'frontier.png'}", file=sys.stderr)
    if args.json:
        print(json.dumps(result))
    return 0


def _bench(args: argparse.Namespace) -> tuple[Bench, str]:
    from tzd import load
    from tzd.corpus import evaluation_windows
    from tzd.evaluation.frontier import Bench, judge_of
    from tzd.evaluation.judge import check_judge

    if args.samples < 1 or args.batch_size < 1:
        raise UserError("--samples and --batch-size must be at least 1")
    model = writing.load_model(args, args.checkpoint)
    judge = None if args.judge is None else load(args.judge, engine=args.engine)
    if judge is not None:
        check_judge(judge.denoiser)
    length = args.length or model.denoiser.seq_len
    training, held_out = _texts(args, model)
    windows = evaluation_windows(held_out, length)[0][: args.samples]
    if windows.shape[1] < length:
        raise UserError(f"the validation split has fewer than {length} tokens: set a shorter --length")
    bench = Bench(
        denoiser=model.denoiser,
        decode=model.decode,
        verdict=None if judge is None else judge_of(judge.denoiser, judge.encode),
        training=training,
        held_out=windows,
        samples=args.samples,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    return bench, f"{Path(args.checkpoint).name}: {args.samples} samples of {length} tokens"


def _texts(args: argparse.Namespace, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of the training and the validation split."""
    from tzd.corpus import open_corpus

    settings: dict[str, Any] = (model.provenance or {}).get("run", {}).get("data", {})
    name = args.data or settings.get("name")
    if name is None:
        raise UserError("nothing says which text the model was trained on: name the corpus (--data)")
    path = settings.get("path") if args.data is None else None
    corpus = open_corpus(name, path=path, data_dir=args.data_dir, progress=sys.stderr.isatty())
    return model.encode(corpus.splits["train"]), model.encode(corpus.splits["validation"])


def _numbers(text: str) -> Sequence[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UserError(f"--budgets {text}: give whole numbers of steps, separated by commas")
    return numbers


def _print_row(row: dict[str, Any], label: str) -> None:
    cells = []
    for name in COLUMNS:
        value, error = row[name], row.get(f"{name}_stderr")
        if isinstance(value, str):
            cells.append(value)
        elif value is None:
            cells.append("–")
        elif error is None:
            cells.append(f"{value:,.0f}" if value else "–")
        else:
            cells.append(f"{value:.3f} ±{error:.3f}")
    print(f"{label:<34}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
