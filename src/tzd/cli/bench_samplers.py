"""`tzd bench samplers CKPT`: what each way of sampling costs, and what its text is worth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tzd.checkpoint.durable import replace_file
from tzd.cli import measuring, writing
from tzd.cli.contenders import parse_samplers
from tzd.errors import UserError
from tzd.sampling import DEFAULT, descriptions

if TYPE_CHECKING:
    from tzd.evaluation.frontier import Bench


def add_arguments(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand and its flags."""
    bench = actions.add_parser("samplers", help="every sampler and budget: cost, quality, variety, infilling")
    bench.add_argument("checkpoint", metavar="CKPT", help=writing.CHECKPOINT)
    bench.add_argument("--judge", metavar="CKPT", help="an autoregressive model of the same corpus (objective=block,"
                       " objective.block_len=1)")  # fmt: skip
    bench.add_argument("--samplers", metavar="A,B", help="NAME or NAME:KEY=VALUE:KEY=VALUE each; all if not"
                       " given")  # fmt: skip
    bench.add_argument("--budgets", metavar="N,N", default="8,16,32,64,128,256", help="numbers of steps")
    bench.add_argument("--samples", type=int, default=1024, metavar="N", help="texts of each (default 1024)")
    bench.add_argument("--length", type=int, metavar="N", help="tokens of a text; the model's window if not given")
    bench.add_argument("--batch-size", type=int, default=64, metavar="N", help="texts at a time (default 64)")
    bench.add_argument("--data", metavar="X", help="real text, a corpus by name or a file; that which the model was"
                       " trained on if not given")  # fmt: skip
    bench.add_argument("--data-dir", metavar="FOLDER", help="look here first for it")
    bench.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")
    bench.add_argument("--out", type=Path, default=Path("bench-samplers"), metavar="FOLDER",
                       help="where points/, samplers.json and frontier.png go (default bench-samplers); what is"
                       " measured there already is not measured again")  # fmt: skip
    bench.add_argument("--json", action="store_true", help="end with one JSON object")
    writing.add_model_arguments(bench)


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table as it grows, keeps every point; then writes a file and a picture of all of them."""
    from tzd.evaluation.frontier import contenders, to_rows
    from tzd.evaluation.measured import Measured

    chosen = [(name, {}) for name in descriptions()] if args.samplers is None else parse_samplers(args.samplers)
    field = list(contenders(chosen, _numbers(args.budgets)))
    bench, conditions = _bench(args)
    measured = Measured(args.out, conditions, columns=("sampler", "variant", *measuring.COLUMNS))
    real = to_rows([bench.real()])[0]
    measuring.print_head()
    measuring.print_row(real, "real text")
    for contender in field:
        row = measured.find(contender.label)
        if row is None:
            (row,) = to_rows([bench.measure(contender)])
            measured.keep(row)
        measuring.print_row(row, contender.label)
    order = {name: place for place, name in enumerate(descriptions())}
    kept = sorted(measured.rows(), key=lambda row: (order.get(row["sampler"], len(order)), row["variant"], row["nfe"]))
    rows = [real, *kept]
    result = {**conditions, "points": rows}
    replace_file(args.out / "samplers.json", (json.dumps(result, indent=1) + "\n").encode())
    if args.judge is not None:
        from tzd.viewers.frontier import plot_frontier

        title = f"{Path(args.checkpoint).name}: {args.samples} samples of {bench.length} tokens"
        plot_frontier(rows, args.out / "frontier.png", title, emphasised=DEFAULT)
        print(f"\n{args.out / 'frontier.png'}", file=sys.stderr)
    if args.json:
        print(json.dumps(result))
    return 0


def _bench(args: argparse.Namespace) -> tuple[Bench, dict[str, Any]]:
    """What is to be measured on, and all that the numbers depend on beside the sampler."""
    from tzd.evaluation.frontier import Bench

    for flag, value in (("--samples", args.samples), ("--batch-size", args.batch_size)):
        if value < 1:
            raise UserError(f"{flag} must be at least 1, not {value}")
    model = writing.load_model(args, args.checkpoint)
    verdict = None if args.judge is None else measuring.verdict_of(args.judge, args.engine)
    real = measuring.text_of(model, args.data, data_dir=args.data_dir)
    bench = Bench(
        denoiser=model.denoiser,
        decode=model.decode,
        verdict=verdict,
        training=None if real.training is None else model.encode(real.training),
        held_out=measuring.windows_of(model, real, args.length, args.samples),
        samples=args.samples,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    return bench, {
        "model": args.checkpoint,
        "step": (model.provenance or {}).get("step"),
        "engine": model.engine,
        "precision": args.precision,
        "judge": args.judge,
        "data": real.what,
        "samples": args.samples,
        "length": bench.length,
        "batch_size": args.batch_size,
        "seed": args.seed,
    }


def _numbers(text: str) -> Sequence[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UserError(f"--budgets {text}: give whole numbers of steps, separated by commas")
    return numbers
