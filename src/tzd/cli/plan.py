"""`tzd plan KEY=VALUE …`: what a run would cost, from its configuration, without training."""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import TYPE_CHECKING

from tzd.cli import composing
from tzd.errors import ConfigError, UserError

if TYPE_CHECKING:
    from tzd.config import RunConfig
    from tzd.training.plan import Plan

BARE = ("devices", "num_nodes", "strategy", "precision")  # settings of `training` that may be given without it
_MEASURED_STEPS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help=f"as for tzd train; {', '.join(BARE)} may stand alone"
    )
    composing.add_arguments(parser)
    parser.add_argument(
        "--vocab-size", type=int, metavar="V", help="plan for V tokens and open no corpus; needs training.max_steps"
    )
    parser.add_argument("--tflops", type=float, metavar="X", help="peak of one device, in 1e12 operations a second")
    parser.add_argument("--mfu", type=float, default=0.4, metavar="SHARE", help="share of it that is reached (0.4)")
    parser.add_argument("--measure", action="store_true", help=f"measure the speed here, in {_MEASURED_STEPS} steps")
    parser.add_argument("--json", action="store_true", help="end with one JSON object; bytes, operations, hours")


def run(args: argparse.Namespace) -> int:
    """Prints the plan."""
    from tzd.configs import compose

    if args.tflops is not None and args.measure:
        raise UserError("--tflops says how fast a device is, and --measure finds out: give one of them")
    if args.tflops is not None and args.tflops <= 0:
        raise UserError(f"--tflops must be positive, not {args.tflops}")
    if not 0 < args.mfu <= 1:
        raise UserError(f"--mfu must lie in (0, 1], not {args.mfu}")
    overrides = [f"training.{item}" if item.partition("=")[0] in BARE else item for item in args.overrides]
    config = compose(overrides, config_name=args.config_name, folders=composing.folders(args))
    plan = _plan(config, args.vocab_size)
    rate = args.tflops * args.mfu * 1e12 if args.tflops else None
    if args.measure:
        if args.vocab_size is not None:
            raise UserError("--measure trains on the corpus: leave out --vocab-size")
        rate = measured_rate(config, plan)
    _show(config, plan, rate)
    if args.json:
        time = {} if rate is None else {"flop_per_second": rate, "hours": plan.hours(rate)}
        print(json.dumps({**plan.to_mapping(), **time}))
    return 0


def _plan(config: RunConfig, vocab_size: int | None) -> Plan:
    from tzd.checkpoint.litgpt import pretrained_folder
    from tzd.engines import engine_module
    from tzd.engines.formats import read_any
    from tzd.training.plan import count_devices, make_plan
    from tzd.training.run import initial_architecture
    from tzd.training.task import make_task

    start = config.training.init_from or pretrained_folder(config.model)
    initial = None if start is None else initial_architecture(read_any(start), config)
    if vocab_size is None:
        task = make_task(config, initial, world=count_devices(config.training), progress=True)
        model, steps = task.model, task.total_steps
    else:
        if vocab_size < 1:
            raise UserError(f"--vocab-size must be at least 1, not {vocab_size}")
        if config.training.max_steps is None:
            raise ConfigError("without a corpus nothing says how long an epoch is: set training.max_steps")
        model, steps = initial or config.model.architecture(vocab_size), config.training.max_steps
    shapes = engine_module("torch", "shapes").parameter_shapes(model)
    return make_plan(config, model, shapes, steps)


def measured_rate(config: RunConfig, plan: Plan) -> float:
    """Operations a second of one process here: the quickest of a few steps of the run itself, the first aside."""
    from tzd.api.rehearsal import rehearsed
    from tzd.api.training import train
    from tzd.training.records import read_rows

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = train(rehearsed(config, folder, _MEASURED_STEPS))
        assert checkpoint is not None  # it is the only process
        rows = read_rows(checkpoint.parent / "metrics.csv")
    speeds = [float(row["tokens_per_second"]) for row in rows if row.get("tokens_per_second")]
    return max(speeds[1:]) * plan.flop_per_step / plan.tokens_per_step


def _show(config: RunConfig, plan: Plan, rate: float | None) -> None:
    p, ratio = plan.parameters, plan.tokens / plan.parameters.total
    print(f"{config.run_name}: {config.model.model_type}, {plan.devices} device{'s' * (plan.devices > 1)}")
    print(f"  parameters        {_si(p.total)} ({_si(p.non_embedding)} without embedding and head)")
    print(f"  tokens            {_si(plan.tokens_per_step)} a step, {plan.steps} steps, {_si(plan.tokens)} in all")
    print(f"                    {ratio:.3g} per parameter")
    print(f"  operations        {_si(plan.flop_per_token)}FLOP a token, {_si(plan.flop_per_step)}FLOP a step")
    print(f"                    {plan.flop:.3g} FLOP in all; the head at {plan.head_share:.0%} of the tokens")
    print(f"  checkpoint        {_bytes(plan.checkpoint_bytes)}, up to {plan.checkpoints} of them")
    if rate is None:
        print("  time              give --tflops (a device's peak) and --mfu, or --measure")
    else:
        hours = plan.hours(rate)
        days = f" ({hours / 24:.1f} days)" if hours >= 48 else ""
        print(f"  time              {hours:.3g} hours{days} at {_si(rate)}FLOP/s a device")
    print("\nmemory of a device   " + "".join(f"{name:>14}" for name in plan.memory))
    for row in ("weights", "copies", "gradients", "optimizer", "average", "activations", "logits", "peak"):
        print(f"  {row:<19}" + "".join(f"{_bytes(getattr(m, row)):>14}" for m in plan.memory.values()))
    print(
        "\nCompute-optimal autoregressive models have some 20 tokens per parameter (arXiv:2203.15556); masked diffusion"
        "\nmodels were given 16 times the pre-training to match them in writing (arXiv:2410.18514)."
    )


def _si(number: float) -> str:
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.4g}{letter}"
    return f"{number:.4g}"


def _bytes(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"
