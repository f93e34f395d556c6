"""`tzd convert SRC DST`: weights of any format that tzd reads, as a tzd checkpoint or a single file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tzd.cli.contenders import parse_samplers
from tzd.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a run folder, a checkpoint folder, the weights in one, a .npz, .pt or .safetensors file, or a folder with"
        " one of these",
    )
    parser.add_argument(
        "destination",
        metavar="DST",
        help="a folder that does not exist yet; or NAME.npz, the file of Tiny Diffusion's MLX port",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        help="of the weights in a checkpoint: float32 (default), or int8: a quarter of the size, for a model that is"
        " passed on",
    )
    parser.add_argument(
        "--sampling",
        metavar="NAME:KEY=VALUE",
        help="how the model is best sampled, for whoever names no sampler: a sampler and settings of it",
    )
    numbers = parser.add_argument_group("what a .pt file does not say (a config.json beside it may)")
    numbers.add_argument("--n-head", type=int, metavar="N", help="attention heads")
    numbers.add_argument("--block-size", type=int, metavar="L", help="length of the window (default 256)")
    numbers.add_argument("--context-len", type=int, metavar="C", help="prefix never masked in training (default 64)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Converts, and says where the result is, and who can read it."""
    from tzd.api import converted

    numbers = {"n_head": args.n_head, "block_size": args.block_size, "context_len": args.context_len}
    written, note = converted(args.source, args.destination, dtype=args.dtype, sampling=_sampling(args), **numbers)
    print(f"wrote {written}")
    if note is not None:
        print(note)
    if args.json:
        print(json.dumps({"checkpoint": str(written)}))
    return 0


def _sampling(args: argparse.Namespace) -> dict[str, Any] | None:
    """The sampler that was named, as a checkpoint has it."""
    if args.sampling is None:
        return None
    (name, settings), *more = parse_samplers(args.sampling)
    if more:
        raise UserError(f"--sampling {args.sampling}: name one sampler, with its settings behind colons")
    return {"name": name, **settings}
