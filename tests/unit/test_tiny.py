"""The `tiny` denoiser in PyTorch: its first weights, positions and attention."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from networks import CONFIG, RESIDUAL, TIMED, canvas, initial, logits_of, stirred
from tzd.config import TinyConfig
from tzd.diffusion.likelihood import nelbo
from tzd.engines.torch.denoiser import TorchDenoiser
from tzd.engines.torch.loss import weighted_cross_entropy
from tzd.engines.torch.tiny import Tiny
from tzd.training.initial import initial_weights

# --- the first weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width, mlp", [(128, 512), (128, 32)])
def test_matrices_start_with_the_deviation_of_their_rule(width: int, mlp: int) -> None:
    network = initial(replace(CONFIG, n_embd=width, intermediate_size=mlp, vocab_size=300, time_steps=64))
    block = network.blocks[0]
    q, k, v = (part.std().item() for part in block.attention.qkv.weight.chunk(3))
    np.testing.assert_allclose([q, k, v], 1 / math.sqrt(width), rtol=0.03)
    expected = min(1.0, math.sqrt(mlp / width)) / math.sqrt(width)
    assert block.mlp.up.weight.std().item() == pytest.approx(expected, rel=0.03)
    assert network.token_embedding.weight.std().item() == pytest.approx(1.0, rel=0.03)
    assert abs(network.token_embedding.weight.mean().item()) < 0.02
    assert network.time_embedding is not None and network.time_embedding.weight.shape == (64, width)
    assert network.time_embedding.weight.std().item() == pytest.approx(1.0, rel=0.03)


def test_output_projections_and_the_head_start_at_zero_and_nothing_else_does() -> None:
    zero = {name for name, p in initial(TIMED).named_parameters() if not p.any()}
    assert zero == {
        "head.weight",
        *(f"blocks.{i}.{part}.weight" for i in range(2) for part in ("attention.out", "mlp.down")),
    }


def test_the_first_prediction_is_uniform_so_that_the_bound_is_log_V() -> None:
    network, tokens = initial(), canvas()
    assert not logits_of(network, tokens).any()
    clean = tokens % CONFIG.vocab_size
    assert nelbo(TorchDenoiser(network, CONFIG), [clean]).nats_per_token == pytest.approx(math.log(11), abs=1e-6)
    loss = weighted_cross_entropy(network(torch.tensor(tokens)), torch.tensor(clean), torch.full((3, 12), 1 / 36))
    assert loss.item() == pytest.approx(math.log(11), abs=1e-6)


def test_the_first_weights_are_a_function_of_the_seed_and_their_names_alone() -> None:
    shapes = {"token_embedding.weight": (12, 16), "blocks.0.attention.qkv.weight": (48, 16)}
    first, alone = initial_weights(shapes, 1), initial_weights({"blocks.0.attention.qkv.weight": (48, 16)}, 1)
    np.testing.assert_array_equal(first["blocks.0.attention.qkv.weight"], alone["blocks.0.attention.qkv.weight"])
    other = initial_weights(shapes, 3)
    assert all((first[name] != other[name]).all() for name in shapes)
    two = initial_weights({"blocks.0.mlp.up.weight": (64, 16), "blocks.1.mlp.up.weight": (64, 16)}, 1)
    assert (two["blocks.0.mlp.up.weight"] != two["blocks.1.mlp.up.weight"]).all()


def test_the_presets_have_the_sizes_they_are_named_for() -> None:
    def millions(n_layer: int, n_head: int, n_embd: int) -> float:
        with torch.device("meta"):
            network = Tiny(TinyConfig(vocab_size=65, n_layer=n_layer, n_head=n_head, n_embd=n_embd))
        return round(sum(p.numel() for p in network.parameters()) / 1e6, 1)

    assert [millions(4, 4, 128), millions(6, 6, 192), millions(6, 6, 384), millions(10, 12, 768)] == [
        0.8,
        2.7,
        10.7,
        70.9,
    ]


# --- values of the first layer ------------------------------------------------------------------------------------


def with_values(mix: tuple[float, float], own: float = 1.0) -> np.ndarray:
    """Logits where the second layer mixes values so, and its own ones are multiplied by `own`."""
    network = stirred(RESIDUAL)
    with torch.no_grad():
        network.blocks[1].attention.value_mix.copy_(torch.tensor(mix))
        network.blocks[1].attention.qkv.weight[32:] *= own
    return logits_of(network, canvas(), RESIDUAL)


def test_values_are_mixed_with_those_of_the_first_layer_by_two_numbers() -> None:
    assert {name for name, _ in stirred(RESIDUAL).named_parameters() if "mix" in name} == {
        "blocks.1.attention.value_mix"
    }
    np.testing.assert_array_equal(with_values((0, 1), own=7.0), with_values((0, 1)))
    np.testing.assert_allclose(with_values((2, 0)), with_values((1, 0), own=2.0), atol=1e-5)
    assert np.abs(with_values((1, 0)) - with_values((0, 1))).max() > 1e-2


def test_an_equal_mix_is_what_training_begins_with() -> None:
    assert initial(RESIDUAL).blocks[1].attention.value_mix.tolist() == [0.5, 0.5]


# --- positions and attention ------------------------------------------------------------------------------------


def test_rotary_positions_are_relative() -> None:
    network, tokens = stirred(replace(CONFIG, block_size=40)), canvas()
    config = network.config
    plain = logits_of(network, tokens, config)
    steps = np.broadcast_to(np.arange(12), (3, 12))
    np.testing.assert_array_equal(logits_of(network, tokens, config, positions=steps), plain)
    shifted = logits_of(network, tokens, config, positions=steps + np.array([[0], [5], [28]]))
    np.testing.assert_allclose(shifted, plain, atol=2e-5)
    stretched = logits_of(network, tokens, config, positions=2 * steps)
    assert np.abs(stretched - plain).max() > 1e-2


def test_the_order_of_tokens_is_told_by_their_positions_alone() -> None:
    network, tokens = stirred(), canvas()
    order = np.random.default_rng(1).permutation(12)
    shuffled = logits_of(network, tokens[:, order], positions=np.broadcast_to(order, (3, 12)))
    np.testing.assert_allclose(shuffled, logits_of(network, tokens)[:, order], atol=2e-5)


def test_a_late_token_moves_early_logits() -> None:
    network, tokens = stirred(), canvas(1)
    changed = tokens.copy()
    changed[0, -1] = (changed[0, -1] + 1) % CONFIG.vocab_size
    moved = np.abs(logits_of(network, changed) - logits_of(network, tokens)).max(axis=(0, 2))
    assert (moved > 1e-4).all()


def test_pads_that_may_not_be_attended_to_have_no_influence() -> None:
    network, tokens = stirred(), canvas()
    attention = np.broadcast_to(np.arange(12) < np.array([[12], [7], [1]]), (3, 12))
    padded = logits_of(network, tokens, attention=attention)
    other = np.where(attention, tokens, (tokens + 1) % CONFIG.vocab_size)
    np.testing.assert_array_equal(logits_of(network, other, attention=attention)[attention], padded[attention])
    np.testing.assert_allclose(padded[1, :7], logits_of(network, tokens[1:2, :7])[0], atol=1e-5)
    np.testing.assert_allclose(padded[0], logits_of(network, tokens)[0], atol=1e-5)


def test_a_square_mask_says_who_attends_to_whom() -> None:
    network, tokens = stirred(), canvas(2)
    block_causal = np.broadcast_to(np.arange(12)[:, None] // 4 >= np.arange(12) // 4, (2, 12, 12))
    masked = logits_of(network, tokens, attention=block_causal)
    np.testing.assert_allclose(
        masked[:, :8], logits_of(network, tokens[:, :8], attention=block_causal[:, :8, :8]), atol=1e-5
    )
    np.testing.assert_allclose(masked[:, :4], logits_of(network, tokens[:, :4]), atol=1e-5)
    everyone = np.ones((2, 12, 12), dtype=bool)
    np.testing.assert_allclose(logits_of(network, tokens, attention=everyone), logits_of(network, tokens), atol=1e-5)


def test_a_token_that_attends_to_nobody_spoils_no_other() -> None:
    network, tokens = stirred(), canvas(1)
    attention = np.ones((1, 12, 12), dtype=bool)
    attention[0, 11] = attention[0, :, 11] = False
    masked = logits_of(network, tokens, attention=attention)
    np.testing.assert_allclose(masked[0, :11], logits_of(network, tokens[:, :11])[0], atol=1e-5)


def test_the_rows_asked_for_are_those_of_the_full_logits() -> None:
    network, tokens = stirred(), canvas()
    rows = np.array([0, 35, 17, 17, 12])
    full = logits_of(network, tokens).reshape(36, 11)
    np.testing.assert_allclose(logits_of(network, tokens, rows=rows), full[rows], atol=1e-6)


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    network, tokens = stirred(), canvas()
    np.testing.assert_allclose(logits_of(network, tokens[1:2])[0], logits_of(network, tokens)[1], atol=1e-5)
