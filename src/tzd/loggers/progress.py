"""Progress on the terminal: a bar with loss, tokens/s and time left; each validation and sample as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tzd.printable import printable
from tzd.training.records import Phase, Written


class ProgressLogger:
    """Implements `tzd.training.records.Logger` for a person who watches.

    Args:
        step: where the run begins.
        total: where it ends.
        console: where to write; standard error if not given, so that standard output stays for results.
    """

    def __init__(self, step: int, total: int, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("· left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,  # in a log file the validations' lines are enough
            expand=True,
        )
        self.total = total
        self.task: TaskID = self.progress.add_task("", total=total, completed=step)
        self.progress.start()

    def log(self, record: Mapping[str, float | int]) -> None:
        """Moves the bar, or prints a validation or the test."""
        step = int(record["step"])
        where = f"step {step:>{len(str(self.total))}}/{self.total}  "
        if "val_nats_per_token" in record:
            self.console.print(f"{where}validation NELBO {_bound(record, 'val')}", soft_wrap=True)
        elif "test_nats_per_token" in record:
            self.console.print(f"{where}test NELBO of the best {_bound(record, 'test')}", soft_wrap=True)
        else:
            text = f"loss {record['loss']:.4f} · {record['tokens_per_second']:,.0f} tokens/s"
            self.progress.update(self.task, completed=step, description=text)

    def log_samples(self, step: int, samples: Sequence[Written], phase: Phase = "val") -> None:
        """Prints what the model writes by now; at the end, the first text of each temperature."""
        if phase == "test":
            samples = list({sample.temperature: sample for sample in reversed(samples)}.values())[::-1]
        for sample in samples:
            title = f"a sample at step {step}, temperature {sample.temperature}"
            self.console.print(Panel(Text(printable(sample.text)), title=title, title_align="left"))

    def close(self) -> None:
        """Ends the bar."""
        self.progress.stop()


def _bound(record: Mapping[str, float | int], phase: Phase) -> str:
    nats, stderr, bits = (record[f"{phase}_{key}"] for key in ("nats_per_token", "stderr", "bits_per_char"))
    return f"{nats:.4f} ± {stderr:.4f} nats/token, {bits:.4f} bits/char"
