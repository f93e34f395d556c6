"""Trains a model: `python train.py model.n_layer=6 model.n_embd=256 training.epochs=50`. The same as `tzd train`."""

import sys

from tzd.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
