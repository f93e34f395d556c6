"""What a run's course needs of MLX: measuring, saving, going on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from tzd.checkpoint import Checkpoint, check_weights, write_checkpoint
from tzd.engines.mlx.denoiser import NETWORKS, MlxDenoiser, weight_shapes, weights_of
from tzd.engines.mlx.learner import AbandonedError, Learner
from tzd.errors import CheckpointError


class MlxTrainee:
    """Implements `tzd.training.course.Trainee`.

    Args:
        learner: what learns.

    Attributes:
        steps: optimizer steps that the run has made.
        course_state: gives the state of the course, to be saved with the rest.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner, self.task = learner, learner.task
        self.steps = self.task.config.training.first_step
        self.course_state: Callable[[], dict[str, Any]] = dict
        self._begun = False

    @contextmanager
    def measured(self) -> Iterator[MlxDenoiser]:
        """The denoiser as it is now, with averaged weights where averages are kept."""
        learner = self.learner
        learner.put({**learner.weights, **learner.average})
        context_len = self.task.objective.settings.context_len
        yield MlxDenoiser(learner.network, self.task.model, context_len=context_len, dtype=learner.dtype)

    def rates(self) -> dict[str, float]:
        """`lr` and `grad_norm` of the last step."""
        return {"lr": self.learner.rate, "grad_norm": float(self.learner.norm)}

    @property
    def reduce(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Sums an array over all processes; None in a single one."""
        return self._summed if self.learner.group.size() > 1 else None

    def _summed(self, values: np.ndarray) -> np.ndarray:
        total = mx.distributed.all_sum(mx.array(values.astype(np.float32)), group=self.learner.group)
        return np.array(total).astype(values.dtype)

    def save(self, path: Path, validation: Mapping[str, float | None]) -> None:
        """Writes a checkpoint."""
        learner = self.learner
        learner.put({**learner.weights, **learner.average})
        own = type(learner.network)
        config = self.task.describe(self.steps)
        module = None if own in NETWORKS.values() else own.__name__
        config["provenance"] |= {"validation": validation, "module": module}
        write_checkpoint(
            path,
            config=config,
            weights=_to_numpy(weights_of(learner.network)),
            files=self.task.tokenizer.files(),
            training_state={
                "step": self.steps,
                "updates": int(learner.states()[0]["step"]),
                "moments": {name: _to_numpy(state[name]) for name, state in self._moments()},
                "raw": _to_numpy({name: learner.weights[name] for name in learner.average}),
                "course": self.course_state(),
            },
        )

    def restore(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Goes on from a checkpoint.

        Returns:
            The course's state.

        Raises:
            CheckpointError: it has no training state, or weights of other shapes.
            ConfigError: it is of another run.
        """
        learner, where = self.learner, checkpoint.folder
        state = checkpoint.training_state()
        if state is None:
            raise CheckpointError(f"{where} holds a model but no training state: training cannot be resumed from it")
        self.task.check_same_run(checkpoint.config, str(where))
        check_weights(checkpoint.weights, weight_shapes(learner.network), where)
        kept = {name: checkpoint.weights[name] for name in learner.weights}
        learner.weights = _to_mlx({**kept, **state["raw"]})
        # averages begin with the weights where none were kept
        learner.average = _to_mlx({name: kept[name] for name in learner.average})
        for optimizer in learner.states():
            optimizer["step"] = mx.array(state["updates"], mx.uint64)
        for name, optimizer in self._moments():
            optimizer[name] = _to_mlx(state["moments"][name])
        self.steps = state["step"]
        return state["course"]

    def begin_alike(self, resumed: bool) -> bool:
        """Gives every process what the first one begins with.

        Args:
            resumed: whether this one goes on from a checkpoint.

        Returns:
            Whether the first does.

        Raises:
            AbandonedError: one of them has given up already.
        """
        learner, group = self.learner, self.learner.group
        if group.size() == 1:
            return resumed
        self._begun = True
        if mx.distributed.all_sum(mx.array(0.0), group=group).item():
            raise AbandonedError
        share = float(group.rank() == 0)

        def first(value: mx.array) -> mx.array:
            return mx.distributed.all_sum(value * share, group=group).astype(value.dtype)

        learner.weights = {name: first(value) for name, value in learner.weights.items()}
        learner.average = {name: first(value) for name, value in learner.average.items()}
        for state in learner.states():
            state["step"] = first(state["step"])
        for name, state in self._moments():
            state[name] = {key: first(value) for key, value in state[name].items()}
        mx.eval(learner.weights, learner.average, learner.states())
        self.steps = int(first(mx.array(self.steps)))
        return bool(first(mx.array(resumed)))

    def give_up(self) -> None:
        """Has the other processes end, wherever they wait for this one."""
        group = self.learner.group
        if group.size() > 1 and self._begun:
            self.learner.give_up()
        elif group.size() > 1:
            mx.eval(mx.distributed.all_sum(mx.array(1.0), group=group))

    def _moments(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each weight with the state in which its optimizer keeps its moments."""
        for group in self.learner.groups():
            for name in group.names:
                yield name, group.optimizer.state


def _to_numpy(arrays: Mapping[str, mx.array]) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in arrays.items()}


def _to_mlx(arrays: Mapping[str, np.ndarray]) -> dict[str, mx.array]:
    return {name: mx.array(value) for name, value in arrays.items()}
