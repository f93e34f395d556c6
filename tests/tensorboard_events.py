"""What TensorBoard reads of a run: for tests of what loggers wrote."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator


def events(folder: Path) -> EventAccumulator:
    """What TensorBoard shows of a run."""
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.tensor_proto.float_val[0]) for event in events(folder).Tensors(tag)]


def texts(folder: Path, tag: str) -> list[tuple[int, str]]:
    """Step and text; that each line, but for the temperature's, is set off as code is checked and undone."""
    found = []
    for event in events(folder).Tensors(tag):
        (text,) = event.tensor_proto.string_val
        lines = text.decode().split("\n")
        if tag != "config":
            assert lines[0].startswith("temperature ") and not lines[1]
            lines = lines[2:]
        assert all(line.startswith("    ") for line in lines)
        found.append((event.step, "\n".join(line[4:] for line in lines)))
    return found
