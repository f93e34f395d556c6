from __future__ import annotations

import io

from rich.console import Console

from tzd.loggers.progress import ProgressLogger
from tzd.printable import printable
from tzd.training.records import Written

TEXT = "a\x1b[31mb\x07\x00\x7f\x9b"
SIGNS = "a␛[31mb␇␀␡\N{REPLACEMENT CHARACTER}"


def test_control_characters_become_signs_but_for_line_breaks_and_tabs():
    assert printable(TEXT) == SIGNS
    assert printable("a\n\tb\r") == "a\n\tb␍"
    assert printable("a\n\t", keep="") == "a⏎⇥"


def test_a_sample_shown_while_training_commands_no_terminal():
    console = Console(file=io.StringIO(), force_terminal=False, width=60)
    logger = ProgressLogger(0, 10, console)
    logger.log_samples(5, [Written(0.7, TEXT)])
    logger.close()
    shown = console.file.getvalue()
    assert SIGNS in shown and "a sample at step 5" in shown
    assert not set(shown) & set("\x1b\x07\x00\x7f\x9b")
