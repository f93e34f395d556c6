"""`tzd eval CKPT --infill` and `--gen-ppl`: what a model writes, held against real text."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from tzd.cli import measuring, writing
from tzd.corpus.chat import PairTokenizer
from tzd.errors import UserError
from tzd.sampling import Sampler, sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tzd.evaluation.frontier import Bench, Contender

_DEFAULTS = {"samples": 1024, "batch_size": 64, "length": 0}  # a length of 0 is the model's window
_COLUMNS = [name for name in measuring.COLUMNS if name != "infill_accuracy"]


def run(args: argparse.Namespace) -> int:
    """Measures infilling, generated text, or both."""
    from tzd.evaluation.frontier import Bench, Contender
    from tzd.evaluation.infilling import default_span

    samples, batch_size, length = (_number(args, name) for name in _DEFAULTS)
    verdict = None if args.judge is None else measuring.verdict_of(args.judge, args.engine)
    model = writing.load_model(args, args.checkpoint)
    contender = Contender(*model.way(args.sampler, writing.settings(args)))
    rules = sampler(contender.sampler, **contender.settings)
    if isinstance(model.tokenizer, PairTokenizer):
        raise UserError("--infill and --gen-ppl are for models of running text; this one answers prompts: use --data")
    real = measuring.text_of(model, args.data, split=args.split, data_dir=args.data_dir)
    bench = Bench(
        denoiser=model.denoiser,
        decode=model.decode,
        verdict=verdict,
        training=model.encode(real.training) if args.gen_ppl and real.training else None,
        held_out=measuring.windows_of(model, real, length, samples),
        samples=samples,
        batch_size=batch_size,
        seed=args.seed,
        infill=False,
    )
    spans = [default_span(bench.length)] if args.span is None else _spans(args.span, bench.length)
    texts = len(bench.held_out)
    print(f"{real.what}: {texts:,} text{'s'[: texts != 1]} of {bench.length:,} tokens")
    result = {"model": str(args.checkpoint), "data": real.what, "texts": texts, "length": bench.length}
    result |= {"sampler": contender.sampler, "settings": contender.settings, "seed": args.seed}
    if args.infill:
        print(f"\n{'gap in the middle':<20}{contender.label:>32}{'the commonest token':>24}")
        result["infill"] = [_infill(bench, rules, span) for span in spans]
    if args.gen_ppl:
        result |= {"judge": args.judge, "samples": samples, "points": _gen_ppl(bench, contender)}
    if args.json:
        print(json.dumps(result))
    return 0


def _infill(bench: Bench, rules: Sampler, span: int) -> dict[str, Any]:
    """Prints and returns what is restored of a gap, and what the commonest token would restore."""
    from tzd.evaluation.infilling import commonest_accuracy, infill_accuracy

    mine = infill_accuracy(
        bench.denoiser, bench.held_out, sampler=rules, span=span, batch_size=bench.batch_size, seed=bench.seed
    )
    guess = commonest_accuracy(bench.held_out, span=span)
    cells = [f"{value:.4f}" + (f" ±{stderr:.4f}" if math.isfinite(stderr) else "") for value, stderr in (mine, guess)]
    gap = f"{span:,} token{'s'[: span != 1]}"
    print(f"{gap:<20}{cells[0]:>32}{cells[1]:>24}", flush=True)
    return {"span": span, **mine.named("infill_accuracy"), **guess.named("commonest_accuracy")}


def _gen_ppl(bench: Bench, contender: Contender) -> list[dict[str, Any]]:
    """Prints and returns what the judge says of the texts, and how varied they are, below real text."""
    from tzd.evaluation.frontier import to_rows

    print(f"\n{bench.samples:,} text{'s'[: bench.samples != 1]} written, a judge's verdict in nats per character")
    measuring.print_head(_COLUMNS)
    rows: list[dict[str, Any]] = []
    for label in ("real text", contender.label):
        rows += to_rows([bench.measure(contender) if rows else bench.real()])
        measuring.print_row(rows[-1], label, _COLUMNS)
    return rows


def _spans(text: str, length: int) -> Sequence[int]:
    try:
        spans = [int(part) for part in text.split(",")]
    except ValueError:
        spans = []
    if not spans or not all(1 <= span < length for span in spans):
        raise UserError(f"--span {text}: give whole numbers from 1 to {length - 1}, separated by commas")
    return spans


def _number(args: argparse.Namespace, name: str) -> int:
    value: int = _DEFAULTS[name] if getattr(args, name) is None else getattr(args, name)
    if value < 1 and getattr(args, name) is not None:
        raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    return value
