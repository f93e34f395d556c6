"""`tzd demo`: watch a model write that comes with tzd; then train a smaller one on this machine, and measure it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tzd.checkpoint.shipped import default_model
from tzd.cli import writing

PROMPT, LENGTH, TEMPERATURE = "The ", 300, 0.7  # cooler than what it learnt: a model this small is often unsure
SHIPPED_LENGTH = 250


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("--steps", type=int, metavar="N", help="optimizer steps (default: a minute or two's worth)")
    parser.add_argument("--out", default="runs", metavar="FOLDER", help="where the run's folder goes (default runs)")
    parser.add_argument("--seed", type=int, default=1337, help="of the whole demo (default 1337)")
    parser.add_argument("--engine", help="what computes: torch or mlx; the best one here if not given")
    parser.add_argument("--quiet", action="store_true", help="no live view of the sample")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Shows the shipped model, trains, measures, draws the loss, writes a text, and says what to try next."""
    from tzd import load, stream, train
    from tzd.configs import compose
    from tzd.engines import best_engine
    from tzd.training.records import read_metrics
    from tzd.viewers.plot import plot_runs

    engine = args.engine or best_engine()
    config = compose(["experiment=demo", f"engine={engine}"], folders=())
    steps = config.training.max_steps if args.steps is None else args.steps
    config = replace(config, seed=args.seed, training=replace(config.training, max_steps=steps, save_dir=args.out))
    shipped = _show_shipped(engine, args)
    print(f"\nTraining {config.model.name} on the corpus {config.data.name}: {steps} steps.", flush=True)
    checkpoint = train(config)
    if checkpoint is None:  # of several processes, the first speaks for all
        return 0
    folder = checkpoint.parent

    metrics = read_metrics(folder)
    bits = metrics["val_bits_per_char"][np.isfinite(metrics["val_bits_per_char"])]
    picture = plot_runs([folder], folder / "loss.png")
    print(f"\nNELBO on held-out text: {bits[0]:.3f} bits per character before, {bits.min():.3f} after.\n")

    model = load(checkpoint, engine=engine)
    print(f"What it writes after {PROMPT!r}, at temperature {TEMPERATURE}:\n")
    frames = stream(model, length=LENGTH, prompt=PROMPT, temperature=TEMPERATURE, seed=args.seed)
    out = writing.write(model, frames, quiet=args.quiet)

    program, run = _program(), shlex.quote(str(folder))
    print(f"\ncheckpoint  {checkpoint}\npicture     {picture}")
    print(
        "\nWhat to try next:\n"
        f"  {program} sample {run} --prompt 'The ' --length 500\n"
        f"  {program} watch {run} --save denoising.gif\n"
        f"  {program} life {run} --data pydocs\n"
        f"  {program} infill {run} 'the value of the ________ is returned'\n"
        f"  {program} eval {run} --data pydocs\n"
        f"  {program} train data=shakespeare"
    )
    if args.json:
        result = {"bits_per_char": [float(bits[0]), float(bits.min())], "text": out.text, "shipped": shipped}
        print(json.dumps({**result, "checkpoint": str(checkpoint), "picture": str(picture)}))
    return 0


def _show_shipped(engine: str, args: argparse.Namespace) -> list[str]:
    """Has the model that comes with tzd write; returns its text."""
    from tzd import load, stream

    folder = default_model()
    print(f"What {folder.name} writes, a model that comes with tzd ('{_program()} sample'):\n", flush=True)
    model = load(folder, engine=engine, precision="auto")
    frames = stream(model, length=SHIPPED_LENGTH, seed=args.seed)
    return writing.write(model, frames, quiet=args.quiet).text


def _program() -> str:
    """What starts this program from where the user stands."""
    if "UV_RUN_RECURSION_DEPTH" in os.environ:  # set by `uv run`, whose PATH is not that of the user's shell
        return "uv run tzd"
    if shutil.which("tzd"):
        return "tzd"
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tzd"
    return shlex.quote(sys.argv[0])
