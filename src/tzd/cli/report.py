"""`tzd report CKPT --judge AR`: what a model is worth beside others, on text that none of them has seen."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tzd.checkpoint.durable import one_line_errors, replace_file
from tzd.cli import measuring, writing
from tzd.errors import UserError
from tzd.sampling import sampler

if TYPE_CHECKING:
    from tzd.api import Model
    from tzd.cli.measuring import RealText


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("checkpoint", metavar="CKPT", help=writing.CHECKPOINT)
    parser.add_argument(
        "--judge",
        required=True,
        metavar="CKPT",
        help="the autoregressive model (objective=block objective.block_len=1) that it is compared with, and that"
        " judges its texts",
    )
    parser.add_argument("--beside", metavar="A,B", help="further models to compare its NELBO with")
    parser.add_argument("--data", metavar="NAME", help="a corpus by name (default: what the model was trained on)")
    parser.add_argument("--data-dir", metavar="FOLDER", help="look here first for it")
    parser.add_argument("--draws", type=int, default=16, metavar="N", help="masks per window (default 16)")
    parser.add_argument("--samples", type=int, default=256, metavar="N", help="texts (default 256)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="texts at a time (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("report"), metavar="FOLDER",
        help="where report.md and report.json go (default report)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    writing.add_sampler_arguments(parser)
    writing.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measures, writes the report, and prints it."""
    from tzd.evaluation.report import markdown

    report = _measure(args)
    page = markdown(report)
    replace_file(args.out / "report.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    replace_file(args.out / "report.md", page.encode())
    print(page, end="")
    if args.json:
        print(json.dumps(report, allow_nan=False))
    return 0


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    from tzd import load
    from tzd.evaluation.frontier import Bench, Contender, judge_of, to_rows
    from tzd.evaluation.infilling import commonest_accuracy, default_span
    from tzd.evaluation.judge import check_judge

    for name in ("draws", "samples", "batch_size"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(args, name)}")
    beside = [] if args.beside is None else args.beside.split(",")
    if not all(beside):
        raise UserError(f"--beside {args.beside}: write paths with a comma between them")
    model = writing.load_model(args, args.checkpoint)
    judge = load(args.judge, engine=args.engine, trust_remote_code=args.trust_remote_code)  # whatever --precision says
    models = {args.checkpoint: model, args.judge: judge}
    models |= {path: writing.load_model(args, path) for path in beside if path not in models}
    sizes = {path: _parameters(path) for path in models}
    contender = Contender(*model.way(args.sampler, writing.settings(args)))
    sampler(contender.sampler, **contender.settings)
    check_judge(judge.denoiser)
    held_out, test, validation = (
        measuring.text_of(model, args.data, split=split, data_dir=args.data_dir)
        for split in ("held-out", "test", "validation")
    )
    bench = Bench(
        denoiser=model.denoiser,
        decode=model.decode,
        verdict=judge_of(judge.denoiser, judge.encode),
        training=model.encode(held_out.training or ""),
        held_out=measuring.windows_of(model, validation, None, args.samples),
        samples=args.samples,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    with one_line_errors(args.out):  # before all that takes long
        args.out.mkdir(parents=True, exist_ok=True)
    span = default_span(bench.length)
    mine, real = bench.measure(contender), bench.real()
    assert mine.infill is not None
    commonest = commonest_accuracy(bench.held_out, span=span)
    return {
        "model": args.checkpoint,
        "data": held_out.what,
        "judge": args.judge,
        "length": bench.length,
        "draws": args.draws,
        "samples": args.samples,
        "span": span,
        "seed": args.seed,
        "predictions": [_prediction(path, models[path], sizes[path], held_out, test, args) for path in models],
        "texts": to_rows([real, mine]),
        "infill": {**mine.infill.named("infill_accuracy"), **commonest.named("commonest_accuracy")},
    }


def _parameters(path: str) -> int:
    from tzd.engines.formats import read_any

    return sum(array.size for array in read_any(path).weights.values())


def _prediction(
    path: str, model: Model, parameters: int, held_out: RealText, test: RealText, args: argparse.Namespace
) -> dict[str, Any]:
    """What a model is, and what it gives to held-out text, and to the half by which no checkpoint was chosen."""
    return {
        "model": path,
        "block_len": model.denoiser.block_len,
        "parameters": parameters,
        "step": (model.provenance or {}).get("step"),
        "held_out": _nats(model, held_out.text, args),
        "test": _nats(model, test.text, args),
    }


def _nats(model: Model, text: str, args: argparse.Namespace) -> dict[str, float | None]:
    """−log p of a text, or its bound, in nats per character, with the standard error over windows."""
    from tzd import nelbo

    draws = 1 if model.denoiser.block_len == 1 else args.draws
    bound = nelbo(model, text, draws=draws, seed=args.seed)
    stderr = bound.stderr * bound.tokens / len(text)
    return {
        "nats_per_char": bound.nats_per_token * bound.tokens / len(text),
        "nats_per_char_stderr": stderr if math.isfinite(stderr) else None,
    }
