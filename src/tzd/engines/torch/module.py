"""The Lightning module: one training step, its optimizer, and what it averages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tzd.diffusion.objective import Noised
from tzd.engines.torch.denoiser import NETWORKS, TorchDenoiser
from tzd.engines.torch.loss import weighted_cross_entropy
from tzd.engines.torch.optim import make_optimizer
from tzd.engines.torch.sharded import local, sharded_like, whole
from tzd.randomness import integer
from tzd.training.ema import ema_decay_at
from tzd.training.schedules import learning_rate
from tzd.training.task import Task


class DiffusionModule(L.LightningModule):
    """Trains a denoiser's network on a task.

    Args:
        network: (tokens, t=rows of the time embedding or None) -> logits (B, L, V).
        task: what it trains on.
    """

    def __init__(self, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.network = network
        self.task = task
        self._takes = inspect.signature(network.forward).parameters
        # ours end in a matrix product, whose gradient needs no logits
        self._overwrite = type(network) in NETWORKS.values()
        self._layout = {name: torch.from_numpy(x) for name, x in task.layout().items()}
        self.grad_norm = torch.zeros(())
        self.average: dict[str, Tensor] = {}  # kept from the beginning of training on

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> Tensor:
        """The loss of this process's rows, scaled so that their mean over processes and accumulation is the batch's."""
        # dropout, too, is a function of (seed, step, process): a resumed run draws what an unbroken one would
        micro = batch_idx % self.trainer.accumulate_grad_batches
        row = micro * self.trainer.world_size + self.global_rank
        torch.manual_seed(integer(self.task.config.seed, "dropout", self.global_step, row))

        def forward(x_t: Tensor, t: Tensor, rows: Tensor | None = None) -> Tensor:
            if rows is not None:  # what is compiled takes any number of them, from the first step on
                torch._dynamo.maybe_mark_dynamic(rows, 0)
            given = {name: x.to(x_t.device) for name, x in self._layout.items()}
            if self.task.model.time_steps:
                given["t"] = t
            return self.network(x_t, **given) if rows is None else self.network(x_t, **given, rows=rows)

        noised = Noised(*batch)
        if "rows" not in self._takes:
            noised = replace(noised, head_rows=None)
        cross_entropy = partial(weighted_cross_entropy, overwrite=self._overwrite)
        return self.task.objective.loss(forward, noised, cross_entropy)

    def configure_optimizers(self) -> Optimizer:
        """See `tzd.engines.torch.optim`."""
        return make_optimizer(self.network, self.task.config.model, self.task.config.training)

    def on_fit_start(self) -> None:
        """Puts the averages where the weights are, which they begin with where none were kept."""
        weights = self.named_weights() if self.task.config.training.ema_decay else {}
        kept, self.average = self.average, {}
        for name, weight in weights.items():
            value = kept[name].to(self.device) if name in kept else weight.detach().clone()
            self.average[name] = sharded_like(value, weight)

    def on_train_start(self) -> None:
        """Settings are what this run was told, also where the optimizer's state comes from an earlier one."""
        optimizer = self._optimizer()
        fresh = make_optimizer(self.network, self.task.config.model, self.task.config.training)
        for group, settings in zip(optimizer.param_groups, fresh.param_groups, strict=True):
            group.update({key: value for key, value in settings.items() if key != "params"})
        self._peaks = [group["lr"] for group in fresh.param_groups]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the learning rate: a function of the step alone."""
        training = self.task.config.training
        factor = learning_rate(
            self.global_step,
            total=self.task.total_steps,
            warmup=training.warmup_steps,
            kind=training.lr_schedule,
            min_ratio=training.min_lr_ratio,
        )
        for group, peak in zip(self._optimizer().param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def configure_gradient_clipping(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        """Clips, and keeps the norm for the metrics."""
        clip = self.task.config.training.grad_clip
        self.grad_norm = whole(nn.utils.clip_grad_norm_(self.network.parameters(), clip or float("inf")))

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Steps, then moves the averages."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.average:
            # the step is counted once this returns: it is still the index of the one just taken
            decay = ema_decay_at(self.global_step, self.task.config.training.ema_decay)
            parameters = self.named_weights()
            averages = [local(value) for value in self.average.values()]
            torch._foreach_lerp_(averages, [local(parameters[name].detach()) for name in self.average], 1.0 - decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the averages; the writer turns them into the checkpoint's weights."""
        checkpoint["average"] = {name: whole(value) for name, value in self.average.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the averages back."""
        self.average = checkpoint["average"]

    def named_weights(self) -> dict[str, nn.Parameter]:
        """Every parameter by its name; one that is shared has several."""
        return dict(self.network.named_parameters(remove_duplicate=False))

    def weights(self) -> dict[str, Tensor]:
        """What is validated and saved, whole: the averages where they are kept, else the weights."""
        return {name: whole(value) for name, value in {**self.network.state_dict(), **self.average}.items()}

    def denoiser(self, network: nn.Module) -> TorchDenoiser:
        """A network that computes as this one is trained, behind the protocol."""
        autocast = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(self.trainer.precision))
        objective = self.task.objective
        return TorchDenoiser(
            network,
            self.task.model,
            context_len=objective.settings.context_len,
            block_len=objective.block_len,
            device=self.trainer.strategy.root_device,
            autocast=autocast,
        )

    def _optimizer(self) -> Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        return optimizer
