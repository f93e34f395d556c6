"""`game_of_life_mlx.py`: the Game of Life on a text, with the flags of Tiny Diffusion's MLX port."""

from __future__ import annotations

import argparse

from tzd.cli import life


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "--weights",
        dest="checkpoint",
        default="weights/mlx_diffusion_model.npz",
        metavar="FILE",
        help="a .npz, or any checkpoint",
    )
    life.add_game_arguments(parser)
    parser.set_defaults(data="data/tiny_shakespeare.txt", engine="mlx")
    parser.epilog = (
        f"{parser.epilog} --weights weights/mlx_diffusion_model.npz --data data/tiny_shakespeare.txt --iterations"
        f" {life.GENERATIONS} --engine mlx."
    )


def run(args: argparse.Namespace) -> int:
    """Plays."""
    return life.run(args)
