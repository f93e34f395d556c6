"""`tzd bench WHAT`: what ways of sampling are worth, and what training, sampling, starting and corpora cost."""

from __future__ import annotations

import argparse

from tzd.cli import bench_samplers, bench_speed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands and their flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="WHAT")
    bench_samplers.add_arguments(actions)
    bench_speed.add_arguments(actions)


def run(args: argparse.Namespace) -> int:
    """Measures."""
    return bench_samplers.run(args) if args.action == "samplers" else bench_speed.run(args)
