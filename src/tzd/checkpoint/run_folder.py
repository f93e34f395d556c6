"""A run folder: its checkpoints, the pointers to the last and the best, and the lock of the run that writes it."""

from __future__ import annotations

import os
import re
import socket
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from tzd.checkpoint.durable import clear_litter, held, one_line_errors, remove_folder, replace_file, sync
from tzd.checkpoint.layout import is_plain_name
from tzd.errors import CheckpointError, ConfigError, TzdError, UserError

Pointer = Literal["last", "best", "finished"]
_STEP = re.compile(r"step-(\d{8,18})", re.ASCII)
_POINTER = re.compile(rf"({_STEP.pattern})(?: ([0-9a-f]{{8}}))?", re.ASCII)  # older versions wrote no checksum
_LOGGED = ("metrics.csv", "samples.txt")
_TRACE = re.compile(  # what a run leaves that ended before its first checkpoint; W&B's folder keeps each of its runs
    rf"lock|{'|'.join(map(re.escape, _LOGGED))}|events\.out\.tfevents\.\d{{1,18}}\.tzd|wandb|\..*\.tmp", re.ASCII
)
_HOST = socket.gethostname()  # now: that of a laptop changes with its network


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training run.

    Attributes:
        path: `step-00000123/` are its checkpoints; `last`, `best` and, once the run has come to its end, `finished`
            are files that hold the name of one, and the name's checksum.
    """

    path: Path

    @classmethod
    def create(cls, save_dir: Path | str, name: str) -> RunFolder:
        """Makes `save_dir/name`, or `name-2`, `name-3`, ... if there are runs of that name already.

        Raises:
            ConfigError: the name is not that of a folder.
            UserError: the folder cannot be made.
        """
        try:
            runs = _runs(Path(save_dir), name)
            number = max(runs, default=0)
            if number == 0 or any(runs[number].iterdir()):  # an empty folder is as good as a new one
                number += 1
            folder = Path(save_dir) / (name if number == 1 else f"{name}-{number}")
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"training.save_dir={save_dir} cannot hold a run: {error.strerror} ({error.filename}); choose a "
                "folder that you may write to"
            ) from error
        return cls(folder)

    @classmethod
    def at(cls, path: Path | str) -> RunFolder:
        """Makes this very folder.

        Raises:
            UserError: it holds something, or cannot be made.
        """
        run = cls(Path(path))
        try:
            if run.path.is_dir() and not run.is_blank():
                more = ", or go on with the run that it holds (training.resume=true)" if run.steps() else ""
                raise UserError(f"{path} is not empty: name another folder for the run (training.run_folder){more}")
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"training.run_folder={path} cannot hold a run: {error.strerror} ({error.filename}); choose a folder"
                " that you may write to"
            ) from error
        return run

    @classmethod
    def latest(cls, save_dir: Path | str, name: str) -> RunFolder:
        """The run of that name with the highest number that has a checkpoint to go on from.

        Raises:
            ConfigError: there is none.
        """
        runs = _runs(Path(save_dir), name)
        for number in sorted(runs, reverse=True):
            run = cls(runs[number])
            if (run.path / "last").is_file() or run.steps():
                return run
        raise ConfigError(
            f"training.resume=true, but {save_dir} holds no run '{name}' with a checkpoint: start it without "
            "training.resume, or give the path of a run folder"
        )

    def is_blank(self) -> bool:
        """Whether nothing would be lost if a run began in the folder: it is empty but for traces of one."""
        return all(_TRACE.fullmatch(path.name) for path in self.path.iterdir())

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of a step lies, or is to lie."""
        return self.path / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, in order."""
        matches = (_STEP.fullmatch(folder.name) for folder in self.path.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def point(self, pointer: Pointer, step: int | None) -> None:
        """Makes a pointer name the checkpoint of a step, which is written before; or, with None, nothing.

        So is what was logged up to there, also on the disk: a power cut takes nothing that a resumed run would not
        log again.
        """
        if step is None:
            with one_line_errors(self.path / pointer):
                (self.path / pointer).unlink(missing_ok=True)
            return
        for name in _LOGGED:
            if (self.path / name).is_file():
                with one_line_errors(self.path / name):
                    sync(self.path / name)
        name = self.checkpoint_path(step).name
        replace_file(self.path / pointer, f"{name} {_checksum(name)}\n".encode())

    def resolve(self, pointer: Pointer) -> Path | None:
        """The checkpoint that is the last or the best; None if none was named yet.

        Raises:
            CheckpointError: the pointer is damaged, or what it names is gone.
        """
        file = self.path / pointer
        if not file.is_file():
            # a run that died before it had named its first checkpoint goes on from there
            begun = self.steps() if pointer == "last" and self.path.is_dir() else []
            return self.checkpoint_path(begun[-1]) if begun else None
        name = _named(file)
        while not (self.path / name).is_dir():
            missing, name = name, _named(file)  # a run that goes on may have named a better one, and removed this
            if name == missing:
                raise CheckpointError(f"{file} names {name}, which is not there: write another name into it")
        return self.path / name

    def is_finished(self, step: int) -> bool:
        """Whether the run came to its end at that step, test and all."""
        try:
            return self.resolve("finished") == self.checkpoint_path(step)
        except CheckpointError:  # it went on from there, and the checkpoint is no more
            return False

    def keeps(self, step: int, resume_step: int, *, test: bool) -> bool:
        """Whether what was logged at a step stays where the run goes on from a checkpoint.

        Args:
            step: at which it was logged.
            resume_step: that of the checkpoint.
            test: whether it belongs to the test, which is made again unless it came to its end.
        """
        return step < resume_step or (step == resume_step and (not test or self.is_finished(step)))

    def prune(self, keep: Collection[int] = ()) -> None:
        """Deletes the checkpoints that are neither the last nor the best nor of one of the steps `keep`."""
        kept: set[Path | None] = set(map(self.checkpoint_path, keep))
        for pointer in ("last", "best"):
            with suppress(CheckpointError):  # somebody has removed what it names: that is no reason to end a run
                kept.add(self.resolve(pointer))
        for step in self.steps():
            if (folder := self.checkpoint_path(step)) not in kept:
                remove_folder(folder)

    def check_held(self) -> None:
        """TzdError if the folder, which this process has locked, is gone or another run's by now."""
        if not self.path.is_dir():
            raise TzdError(
                f"{self.path} was removed or renamed while the run was writing there: if it has another name now, go on"
                " with training.resume=THAT_NAME"
            )
        try:
            holder = (self.path / "lock").read_bytes()[:200].decode(errors="replace").strip()
        except OSError:  # somebody has removed the file: the folder itself is still locked
            return
        if holder and not holder.startswith(_this_process()):
            raise TzdError(f"{self.path} was removed while the run was writing there, and is in use by {holder} now")

    def _refuse_links(self) -> None:
        """TzdError where something in the folder leads elsewhere, to be written over there."""
        for path in self.path.iterdir():
            if path.is_symlink():
                raise TzdError(f"{path} is a link, and a run writes into its own folder alone: remove it")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other runs out of the folder, and clears what a dead one left half-done.

        The lock is the system's: it ends with the process, so a file `lock` that a dead run left locks nothing,
        whatever it says. Held are the file, which network file systems can lock, and the folder, which stays locked
        when the file is removed.

        Raises:
            TzdError: a living process holds it (the message says which), or the folder cannot be written.
        """
        file = self.path / "lock"
        if file.exists() and not file.is_file():
            raise TzdError(f"{file} is no plain file: remove it")
        with one_line_errors(self.path):
            self._refuse_links()
            file.open("a").close()
        with held(self.path) as folder_free, held(file) as file_free:
            if not (folder_free and file_free):
                with file.open(errors="replace") as said:
                    holder = said.read(200).strip() or "another process"
                raise TzdError(
                    f"{self.path} is in use by {holder}: wait for it or stop it, or start a run of another name"
                )
            with one_line_errors(self.path):
                now = datetime.now().isoformat(" ", "seconds")
                file.write_text(f"{_this_process()} since {now}\n")
                clear_litter(self.path)
            yield


def _named(pointer: Path) -> str:
    """The name that a pointer holds; CheckpointError if it is damaged."""
    with pointer.open("rb") as content:
        said = _POINTER.fullmatch(content.read(100).decode(errors="replace").strip())
    if not said or said[3] not in (None, _checksum(said[1])):
        raise CheckpointError(f"{pointer} is damaged: it should hold the name of a checkpoint, as step-00000123")
    return said[1]


def _checksum(name: str) -> str:
    """What tells a pointer's name from one that a flipped bit made of it."""
    return f"{zlib.crc32(name.encode()):08x}"


def _this_process() -> str:
    return f"process {os.getpid()} on {_HOST}"


def _runs(save_dir: Path, name: str) -> dict[int, Path]:
    """The runs of a name, by number: `name` is the first, `name-2` the second."""
    if not is_plain_name(name):
        raise ConfigError(f"a run cannot be called '{name}': its name is that of a folder, without / (logger.name)")
    if not save_dir.is_dir():
        return {}
    pattern = re.compile(rf"{re.escape(name)}(?:-([2-9]|[1-9]\d+))?")
    matches = ((pattern.fullmatch(path.name), path) for path in save_dir.iterdir())
    return {int(match[1] or 1): path for match, path in matches if match and path.is_dir()}
