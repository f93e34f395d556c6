"""The `tiny` denoiser in PyTorch, and a module behind the denoiser protocol."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tzd.config import TinyConfig
from tzd.diffusion.likelihood import nelbo
from tzd.engines.torch.denoiser import TorchDenoiser, build, load_denoiser, time_rows
from tzd.engines.torch.module import weighted_cross_entropy
from tzd.engines.torch.tiny import Tiny
from tzd.errors import CheckpointError, ConfigError, UserError

CONFIG = TinyConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=12)
TIMED = replace(CONFIG, time_steps=8)


def initial(config: TinyConfig = CONFIG) -> Tiny:
    """A network as training finds it."""
    network = Tiny(config)
    network.reset_parameters(torch.Generator().manual_seed(1))
    return network


def stirred(config: TinyConfig = CONFIG) -> Tiny:
    """A network none of whose matrices is zero."""
    network, generator = initial(config), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return network


def canvas(rows: int = 3, width: int = 12, seed: int = 0) -> np.ndarray:
    """Tokens of which about a third is [MASK]."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, CONFIG.vocab_size, (rows, width))
    return np.where(rng.random((rows, width)) < 0.3, CONFIG.mask_id, tokens)


def logits_of(network: nn.Module, tokens: np.ndarray, config: TinyConfig = CONFIG, **inputs: np.ndarray) -> np.ndarray:
    return TorchDenoiser(network, config).forward(tokens, **inputs)[0].numpy()


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


def test_the_first_weights_are_a_function_of_the_generator_alone() -> None:
    first, other = initial(), Tiny(CONFIG)
    torch.manual_seed(999)
    other.reset_parameters(torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    other.reset_parameters(torch.Generator().manual_seed(3))
    assert not torch.equal(first.token_embedding.weight, other.token_embedding.weight)


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


# --- time -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 5000), st.sampled_from([np.float32, np.float64]))
def test_the_time_i_of_T_is_row_i_minus_1_whatever_its_rounding(steps: int, dtype: type) -> None:
    t = (np.arange(1, steps + 1) / steps).astype(dtype)
    np.testing.assert_array_equal(time_rows(torch.from_numpy(t), steps).numpy(), np.arange(steps))


def test_times_between_two_rows_take_the_later_and_integers_are_rows() -> None:
    t = torch.tensor([0.0, 1e-9, 0.1, 0.1251, 0.25, 0.26, 0.99, 1.0], dtype=torch.float64)
    assert time_rows(t, 8).tolist() == [0, 0, 0, 1, 1, 2, 7, 7]
    assert time_rows(torch.tensor([7, 0, 3], dtype=torch.int32), 8).tolist() == [7, 0, 3]


def test_a_timed_denoiser_reads_the_time_off_the_canvas_unless_told() -> None:
    network = stirred(TIMED)
    denoiser = TorchDenoiser(network, TIMED, context_len=4)
    assert denoiser.time_conditioned
    tokens = np.zeros((3, 12), dtype=np.int64)
    tokens[0, 4:], tokens[1, 4:6] = TIMED.mask_id, TIMED.mask_id  # 8, 2 and 0 of 8
    untold = denoiser.forward(tokens)[0].numpy()
    np.testing.assert_array_equal(denoiser.forward(tokens, t=np.array([7, 1, 0]))[0].numpy(), untold)
    np.testing.assert_array_equal(denoiser.forward(tokens, t=np.array([1.0, 0.25, 0.0]))[0].numpy(), untold)
    assert np.abs(denoiser.forward(tokens, t=np.array([0, 1, 0]))[0].numpy() - untold)[0].max() > 1e-3
    np.testing.assert_allclose(denoiser.forward(tokens, t=np.array([7]))[0][0], untold[0], atol=1e-6)


def test_a_model_without_time_ignores_it() -> None:
    network, tokens = stirred(), canvas()
    np.testing.assert_array_equal(logits_of(network, tokens, t=np.array([0.1, 0.5, 1.0])), logits_of(network, tokens))


@pytest.mark.parametrize(
    "t, message",
    [
        (np.array([0, 8, 1]), r"t=\[0, 8, 1\]: integers are rows of the time embedding, 0..7"),
        (np.array([-1, 0, 1]), r"t=\[-1, 0, 1\]: integers are rows"),
        (np.array([0.5, 1.5, 0.1]), r"t=\[0.5, 1.5, 0.1\]: a time lies in \[0, 1\]"),
        (np.array([0.5, np.nan, 0.1]), r"t=.*nan.*: a time lies in"),
        (np.array([0.5, 0.1]), r"one entry per row, \(3,\), not the shape \(2,\)"),
    ],
)
def test_an_impossible_time_is_one_line(t: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        logits_of(stirred(TIMED), canvas(), TIMED, t=t)


# --- behind the protocol ----------------------------------------------------------------------------------------


def test_the_denoiser_says_what_the_architecture_says() -> None:
    denoiser = TorchDenoiser(initial(), CONFIG, context_len=2)
    said = (denoiser.engine, denoiser.vocab_size, denoiser.mask_id, denoiser.seq_len, denoiser.context_len)
    assert said == ("torch", 11, 11, 12, 2)
    assert not denoiser.time_conditioned and denoiser.banned is None
    inside = replace(CONFIG, mask_id=0)
    np.testing.assert_array_equal(TorchDenoiser(initial(inside), inside).banned, np.arange(11) == 0)


def test_mask_beyond_the_vocabulary_has_an_embedding_and_no_logit() -> None:
    network = initial()
    assert network.token_embedding.weight.shape == (12, 16) and network.head.weight.shape == (11, 16)
    inside = initial(replace(CONFIG, mask_id=0))
    assert inside.token_embedding.weight.shape == inside.head.weight.shape == (11, 16)


def test_logits_are_float32_also_where_products_are_bfloat16() -> None:
    network, tokens = stirred(), canvas()
    half = TorchDenoiser(network, CONFIG, autocast=torch.bfloat16).forward(tokens)[0]
    full = TorchDenoiser(network, CONFIG).forward(tokens)[0]
    assert half.dtype == full.dtype == torch.float32 and not full.requires_grad
    assert 0 < (half - full).abs().max() < 0.1 * full.abs().max()


@pytest.mark.parametrize(
    "tokens, message",
    [
        (np.full((1, 4), 12), r"token 12 is outside 0..11 \(\[MASK\] is 11\)"),
        (np.full((1, 4), -1), "token -1 is outside 0..11"),
        (np.zeros((1, 13), int), "13 tokens are longer than the model's window of 12"),
        (np.zeros(4, int), "non-empty"),
        (np.zeros((0, 4), int), "non-empty"),
    ],
)
def test_tokens_that_the_model_cannot_take_are_one_line(tokens: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        logits_of(initial(), tokens)


def test_dropout_is_off_in_the_denoiser_and_on_in_training() -> None:
    network, tokens = stirred(replace(CONFIG, dropout=0.5)), canvas()
    clean = logits_of(stirred(), tokens)
    network.train()
    np.testing.assert_array_equal(logits_of(network, tokens), clean)
    torch.manual_seed(0)
    assert not np.allclose(network(torch.tensor(tokens)).detach().numpy(), clean, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_the_denoiser_gives_the_training_flag_back(training: bool) -> None:
    network = initial().train(training)
    logits_of(network, canvas())
    assert network.training is training and network.blocks[1].training is training
    with pytest.raises(IndexError):
        TorchDenoiser(network, CONFIG).forward(canvas(), rows=np.array([999]))
    assert network.training is training


def test_rotary_tables_are_neither_trained_nor_saved() -> None:
    network = initial(TIMED)
    names = {name for name, _ in network.named_parameters()}
    assert names == set(network.state_dict())
    assert {name for name, _ in network.named_buffers()} == {"cos", "sin"}


def test_a_checkpoint_of_other_names_or_shapes_is_refused_by_name() -> None:
    weights = {name: value.numpy() for name, value in stirred().state_dict().items()}

    def load(weights: dict[str, np.ndarray]) -> TorchDenoiser:
        return load_denoiser(CONFIG, weights, context_len=0, where=Path("here"))

    np.testing.assert_array_equal(load(weights).forward(canvas())[0].cpu(), logits_of(stirred(), canvas()))
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        load({name: value for name, value in weights.items() if name != "head.weight"})
    with pytest.raises(CheckpointError, match=r"cos"):
        load({**weights, "cos": np.zeros((12, 4), np.float32)})
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        load({**weights, "head.weight": np.zeros((10, 16), np.float32)})


def test_a_model_type_that_the_engine_lacks_is_named() -> None:
    class Other(TinyConfig):
        model_type = "other"

    with pytest.raises(ConfigError, match="no model_type 'other'"):
        build(Other(vocab_size=3))
