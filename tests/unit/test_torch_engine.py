"""A PyTorch module behind the denoiser protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from networks import CONFIG, TIMED, canvas, initial, logits_of, stirred
from tzd.config import TinyConfig
from tzd.diffusion.denoiser import time_rows
from tzd.engines.torch.denoiser import TorchDenoiser, build, load_denoiser
from tzd.engines.torch.inference import prepare
from tzd.engines.torch.tiny import TimesTransposed, attend
from tzd.errors import CheckpointError, ConfigError, UserError

# --- time -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 5000), st.sampled_from([np.float32, np.float64]))
def test_the_time_i_of_T_is_row_i_minus_1_whatever_its_rounding(steps: int, dtype: type) -> None:
    t = (np.arange(1, steps + 1) / steps).astype(dtype)
    np.testing.assert_array_equal(time_rows(t, steps), np.arange(steps))


def test_times_between_two_rows_take_the_later_and_integers_are_rows() -> None:
    t = np.array([0.0, 1e-9, 0.1, 0.1251, 0.25, 0.26, 0.99, 1.0])
    assert time_rows(t, 8).tolist() == [0, 0, 0, 1, 1, 2, 7, 7]
    assert time_rows(np.array([7, 0, 3]), 8).tolist() == [7, 0, 3]


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


class Plain(nn.Module):
    """A module of a user's own that takes tokens alone."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(tokens, 12).float()[..., :11]


def test_a_module_that_takes_tokens_alone_is_given_no_more() -> None:
    tokens = canvas()
    full = logits_of(Plain(), tokens)
    np.testing.assert_array_equal(
        logits_of(Plain(), tokens, t=np.ones(3), rows=np.array([35, 2])), full[[2, 0], [11, 2]]
    )
    with pytest.raises(UserError, match=r"Plain\.forward has no argument 'attention'"):
        logits_of(Plain(), tokens, attention=np.ones((3, 12), dtype=bool))


def test_rotary_tables_are_neither_trained_nor_saved() -> None:
    network = initial(TIMED)
    names = {name for name, _ in network.named_parameters()}
    assert names == set(network.state_dict())
    assert {name for name, _ in network.named_buffers()} == {"rotary.cos", "rotary.sin"}


def test_a_checkpoint_of_other_names_or_shapes_is_refused_by_name() -> None:
    weights = {name: value.numpy() for name, value in stirred().state_dict().items()}

    def load(weights: dict[str, np.ndarray]) -> TorchDenoiser:
        return load_denoiser(CONFIG, weights, context_len=0, where=Path("here"))

    ready, _ = prepare(stirred(), CONFIG, "32")
    np.testing.assert_array_equal(load(weights).forward(canvas())[0].cpu(), logits_of(ready, canvas()))
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


@pytest.mark.parametrize("length", [8, 600])
def test_attention_in_bfloat16_and_its_gradients_are_those_in_float32_within_its_rounding(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    *inputs, slope = torch.randn(4, 2, 3, length, 16, generator=generator)
    results = []
    for dtype, attention in (
        (torch.bfloat16, attend),
        (torch.float32, torch.nn.functional.scaled_dot_product_attention),
    ):
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in inputs]
        mixed = attention(*leaves, None)
        mixed.backward(slope.to(dtype))
        assert mixed.dtype == dtype
        results.append([mixed, *(x.grad for x in leaves)])
    for ours, exact in zip(*results, strict=True):
        assert (ours - exact).norm() < 0.015 * exact.norm()


def test_the_product_with_a_transposed_matrix_has_the_gradients_of_finite_differences_to_second_order() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(TimesTransposed.apply, (a, b))
    assert torch.autograd.gradgradcheck(TimesTransposed.apply, (a, b))


@pytest.mark.parametrize("across", [False, True])
def test_gradients_of_a_product_with_a_transposed_matrix_lie_as_the_matrices_do(across: bool) -> None:
    a, b = (torch.ones(2, n, 3, requires_grad=True) for n in (5, 4))
    product = a @ b.mT if across else TimesTransposed.apply(a, b)
    gradient_of_b = torch.autograd.grad(product.sum(), b)[0]
    assert gradient_of_b.is_contiguous() is not across  # what autograd does by itself is why there is a product of ours


def test_attention_in_bfloat16_is_that_of_plain_products_bit_for_bit_and_so_are_its_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 2, 32, 3, 16, generator=generator).to(torch.bfloat16)
    *leaves, slope = (x.transpose(1, 2).requires_grad_() for x in inputs)
    q, k, v = leaves
    plain = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(dim=-1) @ v
    ours = attend(q, k, v, None)
    assert torch.equal(ours, plain)
    for one, other in zip(*(torch.autograd.grad(x, leaves, slope) for x in (ours, plain)), strict=True):
        assert torch.equal(one, other)
