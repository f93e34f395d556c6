"""Whatever is typed as an option's value, a command takes it or says in one line what is wrong with it."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator

import pytest
from running import Run

from tzd.cli import _ALL, CommandParser

WORDS = ("", "much", "[1", "\udcff")  # the last: a byte that is no UTF-8
NUMBERS = ("much", "-1", "nan", str(10**30))
MORE_WORDS = (" ", "-1", "nan", "a:b=", ",", "\n")
MORE_NUMBERS = ("", "0", "1.5", "1e999", "0x10")
SMALL = ["--length", "4", "--steps", "1"]
BASE: dict[str, list[str]] = {  # what a command needs beside the option to have little to do, where it needs anything
    "sample": ["model", *SMALL],
    "infill": ["model", "a_c"],
    "watch": ["model", *SMALL],
    "compare": ["model", *SMALL],
    "life": ["model", "--size", "8", "--iterations", "1"],
    "eval": ["model", "--data", "text.txt"],
    "report": ["model", "--judge", "judge"],
    "corpus show": ["text"],
    "corpus fetch": ["arithmetic"],
    "corpus build": ["text.txt", "--out", "shards", "--tokenizer", "byte", "--workers", "0"],
    "corpus check": ["text.txt"],
    "convert": ["text.txt", "there"],
    "plot": ["text.txt"],
    "plan": ["--vocab-size", "9", "training.max_steps=1"],
    "bench samplers": ["model", "--samples", "1", "--budgets", "1"],
    "mlx_training.py": ["--data", "none.txt"],
    "mlx_sample.py": ["--prompt", "abc", "--num-blocks", "1"],
    "game_of_life_mlx.py": ["--size", "8", "--iterations", "1"],
}
WORK = {"--iterations", "--blocks", "--num-blocks", "--samples", "--num-samples", "--draws"}  # as much as is asked for


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and subcommand with its parser."""
    import importlib

    for name, (module, _) in _ALL.items():
        parser: argparse.ArgumentParser = CommandParser(prog=name, allow_abbrev=False)
        importlib.import_module(module).add_arguments(parser)
        parts = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not parts:
            yield name, parser
        for action in parts:
            yield from ((f"{name} {part}", own) for part, own in action.choices.items())


def _typed(name: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Iterator[list[str]]:
    """Each option of a command with each wrong value; those of samplers, which many share, for one command alone."""
    parser = dict(_parsers())[name]
    seen: set[str] = set()
    for action in parser._actions:
        flag = (action.option_strings or [""])[-1]
        if not flag.startswith("--") or action.nargs == 0 or flag in seen or flag == "--help":
            continue
        if flag.startswith("--sampler.") and name != "sample":
            continue
        seen.add(flag)
        values = numbers if action.type in (int, float) else words
        for value in values:
            if not (flag in WORK and value == str(10**30)):
                yield [f"{flag}={value}"]


COMMANDS = [name for name in _ALL if name not in ("corpus", "bench")]
COMMANDS += [f"corpus {part}" for part in ("list", "show", "fetch", "build", "check")]
COMMANDS += [f"bench {part}" for part in ("samplers", "train", "sample", "startup", "corpus")]


@pytest.mark.parametrize("name", COMMANDS)
def test_no_value_of_an_option_ends_in_a_stack_trace(name: str, idle: Run):
    _try(name, idle, WORDS, NUMBERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_further_value_of_an_option_ends_in_a_stack_trace(name: str, idle: Run):
    _try(name, idle, MORE_WORDS, MORE_NUMBERS)


def _try(name: str, idle: Run, words: tuple[str, ...], numbers: tuple[str, ...]) -> None:
    for given in _typed(name, words, numbers):
        shutil.rmtree("shards", ignore_errors=True)  # that one of them made
        result = idle(*name.split(), *BASE.get(name, []), *given)
        assert result.returncode in (0, 1, 2), given
        if result.returncode:
            last = result.stderr.splitlines()[-1]
            assert last.startswith("tzd: ") and len(last) < 2010, given
            assert "Traceback" not in result.stderr, given
