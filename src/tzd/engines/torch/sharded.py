"""Fully sharded data parallelism: each process keeps a share of every weight, gradient and optimizer state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def whole(tensor: Tensor) -> Tensor:
    """A tensor without its sharding; all processes must ask for it at once."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's share of a tensor, which is all of it where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, sharded as `model` is, where it is; all processes must ask for it at once."""
    if not isinstance(model, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)


class ShardedStrategy(DDPStrategy):
    """Lightning's processes as for DDP, with PyTorch's `fully_shard` (FSDP2) in place of its wrapper.

    What is saved and restored is whole: a checkpoint does not tell how many processes wrote it.
    """

    strategy_name = "fsdp"

    def configure_ddp(self) -> None:
        """Shards the network, each block of layers by itself, so that no more than one is whole at a time."""
        network = self.lightning_module.network
        for tensor in [*network.parameters(), *network.buffers()]:  # a module of the caller's own may begin unlike
            distributed.broadcast(tensor.detach(), src=0)
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for module in reversed(list(network.modules())):  # what is inside comes first
            for block in module if isinstance(module, nn.ModuleList) else ():
                fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The module's weights, whole."""
        return {name: whole(value) for name, value in super().lightning_module_state_dict().items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """An optimizer's state, whole."""
        described = super().optimizer_state(optimizer)
        state = {index: {k: _whole(v) for k, v in values.items()} for index, values in described["state"].items()}
        return {**described, "state": state}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Restores such states."""
        for optimizer, described in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state = {
                index: {key: _sharded(value, parameters[index]) for key, value in values.items()}
                for index, values in described["state"].items()
            }
            optimizer.load_state_dict({**described, "state": state})


def _whole(value: Any) -> Any:
    return whole(value) if isinstance(value, Tensor) else value


def _sharded(value: Any, parameter: Tensor) -> Any:
    """What an optimizer keeps for a parameter: moments have its shape, a count of steps has not."""
    if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
        return sharded_like(value, parameter)
    return value
