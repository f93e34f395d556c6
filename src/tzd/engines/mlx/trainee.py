"""What a run's course needs of MLX: measuring, saving, going on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from tzd.checkpoint import Checkpoint, check_weights, write_checkpoint
from tzd.engines.mlx.denoiser import NETWORKS, MlxDenoiser, set_weights, weight_shapes, weights_of
from tzd.engines.mlx.learner import AbandonedError, Learner
from tzd.errors import CheckpointError, ConfigError, TzdError

GONE = "another process has gone; go on from the last checkpoint with training.resume=true"


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
        self._begun = self._ended = False

    @contextmanager
    def measured(self) -> Iterator[MlxDenoiser]:
        """The denoiser as it is now, with averaged weights where averages are kept."""
        learner = self.learner
        learner.put({**learner.weights, **learner.average})
        yield self._denoiser()

    def at(self, checkpoint: Checkpoint) -> MlxDenoiser:
        """The denoiser with the weights of a checkpoint, once training is over."""
        set_weights(self.learner.network, checkpoint.weights)
        return self._denoiser()

    def _denoiser(self) -> MlxDenoiser:
        objective = self.task.objective
        return MlxDenoiser(
            self.learner.network,
            self.task.model,
            context_len=objective.settings.context_len,
            block_len=objective.block_len,
            dtype=self.learner.dtype,
        )

    def rates(self) -> dict[str, float]:
        """`lr` and `grad_norm` of the last step."""
        return {"lr": self.learner.rate, "grad_norm": float(self.learner.norm)}

    @property
    def reduce(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Sums an array over all processes; None in a single one."""
        return self._summed if self.learner.group.size() > 1 else None

    def _summed(self, values: np.ndarray) -> np.ndarray:
        group = self.learner.group
        sent = mx.array(np.append(values.astype(np.float32).ravel(), np.float32(1)))
        total = mx.distributed.all_sum(sent, group=group)
        mx.eval(total)
        if total[-1].item() != group.size():  # what was lost is told by no error yet
            raise TzdError(GONE)
        return np.array(total[:-1]).reshape(values.shape).astype(values.dtype)

    def save(self, path: Path | None, validation: Mapping[str, float | None]) -> None:
        """Writes a checkpoint; in a process without a path there is nothing to do."""
        if path is None:
            return
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
            raise CheckpointError(
                f"{where} holds a model but no training state: begin a new run with its weights (training.init_from)"
            )
        self.task.check_same_run(checkpoint.config, str(where))
        check_weights(checkpoint.weights, weight_shapes(learner.network), where)
        if new := sorted(learner.weights.keys() - state["moments"].keys()):
            raise ConfigError(f"{where} was trained with {new[0]} frozen: resume with the same weights frozen")
        set_weights(learner.network, checkpoint.weights)  # what is frozen, too
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
        # One sum of everything, in the order of names: what is dealt to streams differs between machines.
        learner.put(learner.weights)
        everything = {
            ("weight", name): value
            for name, value in tree_flatten(learner.network.parameters())
            if mx.issubdtype(value.dtype, mx.floating)
        }
        everything |= {("average", name): value for name, value in learner.average.items()}
        for name, state in self._moments():
            everything |= {(name, key): value for key, value in state[name].items()}
        counts = mx.array([self.steps, int(resumed), int(learner.states()[0]["step"])])
        keys = sorted(everything)
        sent = mx.concatenate([counts, *(everything[key].reshape(-1) for key in keys)]).astype(mx.float32)
        received = mx.distributed.all_sum(sent if group.rank() == 0 else mx.zeros_like(sent), group=group)
        mx.eval(received)
        self.steps, begun, updates = (int(count) for count in np.array(received[:3]))
        at = 3
        for key in keys:
            value = everything[key]
            everything[key] = received[at : at + value.size].reshape(value.shape).astype(value.dtype)
            at += value.size
        learner.put({name: value for (kind, name), value in everything.items() if kind == "weight"})
        learner.weights = {name: everything["weight", name] for name in learner.weights}
        learner.average = {name: everything["average", name] for name in learner.average}
        for state in learner.states():
            state["step"] = mx.array(updates, mx.uint64)
        for name, state in self._moments():
            state[name] = {key: everything[name, key] for key in state[name]}
        return bool(begun)

    def end(self) -> None:
        """Says that the processes need each other no longer."""
        self._ended = True

    def give_up(self) -> None:
        """Has the other processes end, wherever they wait for this one."""
        group = self.learner.group
        if self._ended:
            return
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
