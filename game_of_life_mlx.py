"""Plays as the MLX port does: `python game_of_life_mlx.py --weights FILE.npz --iterations 200`."""

import sys

from tzd.cli import main

if __name__ == "__main__":
    sys.exit(main(["game_of_life_mlx.py", *sys.argv[1:]]))
