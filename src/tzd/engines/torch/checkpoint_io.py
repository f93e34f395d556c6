"""Lightning's checkpoints in our own format: safetensors and JSON instead of a pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from tzd.checkpoint import read_checkpoint, write_checkpoint
from tzd.errors import CheckpointError
from tzd.training.task import Task

_PREFIX = "network."
# what Lightning needs to go on; the rest of its dictionary says nothing that we do not know
_KEPT = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers", "MixedPrecision")


def map_tree(tree: Any, leaf: type, convert: Any) -> Any:
    """`tree` with `convert` applied to every leaf of that type, in dictionaries, lists and tuples."""
    if isinstance(tree, leaf):
        return convert(tree)
    if isinstance(tree, dict):
        return {key: map_tree(value, leaf, convert) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_tree(value, leaf, convert) for value in tree)
    return tree


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _align(loops: dict[str, Any], steps: int, passes: int) -> None:
    """Sets Lightning's counts of steps and forward passes to those of whole steps.

    The passes of a step may have been others before, and the step at which it was saved was not counted yet.
    """
    loops["fit_loop"]["epoch_loop.state_dict"] = {"_batches_that_stepped": steps}
    for count in ("total", "current"):
        progress = loops["fit_loop"]["epoch_loop.batch_progress"][count]
        progress.update(dict.fromkeys(progress, passes * steps))


class TzdCheckpointIO(CheckpointIO):
    """Writes what Lightning hands over as a tzd checkpoint, and reads it back.

    Args:
        task: what is trained; it describes the model in config.json.
        broadcast: what the first process gives it, in every process.
        module: class of the network, where it is the caller's own and no model type's.
    """

    def __init__(self, task: Task, broadcast: Callable[[Any], Any], module: str | None = None) -> None:
        self.task, self.broadcast, self.module = task, broadcast, module
        self.validation: Mapping[str, float | None] = {}  # the last measurement; it goes with the weights it measures

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint folder, atomically."""
        raw = {name.removeprefix(_PREFIX): value for name, value in checkpoint["state_dict"].items()}
        average = checkpoint["average"]
        state = {key: checkpoint[key] for key in _KEPT if key in checkpoint}
        state["raw"] = {name: raw[name] for name in average}  # where averages are the weights, these are the rest
        config = self.task.describe(checkpoint["global_step"])
        config["provenance"] |= {"validation": self.validation, "module": self.module}
        write_checkpoint(
            Path(path),
            config=config,
            weights=map_tree({**raw, **average}, Tensor, _array),
            files=self.task.tokenizer.files(),
            training_state=map_tree(state, Tensor, _array),
        )

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Reads the checkpoint folder of the first process into the dictionary that Lightning restores from."""
        path = self.broadcast(path)
        checkpoint = read_checkpoint(Path(path))
        state = checkpoint.training_state()
        if state is None:
            raise CheckpointError(
                f"{path} holds a model but no training state: begin a new run with its weights (training.init_from)"
            )
        self.task.check_same_run(checkpoint.config, str(path))
        state = map_tree(state, np.ndarray, lambda a: torch.from_numpy(np.array(a)))
        weights = {name: torch.from_numpy(np.array(a)) for name, a in checkpoint.weights.items()}
        raw = state.pop("raw")
        state["average"] = {name: weights[name] for name in raw}
        _align(state["loops"], state["global_step"], self.task.config.training.gradient_accumulation_steps)
        state["state_dict"] = {_PREFIX + name: value for name, value in {**weights, **raw}.items()}
        state["pytorch-lightning_version"] = "2.0.0"  # the layout of `loops` is that of Lightning 2
        return state

    def remove_checkpoint(self, path: Any) -> None:
        """Does nothing: the run folder removes what nothing points to."""
