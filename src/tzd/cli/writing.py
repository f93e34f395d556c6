"""What the commands that write text share: the sampler's flags, the live view, the printing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tzd.checkpoint.shipped import shipped
from tzd.errors import UserError
from tzd.printable import printable
from tzd.sampling import all_settings

if TYPE_CHECKING:
    from tzd.api import Model, Sample
    from tzd.sampling import Frame

# Settings that most people reach for; every other one is --sampler.KEY only.
FLAGS = {
    "steps": "denoising steps, at most one denoiser call each (two with guidance)",
    "temperature": "of the drawn tokens; 0 takes the most probable",
    "top_p": "draw among the most probable tokens that hold this share",
    "top_k_tokens": "draw among this many most probable tokens",
    "block_len": "write blocks of this length from left to right",
    "confidence_threshold": "reveal all that is surer than this at once (also --tau)",
    "cfg_scale": "guidance by the prompt; 0 is off",
    "order": "which blanks come first, for a combination of your own",
    "count": "how many a step reveals, likewise",
    "remask": "how written tokens are taken back, likewise",
}
SHORT = {"confidence_threshold": "--tau"}

CHECKPOINT = (
    "a run folder, a checkpoint folder, a file of weights, a model of the hub (hf:owner/name, hf:FOLDER), or one that"
    " comes with tzd, by its name ('tzd models' lists them)"
)


def add_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the model, which need not be named: then it is the first of those that come with tzd, if there is one."""
    default = next(iter(shipped().values()), None)
    said = "" if default is None else f" (default {default.name})"
    parser.add_argument("checkpoint", metavar="CKPT", nargs="?", default=default, help=f"{CHECKPOINT}{said}")


def add_model_arguments(parser: argparse.ArgumentParser, precision: str = "32") -> None:
    """Adds what every command has that loads a model.

    Args:
        parser: the command's.
        precision: what the command computes in unless told: "auto" where it writes, "32" where it measures.
    """
    parser.add_argument("--engine", help="what computes: torch or mlx; the best one here if not given")
    parser.add_argument(
        "--precision",
        default=precision,
        help="of the model's matrices: 32, bf16, int8, int4 (mlx only), or auto: bf16 where torch finds it in hardware,"
        f" else 32 (default {precision})",
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let code that comes with a model of the hub run here"
    )


def add_sampler_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says how to sample."""
    parser.add_argument(
        "--sampler", metavar="NAME", help="a name; 'tzd samplers' lists them (default: the model's own, or dilated)"
    )
    add_setting_arguments(parser)


def add_setting_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds every setting that a sampler may have."""
    for key in FLAGS | dict.fromkeys(all_settings()):
        names = [f"--{key.replace('_', '-')}"] if key in FLAGS else []
        names += [SHORT[key]] if key in SHORT else []
        text = FLAGS.get(key, argparse.SUPPRESS)
        names.append(f"--sampler.{key}")
        parser.add_argument(
            *names, dest=f"sampler.{key}", type=literal, default=argparse.SUPPRESS, metavar="X", help=text
        )
    parser.epilog = "Any setting of the sampler can be given as --sampler.KEY=VALUE; 'tzd samplers' shows them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `sample` and `infill` have in common."""
    add_sampler_arguments(parser)
    parser.add_argument(
        "--ban", action="append", default=[], metavar="TEXT", help="a token not to write; may be given several times"
    )
    parser.add_argument("--seed", type=int, default=0, help="of every draw (default 0)")
    parser.add_argument(
        "--batch-size", "--num-samples", dest="batch_size", type=int, default=1, metavar="N", help="texts to write"
    )
    add_model_arguments(parser, "auto")
    parser.add_argument("--quiet", action="store_true", help="print the text only, without the live view")
    parser.add_argument("--save-trace", metavar="X.npz", help="keep the run, to be watched again without the model")
    parser.add_argument("--json", action="store_true", help="end with one JSON object: text, answers, tokens, nfe")


def load_model(args: argparse.Namespace, path: str | Path | None) -> Model:
    """The model at `path`, or the first of those that come with tzd, as the flags of `add_model_arguments` say."""
    from tzd import load
    from tzd.viewers.trace import is_trace

    if path is not None and is_trace(path):
        raise UserError(f"{path} is a trace, not a model: 'tzd watch {path}' shows it")
    return load(path, engine=args.engine, precision=args.precision, trust_remote_code=args.trust_remote_code)


def request(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """What `tzd.stream` is to be called with: the sampler, its settings, the batch, the seed and the bans."""
    batch = {"batch_size": args.batch_size, "seed": args.seed, "ban": args.ban}
    name, chosen = model.way(args.sampler, settings(args))
    return {"sampler": name, **batch, **chosen}


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the sampler that were given."""
    prefix = "sampler."
    return {key[len(prefix) :]: value for key, value in vars(args).items() if key.startswith(prefix)}


def check(args: argparse.Namespace) -> None:
    """UserError where a trace is asked for that cannot be written; called before anything heavy is done."""
    if args.save_trace is not None:
        from tzd.viewers.trace import check_ending

        check_ending(Path(args.save_trace))


def write(
    model: Model, frames: Iterator[Frame], *, quiet: bool, as_json: bool = False, trace: str | None = None
) -> Sample:
    """Shows the denoising where there is a terminal, then prints the text.

    Args:
        model: whose frames they are.
        frames: what the sampler yields.
        quiet: print the text only.
        as_json: end with one JSON object.
        trace: where the run is kept, if it is.

    Returns:
        What was written.
    """
    from tzd.api import finished, kept
    from tzd.viewers.film import Recorder

    if model.tokenizer is None:
        raise UserError("this model has no tokenizer, so that it cannot write text: put its tokenizer.json beside it")
    terminal = sys.stdout.isatty()
    if terminal and not quiet:
        from tzd.viewers.terminal import watch

        frames = watch(frames, model.tokenizer)
    recorder = Recorder()
    out = finished(model, frames if trace is None else recorder.record(frames))
    try:
        print("\n\n---\n\n".join(safe(text) for text in out.text))
        if as_json:
            print(json.dumps({"text": out.text, "answers": out.answers, "tokens": out.tokens.tolist(), "nfe": out.nfe}))
    finally:  # kept even where the text's reader has gone
        if trace is not None:
            kept(recorder, out).save(trace)
    return out


def safe(text: str) -> str:
    """`text` as it can be printed: on a terminal, control characters become signs."""
    return printable(text) if sys.stdout.isatty() else text


def literal(text: str) -> Any:
    """A number, a truth value, None or a text, as YAML would read it."""
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
