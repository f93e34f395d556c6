"""One optimizer step on MLX: gradients and updates, shared out over streams."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from tzd.diffusion.denoiser import time_rows
from tzd.diffusion.objective import HEAD_ON_MASKED_FROM, Noised, head_rows
from tzd.engines.mlx.denoiser import NETWORKS
from tzd.engines.mlx.loss import head_cross_entropy, weighted_cross_entropy
from tzd.engines.mlx.optim import Group, Weights, make_groups, split_parameters
from tzd.engines.mlx.streams import blas_threads, split
from tzd.errors import UserError
from tzd.randomness import integer
from tzd.training.ema import ema_decay_at
from tzd.training.schedules import learning_rate
from tzd.training.task import Task


class AbandonedError(Exception):
    """Another process has given up, and says why."""


class Learner:
    """Weights, their averages and their optimizers, and the step that moves them.

    The rows of a batch are split over streams (see `tzd.engines.mlx.streams`), and so are the weights when they are
    updated: nothing of an update but the norm of the gradient looks at more than one weight.

    Args:
        task: what is learnt.
        network: (tokens, t=rows of the time embedding, key=of the dropout) -> logits (B, L, V), as far as it takes
            them. Its own weights are where the learner begins; later it is only a place to put some.
        group: the processes that learn together.
        dtype: of the matrix products; None is the weights' own, float32.
        compiled: whether gradients and updates are compiled.

    Attributes:
        weights: name -> float32.
        average: name -> the moving average, if one is kept; else empty.
        norm: of the last gradient, before it was clipped.
        rate: the last learning rate of AdamW.
    """

    def __init__(
        self, task: Task, network: nn.Module, group: mx.distributed.Group, *, dtype: mx.Dtype | None, compiled: bool
    ) -> None:
        self.task, self.network, self.group, self.dtype = task, network, group, dtype
        trainable = tree_flatten(network.trainable_parameters())
        self.weights: Weights = {name: w for name, w in trainable if mx.issubdtype(w.dtype, mx.floating)}
        if not self.weights:
            raise UserError(f"{type(network).__name__} has nothing to train: all of it is frozen")
        self.average: Weights = dict(self.weights) if task.config.training.ema_decay else {}
        self.norm = mx.array(0.0)
        self.rate = 0.0
        self._takes = inspect.signature(network.__call__).parameters
        self._layout = {name: mx.array(x) for name, x in task.layout().items()}
        self._shares = split(task.config.data.batch_size)
        self._dealt = self._deal()
        for group_ in self.groups():
            group_.optimizer.init({name: self.weights[name] for name in group_.names})

        # Each stream has functions of its own, as a compiled one keeps the stream that it was traced on. A network
        # that draws from MLX's global generator is not compiled: the draws would become constants.
        def prepared(function: Callable[..., Any]) -> Callable[..., Any]:
            return mx.compile(function) if compiled and "key" in self._takes else function

        self._gradients = [prepared(mx.value_and_grad(self._loss)) for _ in self._shares]
        self._updates = [prepared(partial(_update, groups)) for groups in self._dealt]

    def step(self, step: int, noised: Noised, *, leave: bool) -> tuple[mx.array, bool]:
        """One optimizer step.

        Args:
            step: its index.
            noised: the corrupted global batch.
            leave: whether this process was told to end.

        Returns:
            The loss of the global batch, computed; and whether any process was told to end.

        Raises:
            AbandonedError: another process has given up.
        """
        with blas_threads(len(self._shares)):
            loss, gradients = self._accumulated(step, noised)
            if self.group.size() > 1:
                loss, leave, gradients = self._meet(loss, gradients, leave=leave)
            self._move(step, gradients)
            mx.eval(loss, self.norm, self.weights, self.average, self.states())
        return loss, leave

    def give_up(self) -> None:
        """Has the other processes, who wait for this one's gradients, end too."""
        with suppress(AbandonedError):
            self._meet(mx.array(0.0), {name: mx.zeros_like(w) for name, w in self.weights.items()}, give_up=True)

    def _meet(
        self, loss: mx.array, gradients: Weights, *, leave: bool = False, give_up: bool = False
    ) -> tuple[mx.array, bool, Weights]:
        """Means over all processes; what they must agree on travels with the gradients."""
        said = mx.array([float(leave), float(give_up)])
        loss, said, *means = nn.average_gradients([loss, said, *gradients.values()], self.group)
        leave, give_up = (share > 0 for share in said.tolist())
        if give_up:
            raise AbandonedError
        return loss, leave, dict(zip(gradients, means, strict=True))

    def _accumulated(self, step: int, noised: Noised) -> tuple[mx.array, Weights]:
        """Loss and gradient of this process's rows."""
        settings, world = self.task.config, self.task.world
        size, micro_steps = settings.data.batch_size, settings.training.gradient_accumulation_steps
        total: tuple[mx.array, Weights] | None = None
        for micro in range(micro_steps):
            first = (micro * world + self.group.rank()) * size
            part = noised.rows(first, first + size, float(world))  # the mean over processes is the sum over rows
            parts = [self._share(i, step, first, part) for i in range(len(self._shares))]
            sums = parts if total is None else [total, *parts]
            total = _sum([loss for loss, _ in sums]), {name: _sum([g[name] for _, g in sums]) for name in self.weights}
            if micro < micro_steps - 1:
                mx.eval(total)  # or the graphs of all passes would be held at once
        assert total is not None
        return total

    def _share(self, index: int, step: int, first: int, noised: Noised) -> tuple[mx.array, Weights]:
        """Loss and gradient of one share of the rows, on its stream."""
        stream, rows = self._shares[index]
        part = noised.rows(rows.start, rows.stop, 1.0)
        # dropout, too, is a function of (seed, step, share): a resumed run draws what an unbroken one would, on as
        # many streams
        seed = integer(self.task.config.seed, "dropout", step, first + rows.start)
        steps = self.task.model.time_steps
        t = time_rows(part.t, steps) if steps else part.t
        # On a processor it pays whatever V is, as what precedes the head runs there alone, too (docs/log.md).
        always = self.task.objective.block_len > 0 or mx.default_device() == mx.Device(mx.cpu)
        picked = head_rows(part.weight, self.task.model.vocab_size, always=always) if "rows" in self._takes else None
        inputs = [part.x_0, part.x_t, part.weight, t, _key(seed), *([] if picked is None else [picked])]
        if "key" not in self._takes:
            mx.random.seed(seed)
        with mx.stream(stream):
            return self._gradients[index](self.weights, *map(mx.array, inputs))

    def _loss(
        self,
        weights: Weights,
        x_0: mx.array,
        x_t: mx.array,
        weight: mx.array,
        t: mx.array,
        key: mx.array,
        picked: mx.array | None = None,
    ) -> mx.array:
        if self.dtype is not None:
            weights = {name: value.astype(self.dtype) for name, value in weights.items()}
        self.put(weights)
        given = {"key": key} if "key" in self._takes else {}
        given |= self._layout
        network, cross_entropy = self.network, weighted_cross_entropy
        head = self._large_head()
        if head is not None:
            network, cross_entropy = self.network.hidden, partial(head_cross_entropy, head=head)

        def forward(x_t: mx.array, t: mx.array, rows: mx.array | None = None) -> mx.array:
            if self.task.model.time_steps:
                given["t"] = t
            return network(x_t, **given) if rows is None else network(x_t, **given, rows=rows)

        return self.task.objective.loss(forward, Noised(x_0, x_t, weight, t, picked), cross_entropy)

    def _large_head(self) -> mx.array | None:
        """The head's matrix, where it makes so many logits that some columns at a time are held."""
        own = type(self.network) in NETWORKS.values()
        return self.network.head_weight() if own and self.task.model.vocab_size >= HEAD_ON_MASKED_FROM else None

    def _move(self, step: int, gradients: Weights) -> None:
        """Moves weights, averages and optimizers."""
        training = self.task.config.training
        self.norm = mx.sqrt(_sum([mx.square(gradient).sum() for gradient in gradients.values()]))
        clip = mx.minimum(training.grad_clip / (self.norm + 1e-6), 1.0) if training.grad_clip else mx.array(1.0)
        decay = mx.array(ema_decay_at(step, training.ema_decay))
        factor = learning_rate(
            step,
            total=self.task.total_steps,
            warmup=training.warmup_steps,
            kind=training.lr_schedule,
            min_ratio=training.min_lr_ratio,
        )
        self.rate = self.task.config.model.lr * factor
        for (stream, _), groups, update in zip(self._shares, self._dealt, self._updates, strict=False):
            names = [name for group in groups for name in group.names]
            for group in groups:
                group.optimizer.learning_rate = group.peak * factor
            with mx.stream(stream):
                weights, averages, states = update(
                    {name: self.weights[name] for name in names},
                    {name: gradients[name] for name in names},
                    {name: self.average[name] for name in names if self.average},
                    [group.optimizer.state for group in groups],
                    clip,
                    decay,
                )
            self.weights.update(weights)
            self.average.update(averages)
            for group, state in zip(groups, states, strict=True):
                group.optimizer.state = state

    def _deal(self) -> list[list[Group]]:
        """The optimizers of each stream's share of the weights, the shares being of nearly equal size."""
        dealt: list[list[list[str]]] = []
        for kind in split_parameters(self.network, self.weights):
            shares: list[list[str]] = [[] for _ in self._shares]
            sizes = [0] * len(shares)
            for name in sorted(kind, key=lambda name: -self.weights[name].size):
                smallest = sizes.index(min(sizes))
                shares[smallest].append(name)
                sizes[smallest] += self.weights[name].size
            dealt.append(shares)
        model, training = self.task.config.model, self.task.config.training
        groups = [make_groups(*names, model=model, training=training) for names in zip(*dealt, strict=True)]
        return [share for share in groups if share]

    def groups(self) -> Iterator[Group]:
        """All parameters with their optimizers."""
        for share in self._dealt:
            yield from share

    def states(self) -> list[dict[str, Any]]:
        """The states of all optimizers."""
        return [group.optimizer.state for group in self.groups()]

    def put(self, weights: Mapping[str, mx.array]) -> None:
        """Puts weights into the network."""
        self.network.update(tree_unflatten(list(weights.items())))


def _update(
    groups: list[Group],
    weights: Weights,
    gradients: Weights,
    averages: Weights,
    states: list[dict[str, Any]],
    clip: mx.array,
    decay: mx.array,
) -> tuple[Weights, Weights, list[dict[str, Any]]]:
    gradients = {name: gradient * clip for name, gradient in gradients.items()}
    new: Weights = {}
    for group, state in zip(groups, states, strict=True):
        group.optimizer.state = state
        new |= group.apply(weights, gradients)
    averages = {name: value + (1 - decay) * (new[name] - value) for name, value in averages.items()}
    return new, averages, [group.optimizer.state for group in groups]


def _sum(values: list[mx.array]) -> mx.array:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _key(seed: int) -> np.ndarray:
    """A key of MLX's generator, made on the host."""
    return np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
