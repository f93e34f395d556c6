"""The `tiny` denoiser against what the PyTorch original and the MLX port compute from the same weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tzd.config import TinyConfig
from tzd.engines.torch.tiny import Tiny

GOLDEN = Path(__file__).parent / "golden" / "tiny"


def network(norm_eps: float) -> Tiny:
    weights = np.load(GOLDEN / "mlx_diffusion_model.npz", allow_pickle=False)
    config = TinyConfig(
        vocab_size=128, mask_id=0, n_layer=2, n_head=2, n_embd=32, block_size=64, norm_eps=norm_eps, time_steps=16
    )
    ours = {
        "token_embedding.weight": weights["token_emb.weight"],
        "time_embedding.weight": weights["time_emb.weight"],
        "head.weight": weights["output_head.weight"],
    }
    for i in range(config.n_layer):
        theirs = f"blocks.{i}."
        ours[f"blocks.{i}.attention.qkv.weight"] = np.concatenate(
            [weights[f"{theirs}attn.c_{part}.weight"] for part in "qkv"]
        )
        ours[f"blocks.{i}.attention.out.weight"] = weights[f"{theirs}attn.c_proj.weight"]
        ours[f"blocks.{i}.mlp.up.weight"] = weights[f"{theirs}mlp.c_fc.weight"]
        ours[f"blocks.{i}.mlp.down.weight"] = weights[f"{theirs}mlp.c_proj.weight"]
    model = Tiny(config)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in ours.items()})
    return model


@pytest.mark.parametrize(
    ("system", "norm_eps"), [("mlx", 1e-5), ("torch", float(torch.finfo(torch.float32).eps))], ids=["mlx", "torch"]
)
def test_tiny_reproduces_the_logits_of_the_systems_before_it(system: str, norm_eps: float) -> None:
    golden = np.load(GOLDEN / f"{system}_logits.npz", allow_pickle=False)
    with torch.inference_mode():
        logits = network(norm_eps)(torch.from_numpy(golden["tokens"]).long(), t=torch.from_numpy(golden["t"]).long())
    np.testing.assert_allclose(logits.numpy(), golden["logits"], rtol=0, atol=1e-4)


def test_the_two_systems_differ_by_their_epsilon_alone() -> None:
    mlx = np.load(GOLDEN / "mlx_logits.npz", allow_pickle=False)["logits"]
    original = np.load(GOLDEN / "torch_logits.npz", allow_pickle=False)["logits"]
    assert 1e-4 < np.abs(mlx - original).max() < 1e-3
