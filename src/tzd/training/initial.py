"""The weights that training begins with: the same on every engine."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tzd.randomness import integer, normals


def initial_weights(
    shapes: Mapping[str, tuple[int, ...]], seed: int, model_type: str = "tiny"
) -> dict[str, np.ndarray]:
    """Initialises a network as the system that it comes from does.

    Args:
        shapes: canonical name -> shape.
        seed: of the run.
        model_type: whose names they are, and whose rule it is.

    Returns:
        Canonical name -> float32 array. Each depends on the seed, its name and its shape (and for `smdm` and `litgpt`
        on the number of layers) alone.
    """
    rule = {"tiny": _tiny, "smdm": _smdm, "litgpt": _litgpt}[model_type]
    layers = len({name.split(".")[2] for name in shapes if name.startswith("transformer.h.")})
    seed = integer(seed, "weights", 0)
    return {name: rule(name, shape, seed, layers) for name, shape in shapes.items()}


def _tiny(name: str, shape: tuple[int, ...], seed: int, layers: int) -> np.ndarray:
    """Tiny Diffusion's rule.

    Matrices are normal with standard deviation 1/√fan_in · min(1, √(fan_out/fan_in)) (arXiv:2310.17813), embeddings
    standard normal; output projections and head start at zero, so that the first prediction is uniform. Values are
    mixed half and half (arXiv:2410.17897).
    """
    if name.endswith("value_mix"):
        return np.full(shape, 0.5, np.float32)
    if name == "head.weight" or name.endswith(("attention.out.weight", "mlp.down.weight")):
        return np.zeros(shape, np.float32)
    draws = normals(seed, name, 0, shape)
    if "embedding" in name:
        return draws
    fan_out, fan_in = shape
    if name.endswith("qkv.weight"):
        fan_out //= 3  # three square matrices
    return draws * np.float32(min(1.0, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in))


def _smdm(name: str, shape: tuple[int, ...], seed: int, layers: int) -> np.ndarray:
    """SMDM's rule (lit_gpt/diffmodel.py, TransEncoder._init_weights): what the MLP writes is small if it is gated."""
    into_stream = name.endswith(("attn.proj.weight", "swiglu.w3.weight", "mlp.proj.weight"))
    return _neox(name, shape, seed, layers, into_stream, small=into_stream and not name.endswith("mlp.proj.weight"))


def _litgpt(name: str, shape: tuple[int, ...], seed: int, layers: int) -> np.ndarray:
    """LitGPT's rule (litgpt/pretrain.py, initialize_weights), for its GptNeoxMLP too, which LitGPT leaves out."""
    into_stream = name.endswith("proj.weight")
    return _neox(name, shape, seed, layers, into_stream, small=into_stream)


def _neox(name: str, shape: tuple[int, ...], seed: int, layers: int, into_stream: bool, *, small: bool) -> np.ndarray:
    """GPT-NeoX's rule (arXiv:2204.06745).

    Embedding, head and matrices are normal with variance 2/(5 · width); what is small has standard deviation
    1/(√width · layers). Norms begin as the identity, biases at zero.

    Args:
        name: of the weight.
        shape: its shape.
        seed: of the weights.
        layers: transformer blocks.
        into_stream: whether it writes to the residual stream, whose width then is its number of rows.
        small: whether it begins small.
    """
    if name.endswith("bias"):
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    width = shape[0] if into_stream else shape[1]
    deviation = 1 / (math.sqrt(width) * layers) if small else math.sqrt(2 / (5 * width))
    return normals(seed, name, 0, shape) * np.float32(deviation)
