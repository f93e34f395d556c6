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
        """Moves the bar, or prints a validation."""
        step = int(record["step"])
        if "val_nats_per_token" in record:
            nats, stderr, bits = (record[f"val_{k}"] for k in ("nats_per_token", "stderr", "bits_per_char"))
            line = f"step {step:>{len(str(self.total))}}/{self.total}  "
            line += f"validation NELBO {nats:.4f} ± {stderr:.4f} nats/token, {bits:.4f} bits/char"
            self.console.print(line, soft_wrap=True)
        else:
            text = f"loss {record['loss']:.4f} · {record['tokens_per_second']:,.0f} tokens/s"
            self.progress.update(self.task, completed=step, description=text)

    def log_samples(self, step: int, texts: Sequence[str]) -> None:
        """Prints what the model writes by now."""
        for text in texts:
            self.console.print(Panel(Text(printable(text)), title=f"a sample at step {step}", title_align="left"))

    def close(self) -> None:
        """Ends the bar."""
        self.progress.stop()
