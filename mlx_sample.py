"""Writes as the MLX port does: `python mlx_sample.py --weights weights/mlx_diffusion_model.npz --num-blocks 30`."""

import sys

from tzd.cli import main

if __name__ == "__main__":
    sys.exit(main(["mlx_sample.py", *sys.argv[1:]]))
