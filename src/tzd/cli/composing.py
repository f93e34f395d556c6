"""What the commands share that compose a run's configuration: where it is looked for."""

from __future__ import annotations

import argparse
from pathlib import Path

from tzd.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds Hydra's flags."""
    parser.add_argument("--config-name", "-cn", default="config", metavar="NAME", help="the primary configuration")
    parser.add_argument("--config-path", "-cp", type=Path, metavar="FOLDER", help="searched in place of ./configs")
    parser.add_argument("--config-dir", "-cd", type=Path, metavar="FOLDER", help="searched before everything else")


def folders(args: argparse.Namespace) -> list[Path]:
    """What is searched before the package's own presets, in this order; UserError for what is no folder."""
    from tzd.configs import LOCAL

    for folder in filter(None, (args.config_dir, args.config_path)):
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder (--config-dir, --config-path)")
    return [folder for folder in (args.config_dir, args.config_path or LOCAL) if folder]
