"""A PyTorch module behind the denoiser protocol."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tzd.checkpoint import check_weights
from tzd.config import TinyConfig
from tzd.diffusion.denoiser import masked_fraction
from tzd.engines.torch.arrays import TorchArrays
from tzd.engines.torch.tiny import Tiny
from tzd.errors import ConfigError, UserError

NETWORKS: dict[str, type[nn.Module]] = {"tiny": Tiny}  # a new model type is one file and one entry


def time_rows(t: Tensor, steps: int) -> Tensor:
    """Rows of a time embedding: integers are rows already, a float t in [0, 1] is in row ceil(t·steps) − 1.

    Tiny Diffusion trains row i with mask-probability (i + 1) / steps.
    """
    if not t.is_floating_point():
        return t.long()
    slack = 1e-6  # so that (i + 1) / steps, rounded up, is still in row i
    return (torch.ceil(t * (steps * (1.0 - slack))).long() - 1).clamp(0, steps - 1)


class TorchDenoiser:
    """Implements `tzd.diffusion.denoiser.Denoiser`; see there for the attributes.

    Args:
        network: takes tokens, and those of t, positions, attention and rows that its `forward` names, and returns
            logits; it is used in evaluation mode.
        config: its architecture.
        context_len: length of the prefix that training never masked.
        device: where it computes; the network is moved there.
        autocast: dtype of the matrix products; None computes in the weights' own.
    """

    engine = "torch"

    def __init__(
        self,
        network: nn.Module,
        config: TinyConfig,
        *,
        context_len: int = 0,
        device: torch.device | str = "cpu",
        autocast: torch.dtype | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.config = config
        self.xp = TorchArrays(self.device)
        self.vocab_size = config.vocab_size
        self.mask_id = config.mask_id
        self.seq_len = config.block_size
        self.context_len = context_len
        self.time_conditioned = config.time_steps > 0
        self.banned = np.arange(config.vocab_size) == config.mask_id if config.mask_id < config.vocab_size else None
        self._autocast = autocast
        self._takes = inspect.signature(network.forward).parameters

    def forward(
        self,
        tokens: np.ndarray,
        *,
        t: np.ndarray | None = None,
        positions: np.ndarray | None = None,
        attention: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        cache: Any = None,
    ) -> tuple[Tensor, None]:
        """See `tzd.diffusion.denoiser.Denoiser.forward`."""
        tokens = np.asarray(tokens)
        self._check(tokens)
        time = self._time(t, tokens) if self.time_conditioned else None

        def move(x: np.ndarray | None) -> Tensor | None:
            return None if x is None else self.xp.asarray(x)

        was_training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode(), self._precision():
                logits = self._logits(
                    self.xp.asarray(tokens.astype(np.int64)),
                    {"t": time, "positions": move(positions), "attention": move(attention), "rows": move(rows)},
                )
            return logits.float(), None
        finally:
            self.network.train(was_training)

    def _logits(self, tokens: Tensor, inputs: dict[str, Tensor | None]) -> Tensor:
        given = {name: value for name, value in inputs.items() if value is not None}
        rows = None if "rows" in self._takes else given.pop("rows", None)
        own = type(self.network).__name__
        if missing := [name for name in given if name not in self._takes]:
            raise UserError(f"{own}.forward has no argument '{missing[0]}', which is needed here")
        logits = self.network.forward(tokens, **given)  # not __call__: what is compiled for training runs eagerly here
        if logits.shape[-1] != self.vocab_size:
            shape = tuple(logits.shape)
            raise UserError(f"{own} returns logits of shape {shape}; the vocabulary has {self.vocab_size} tokens")
        return logits if rows is None else logits.flatten(0, -2)[rows]

    def _time(self, t: np.ndarray | None, tokens: np.ndarray) -> Tensor:
        """Rows of the time embedding, one for each row of tokens or one for all."""
        t = masked_fraction(tokens, self.mask_id, self.context_len) if t is None else np.asarray(t)
        steps = self.config.time_steps
        if t.shape not in ((1,), (len(tokens),)):
            raise UserError(f"t must have one entry per row, ({len(tokens)},), not the shape {t.shape}")
        if np.issubdtype(t.dtype, np.integer):
            if not ((t >= 0) & (t < steps)).all():
                raise UserError(f"t={t.tolist()}: integers are rows of the time embedding, 0..{steps - 1}")
        elif not ((t >= 0) & (t <= 1)).all():
            raise UserError(f"t={t.tolist()}: a time lies in [0, 1], from clean to all [MASK]")
        else:
            t = t.astype(np.float32)  # Apple's GPUs have no float64
        return time_rows(self.xp.asarray(t), steps)

    def _precision(self) -> AbstractContextManager[Any]:
        if self._autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self._autocast)

    def _check(self, tokens: np.ndarray) -> None:
        if tokens.ndim != 2 or not tokens.size:
            raise UserError(f"tokens must be a non-empty (B, L) array, not of shape {tokens.shape}")
        if tokens.shape[1] > self.seq_len:
            raise UserError(f"{tokens.shape[1]} tokens are longer than the model's window of {self.seq_len}")
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.config.n_embedding_rows:
            raise UserError(
                f"token {high if low >= 0 else low} is outside 0..{self.config.n_embedding_rows - 1}"
                f" ([MASK] is {self.mask_id})"
            )


def best_device() -> torch.device:
    """CUDA where there is one, then Apple's GPU, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def build(config: TinyConfig) -> nn.Module:
    """A network of that architecture, its weights not yet set."""
    if config.model_type not in NETWORKS:
        raise ConfigError(f"the torch engine has no model_type '{config.model_type}' (it has: {', '.join(NETWORKS)})")
    return NETWORKS[config.model_type](config)


def load_denoiser(
    config: TinyConfig,
    weights: dict[str, np.ndarray],
    *,
    context_len: int,
    where: Path,
    network: nn.Module | None = None,
) -> TorchDenoiser:
    """The denoiser that a checkpoint holds, on the best device here.

    Args:
        config: the architecture.
        weights: canonical names -> arrays.
        context_len: length of the prefix that training never masked.
        where: its folder, for messages.
        network: a module of the caller's own, for checkpoints that were trained with one.
    """
    network = build(config) if network is None else network
    check_weights(weights, {name: tuple(value.shape) for name, value in network.state_dict().items()}, where)
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return TorchDenoiser(network, config, context_len=context_len, device=best_device())
