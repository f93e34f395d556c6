"""`mlx_training.py`: a run on MLX into a single file of weights, with the flags of Tiny Diffusion's MLX port.

It is `tzd train` with other names for a few settings. The run's folder lies beside the weights (`--state-path`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tzd.checkpoint import Checkpoint, RunFolder, read_checkpoint
from tzd.checkpoint.layout import sha256
from tzd.corpus import resolve_file
from tzd.corpus.sources import shakespeare
from tzd.engines.formats import read_any
from tzd.errors import TzdError, UserError

if TYPE_CHECKING:
    from tzd.config import RunConfig

# What the port trains; the objective is ours.
PRESETS = (
    "engine=mlx",
    "model=tiny_mlx",
    "tokenizer=ascii",
    "objective.context_len=64",
    "training.optimizer=adamw",
    "training.lr_schedule=constant",
)
NUMBERS = {
    "--batch-size": ("data.batch_size", int, 64, "windows per step"),
    "--max-iters": ("training.max_steps", int, 20000, "steps in all, also when resumed"),
    "--eval-interval": ("training.eval_interval", int, 500, "steps between validations, samples and checkpoints"),
    "--learning-rate": ("model.lr", float, 3e-4, "of AdamW"),
    "--weight-decay": ("training.weight_decay", float, 0.01, "of matrices"),
}
# Settings that flags decide alone.
OWNED = {
    **{setting: flag for flag, (setting, *_) in NUMBERS.items()},
    **dict.fromkeys(("data", "data.name", "data.path"), "--data"),
    "training.export_to": "--weights",
    **dict.fromkeys(("training.run_folder", "training.save_dir", "logger.name", "experiment_suffix"), "--state-path"),
    **dict.fromkeys(("training.resume", "training.init_from"), "--resume"),
    "training.first_step": "--resume-step",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="further settings, as 'tzd train' takes them: model=tiny_cpu")
    add(
        "--data",
        default="data/tiny_shakespeare.txt",
        metavar="FILE",
        help="text to train on (default %(default)s, which is downloaded where it is missing)",
    )
    for flag, (_, kind, default, text) in NUMBERS.items():
        add(flag, type=kind, default=default, metavar="N", help=f"{text} (default %(default)s)")
    add(
        "--weights",
        type=Path,
        default=Path("weights/mlx_diffusion_model.npz"),
        metavar="FILE",
        help="where the weights go, a .npz, written anew with each checkpoint (default %(default)s)",
    )
    add(
        "--state-path",
        type=Path,
        metavar="FOLDER",
        help="where checkpoints, metrics and samples go (default: the weights' path with .state for .npz)",
    )
    add("--resume", action="store_true", help="go on from the state, or begin with the weights where there is none")
    add("--resume-step", type=int, metavar="N", help="the step that weights without a state are at (default 0)")


def run(args: argparse.Namespace) -> int:
    """Trains."""
    from tzd import train

    for override in args.overrides:
        key = override.split("=", 1)[0].lstrip("+~")
        if key in OWNED:
            raise UserError(f"{override} is not taken here: give {OWNED[key]}")
    weights, state = _paths(args)
    begin = _resumed(args, weights, state) if args.resume else _fresh(args, weights, state)
    with _named_by_flags(state, "--weights" if args.state_path is None else "--state-path"):
        written = train(_config(args, state, begin))
    if written is not None:  # where several processes train together, the first speaks for all
        print(f"weights: {weights}\nstate:   {state}")
    return 0


def _config(args: argparse.Namespace, state: Path, begin: dict[str, Any]) -> RunConfig:
    from tzd.configs import compose

    numbers = [f"{setting}={getattr(args, flag[2:].replace('-', '_'))}" for flag, (setting, *_) in NUMBERS.items()]
    config = compose([*PRESETS, *numbers, *args.overrides])
    name, path = _corpus(args.data)
    return replace(
        config,
        data=replace(config.data, name=name, path=path),
        training=replace(
            config.training,
            save_dir=str(state.parent),
            run_folder=str(state),
            export_to=str(args.weights),
            **begin,
        ),
        logger=replace(config.logger, name=state.name),
        experiment_suffix="",
    )


def _corpus(data: str) -> tuple[str, str]:
    """The corpus that --data means, by its name, and the file."""
    if not data:
        raise UserError("--data names nothing: give it a file")
    file = resolve_file(data, progress=sys.stderr.isatty())
    if file.is_dir():
        raise UserError(f"{file} is a folder; --data takes a file")
    published = file.name == shakespeare.FILE.name and sha256(file) == shakespeare.FILE.sha256
    return "shakespeare" if published else "text", str(file)


def _paths(args: argparse.Namespace) -> tuple[Path, Path]:
    """The weights and the run's folder; UserError where they could not be written."""
    weights = args.weights
    if weights.name == ".npz":
        raise UserError(f"--weights {weights} is an ending without a name: call it NAME.npz")
    if weights.suffix != ".npz":
        raise UserError(f"--weights {weights}: only .npz can be written; give a name that ends in it")
    if weights.is_dir():
        raise UserError(f"--weights {weights} is a folder; name a file")
    state = args.state_path or weights.with_suffix(".state")
    if state.suffix == ".pkl" or state.is_file():
        raise UserError(
            f"--state-path {state}: the state is a folder here, no pickle is read or written; name a folder"
        )
    files = {file.resolve() for file in (weights, weights.with_suffix(".json"))}
    if state.name in ("", "..") or files & {state.resolve(), *state.resolve().parents}:
        raise UserError(f"--state-path {state} must name a folder of its own, beside {weights} and its .json")
    return weights, state


def _fresh(args: argparse.Namespace, weights: Path, state: Path) -> dict[str, Any]:
    """The settings of a run that begins; UserError where it would overwrite another."""
    if args.resume_step is not None:
        raise UserError("--resume-step goes with --resume")
    if weights.exists():
        raise UserError(f"{weights} exists: give --resume to go on with it, or name another file with --weights")
    if _last(state):
        raise UserError(f"{state} holds a run: give --resume to go on with it, or name other --weights")
    beside = weights.with_suffix(".json")
    if beside.exists():
        raise UserError(f"{beside} exists, and the weights' description goes there: remove it, or name other --weights")
    _refuse_filled(state)
    return {}


def _resumed(args: argparse.Namespace, weights: Path, state: Path) -> dict[str, Any]:
    """The settings of a run that goes on from its state, or begins with weights that have none."""
    last = _last(state)
    if last is None:
        if not weights.is_file():
            raise UserError(f"there are no weights at {weights} to go on with: leave out --resume to begin anew")
        _refuse_filled(state)
        return {"init_from": str(weights), "first_step": args.resume_step or 0}
    saved = read_checkpoint(last)
    step = saved.section("provenance").get("step")
    if args.resume_step not in (None, step):
        raise UserError(f"--resume-step={args.resume_step}, but {state} is at step {step}: leave it out")
    begun = saved.section("provenance").get("run", {}).get("training", {})
    if begun.get("init_from") is not None:  # the state has the architecture of the weights that it began with
        return {"resume": str(state), "init_from": str(last), "first_step": begun.get("first_step", 0)}
    if not _may_be_of(weights, saved):
        raise UserError(
            f"{weights} is not from the run in {state}: name that run's weights, or another --state-path for these"
        )
    return {"resume": str(state)}


def _may_be_of(weights: Path, saved: Checkpoint) -> bool:
    """Whether nothing that a file says tells its weights from a run's.

    A file that cannot be read, as one that was cut short, says nothing: the run has all that it held.
    """
    try:
        found = read_any(weights)
    except TzdError:
        return True
    told = (("provenance", ("seed", "corpus_sha256")), ("model", ("n_layer", "n_head", "n_embd", "block_size")))
    return all(
        saved.section(section).get(name) in (value, None)
        for section, names in told
        for name in names
        if (value := found.section(section).get(name)) is not None
    )


def _last(state: Path) -> Path | None:
    return RunFolder(state).resolve("last")


def _refuse_filled(state: Path) -> None:
    if state.is_dir() and not RunFolder(state).is_blank():
        raise UserError(f"{state} is not empty and holds no run to go on with: remove it, or name another --state-path")


@contextmanager
def _named_by_flags(state: Path, placed_by: str) -> Iterator[None]:
    """Has errors name the flags that this command has for settings; `placed_by` says where `state` is."""
    try:
        yield
    except TzdError as error:
        message = str(error).replace(f"training.resume={state}", "--resume")
        message = message.replace(" training.max_steps or epochs", " training.max_steps")
        message = message.replace(f"training.run_folder={state}", f"{placed_by}: {state}")
        for setting, flag in OWNED.items():
            message = message.replace(setting, flag) if "." in setting else message
        error.args = (message,)
        raise
