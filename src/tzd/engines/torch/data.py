"""Batches for Lightning: each a pure function of the step, so that there is no position to lose."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tzd.diffusion.denoiser import time_rows
from tzd.diffusion.objective import head_rows
from tzd.training.task import Task


class NoisedBatches(IterableDataset):
    """The endless sequence of one process's corrupted batches, the fields of `Noised`, from a step on.

    For a network with a time embedding, t is its row.

    Args:
        task: what is trained.
        first_step: optimizer step to begin with.
        rank: which process this is.
    """

    def __init__(self, task: Task, first_step: int, rank: int) -> None:
        super().__init__()
        self.task, self.first_step, self.rank = task, first_step, rank

    def __iter__(self) -> Iterator[tuple[Tensor | None, ...]]:
        """Yields batches; worker w of n makes every n-th, which a DataLoader puts back in order."""
        worker = get_worker_info()
        offset, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        size = self.task.config.data.batch_size
        steps = self.task.model.time_steps
        micro_steps = self.task.config.training.gradient_accumulation_steps
        shares = micro_steps * self.task.world  # a global batch is the mean of so many forward passes
        noised, at = None, -1
        for index in count(self.first_step * micro_steps + offset, stride):
            step, micro = divmod(index, micro_steps)
            if step != at or noised is None:
                noised, at = self.task.noised(step), step
            first = (micro * self.task.world + self.rank) * size
            part = noised.rows(first, first + size, float(shares))
            picked = head_rows(part.weight, self.task.model.vocab_size, always=self.task.objective.block_len > 0)
            yield (
                torch.from_numpy(part.x_0).long(),
                torch.from_numpy(part.x_t).long(),
                torch.from_numpy(part.weight),
                torch.from_numpy(time_rows(part.t, steps) if steps else part.t),
                None if picked is None else torch.from_numpy(picked),
            )


class NoisedData(L.LightningDataModule):
    """Hands Lightning the batches from the step at which it stands.

    Args:
        task: what is trained.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def train_dataloader(self) -> DataLoader:
        """Called after a checkpoint was restored, so that the step is known."""
        trainer = self.trainer
        assert trainer is not None
        batches = NoisedBatches(self.task, trainer.global_step, trainer.global_rank)
        workers = self.task.config.data.num_workers
        on_gpu = trainer.strategy.root_device.type == "cuda"
        return DataLoader(
            batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0, pin_memory=on_gpu
        )
