"""The command line: `tzd COMMAND …`, one module per command.

Only the chosen command's module is imported, so that `tzd --help` is instant. Whatever a user can get wrong ends in
one line on stderr and an exit code: 2 for what was given, 1 for what failed, 128 + N when interrupted by signal N.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import NoReturn

from tzd import __version__
from tzd.errors import TzdError, UserError, is_out_of_memory, nearest
from tzd.printable import printable

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("tzd.cli.demo", "see a model write, then train a small one on this machine"),
    "train": ("tzd.cli.train", "train a model: KEY=VALUE settings, groups by Hydra"),
    "plan": ("tzd.cli.plan", "what a run would cost: operations, memory, time"),
    "sample": ("tzd.cli.sample", "write text with a trained model"),
    "infill": ("tzd.cli.infill", "fill the blanks of a text"),
    "watch": ("tzd.cli.watch", "see a text being denoised: in the terminal, a window or a file"),
    "compare": ("tzd.cli.compare", "see samplers, or traces, side by side"),
    "life": ("tzd.cli.life", "play the Game of Life on a text whose living cells the model writes"),
    "eval": ("tzd.cli.eval", "score a text (NELBO), infilling, generated text; run lm-eval's tasks"),
    "report": ("tzd.cli.report", "a model beside others on held-out text: prediction, texts, infilling; as Markdown"),
    "corpus": ("tzd.cli.corpus", "list, show and fetch corpora; build large ones"),
    "convert": ("tzd.cli.convert", "turn weights of one format into another"),
    "plot": ("tzd.cli.plot", "draw what runs recorded: loss, validation, learning rate, speed"),
    "bench": ("tzd.cli.bench", "measure: ways of sampling; the speed of training, sampling, start-up, corpora"),
    "serve": ("tzd.cli.serve", "a page in the browser on which a model writes"),
    "samplers": ("tzd.cli.samplers", "the ways of sampling, and their settings"),
    "models": ("tzd.cli.models", "the models that come with tzd, one of which writes where none is named"),
}

SCRIPTS: dict[str, tuple[str, str]] = {  # the commands of Tiny Diffusion's MLX port, which have files of their own
    "mlx_training.py": ("tzd.cli.mlx_training", "train on MLX into a single file of weights, as the MLX port does"),
    "mlx_sample.py": ("tzd.cli.mlx_sample", "write connected blocks of text with such a file, as the MLX port does"),
    "game_of_life_mlx.py": ("tzd.cli.game_of_life_mlx", "play the Game of Life on a text, as the MLX port does"),
}
_ALL = {**COMMANDS, **SCRIPTS}
_LISTEN = ("train", "mlx_training.py", "serve")  # hear signals themselves


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError instead of printing the usage."""
        raise UserError(f"{message} (see '{self.prog} --help')")


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments after the program's name; those of the process if None.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a narrow locale shows "?" where it cannot show a character
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except TzdError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt as told:
        return _fail("interrupted", 128 + (told.args[0] if told.args else signal.SIGINT))
    except BrokenPipeError:  # the reader has gone (`tzd sample … | head`): nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        if error.errno == errno.ENOSPC and not error.filename:  # whatever writes files says which
            where = ": standard output; make room, or send it somewhere else"
        return _fail(f"{error.strerror or error}{where}", 1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail("out of memory: a smaller batch, length or model fits", 1)


def _parse(name: str, argv: list[str]) -> argparse.Namespace:
    module, summary = _ALL[name]
    parser = CommandParser(prog=name if name in SCRIPTS else f"tzd {name}", description=summary, allow_abbrev=False)
    importlib.import_module(module).add_arguments(parser)
    has_subcommands = any(action.nargs == argparse.PARSER for action in parser._actions)
    parse_known = parser.parse_known_args if has_subcommands else parser.parse_known_intermixed_args
    args, unknown = parse_known(argv)
    if unknown:
        option = unknown[0].split("=", 1)[0]
        known = [flag for flag in parser._option_string_actions if flag.startswith("--")]
        hint = nearest(option, known) if option.startswith("-") else f" (see '{parser.prog} --help')"
        raise UserError(f"{parser.prog} has no argument '{option}'{hint}")
    return args


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"tzd {__version__}")
        return 0
    name = argv[0]
    if name not in _ALL:
        what = "option" if name.startswith("-") else "command"
        raise UserError(f"unknown {what} '{name}'{nearest(name, [*COMMANDS, '--help', '--version'])}")
    args = _parse(name, argv[1:])
    with nullcontext() if name in _LISTEN else _as_by_ctrl_c():
        return int(importlib.import_module(_ALL[name][0]).run(args))


@contextmanager
def _as_by_ctrl_c() -> Iterator[None]:
    """Has SIGTERM and a closed terminal end a command as Ctrl-C does, cleaned up; a second SIGTERM ends it at once.

    Not a second SIGHUP: shell and system may both send one when a terminal is closed. Where somebody else listens, or
    the signal is to be ignored (nohup), it stays so.
    """
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    told: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        if not told:
            told.append(number)
            raise KeyboardInterrupt(number)
        if number != hangup:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    alone = threading.current_thread() is threading.main_thread()  # the only one that may listen
    numbers = [signal.SIGTERM, *filter(None, [hangup])] if alone else []
    heard = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in heard:
        signal.signal(number, leave)
    try:
        yield
    except Exception as error:
        if not told:
            raise
        raise KeyboardInterrupt(told[0]) from error  # a terminal that is closed cannot be tidied; workers were told too
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def _help() -> str:
    commands = "\n".join(f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items())
    return (
        "usage: tzd COMMAND …\n\n"
        "Tiny Zero Diffusion: train, sample, measure and watch masked diffusion language models.\n\n"
        f"commands:\n{commands}\n\n"
        "tzd COMMAND --help says what a command takes; tzd --version says which version this is."
    )


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # nobody may be listening any more
        print(f"tzd: {printable(message, keep='')}", file=sys.stderr)
    return code
