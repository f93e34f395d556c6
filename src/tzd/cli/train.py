"""`tzd train KEY=VALUE …`: a run, configured by Hydra."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from tzd.cli import composing

if TYPE_CHECKING:
    from tzd.config import RunConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    from tzd.configs import options

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="model.n_layer=6, or GROUP=PRESET")
    composing.add_arguments(parser)
    parser.add_argument("--cfg", choices=["job"], help="show the composed configuration and leave")
    parser.add_argument("--multirun", "-m", action="store_true", help="run every combination of comma-separated values")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    groups = "\n".join(f"  {group:<11}{', '.join(names)}" for group, names in options().items())
    parser.epilog = (
        f"groups and their presets:\n{groups}\n\n"
        "--cfg job shows every setting. A folder configs/ in the working directory is searched first."
    )


def run(args: argparse.Namespace) -> int:
    """Trains, or shows what would be trained."""
    from tzd.configs import as_yaml, compose, sweep

    folders = composing.folders(args)
    if args.cfg:
        print(as_yaml(args.overrides, config_name=args.config_name, folders=folders), end="")
    elif args.multirun:
        sweep(args.overrides, lambda config: _train(config, args.json), config_name=args.config_name, folders=folders)
    else:
        _train(compose(args.overrides, config_name=args.config_name, folders=folders), args.json)
    return 0


def _train(config: RunConfig, as_json: bool) -> None:
    from tzd import train
    from tzd.cli.unheard import unheard

    with unheard():
        checkpoint = train(config)
    if checkpoint is None:  # the first process speaks for all
        return
    print(f"best checkpoint: {checkpoint}")
    if as_json:
        print(json.dumps({"checkpoint": str(checkpoint), "run": str(checkpoint.parent)}))
