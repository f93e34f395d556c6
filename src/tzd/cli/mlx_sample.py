"""`mlx_sample.py`: connected blocks of text, with the flags of Tiny Diffusion's MLX port."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.cli import writing
from tzd.corpus import resolve_file
from tzd.corpus.files import read_text
from tzd.errors import CorpusError, UserError
from tzd.randomness import integer

if TYPE_CHECKING:
    from tzd.api import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    add = parser.add_argument
    add("--weights", default="weights/mlx_diffusion_model.npz", metavar="FILE", help="a .npz, or any checkpoint")
    add("--data", default="data/tiny_shakespeare.txt", metavar="FILE", help="what the first context is drawn from")
    add("--num-blocks", type=int, default=30, metavar="N", help="windows of the model, each overlapping the one before")
    add("--prompt", metavar="TEXT", help="what the text begins with, in place of a context drawn from --data")
    writing.add_arguments(parser)
    parser.set_defaults(sampler="renoise", engine="mlx")
    parser.epilog = (
        f"{parser.epilog} Defaults: --weights weights/mlx_diffusion_model.npz --data data/tiny_shakespeare.txt"
        " --num-blocks 30 --sampler renoise --steps 128 --temperature 1.0 --seed 0 --engine mlx. A model that was"
        " trained without a context (context_len=0) writes the blocks independently of each other, and --data is not"
        " read."
    )


def run(args: argparse.Namespace) -> int:
    """Writes text."""
    from tzd import stream

    for flag, value in (("--num-blocks", args.num_blocks), ("--batch-size", args.batch_size)):
        if value < 1:
            raise UserError(f"{flag} must be at least 1, not {value}")
    model = writing.load_model(args, args.weights)
    frames = stream(model, **{**writing.request(args, model), **_canvas(args, model)})
    writing.write(model, frames, quiet=args.quiet, as_json=args.json)
    return 0


def _canvas(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """The prompt, the number of new tokens, and where no prompt says it the number of rows."""
    window, context = model.denoiser.seq_len, model.denoiser.context_len
    if context:  # the sampler overlaps its windows by as much
        prompt = _contexts(args, model) if args.prompt is None else args.prompt
        return {"prompt": prompt, "length": args.num_blocks * (window - context)}
    prompt = args.prompt or ""
    left = window - len(model.encode(prompt))
    if left < 1:
        raise UserError(f"--prompt leaves nothing to write in the model's window of {window} tokens: shorten it")
    return {"prompt": prompt, "length": left, "batch_size": args.num_blocks * args.batch_size}


def _contexts(args: argparse.Namespace, model: Model) -> np.ndarray:
    """Pieces of --data for texts to begin with: (B, context_len), a pure function of --seed."""
    file = resolve_file(args.data, progress=sys.stderr.isatty())
    text = read_text(file)
    try:
        tokens = model.encode(text)
    except CorpusError as error:
        raise CorpusError(f"{file}: {error}") from error
    context = model.denoiser.context_len
    starts = len(tokens) - context + 1
    if starts < 1:
        raise CorpusError(
            f"{file} has {len(tokens)} tokens, fewer than the model's context of {context}: give a longer --data, or a"
            " --prompt"
        )
    first = [integer(args.seed, "context", 0, row) % starts for row in range(args.batch_size)]
    return np.stack([tokens[start : start + context] for start in first])
