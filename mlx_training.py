"""Trains as the MLX port does: `python mlx_training.py --max-iters 20000 --weights weights/mlx_diffusion_model.npz`."""

import sys

from tzd.cli import main

if __name__ == "__main__":
    sys.exit(main(["mlx_training.py", *sys.argv[1:]]))
