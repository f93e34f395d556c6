from dataclasses import replace

import numpy as np
import pytest

from oracles import enumerated_nelbo, tabular_denoiser
from tzd.config import ObjectiveSettings
from tzd.diffusion.objective import OBJECTIVES, T_MIN, Noised, Objective
from tzd.errors import ConfigError

V, L = 3, 4
BOUNDS = [name for name in OBJECTIVES if name != "pooled"]


def cross_entropy(logits: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted CE of each row, so that the spread can be told."""
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -(np.take_along_axis(log_p, targets[..., None], -1)[..., 0] * weight).sum(axis=1)


def losses(settings: ObjectiveSettings, tokens: np.ndarray, steps: int, rows: int) -> np.ndarray:
    """The loss of each of `steps` batches that repeat one sequence."""
    denoiser, objective = tabular_denoiser(V, L, seed=0), Objective(settings)
    batch = np.repeat(tokens[None], rows, axis=0)
    results = []
    for step in range(steps):
        noised = objective.noise(batch, objective.maskable(batch), mask_id=V, seed=0, step=step)
        results.append(objective.loss(lambda x, t: denoiser.forward(x)[0], noised, cross_entropy).sum())
    return np.array(results)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sine", "poly"])
@pytest.mark.parametrize("name", BOUNDS)
def test_every_bound_has_the_enumerated_nelbo_as_its_mean_under_every_schedule(name: str, schedule: str) -> None:
    tokens = np.array([0, 2, 1, 1])
    exact = enumerated_nelbo(tabular_denoiser(V, L, seed=0), tokens) / L
    settings = ObjectiveSettings(name=name, schedule=schedule, schedule_power=2.0)
    values = losses(settings, tokens, steps=300, rows=256)
    error = values.std(ddof=1) / np.sqrt(len(values))
    # nelbo_t draws no time below T_MIN, and so misses at most about T_MIN of the bound
    assert abs(values.mean() - exact) < 4 * error + (2 * T_MIN * exact if name == "nelbo_t" else 0)
    assert error < 0.02 * exact


@pytest.mark.parametrize("sampling", ["independent", "jittered", "systematic"])
def test_how_times_are_sampled_does_not_move_the_mean(sampling: str) -> None:
    tokens = np.array([2, 2, 0, 1])
    exact = enumerated_nelbo(tabular_denoiser(V, L, seed=0), tokens) / L
    values = losses(ObjectiveSettings(name="nelbo", time_sampling=sampling), tokens, steps=400, rows=64)
    assert abs(values.mean() - exact) < 4 * values.std(ddof=1) / np.sqrt(len(values))


def test_weights_by_count_and_jittered_times_lower_the_variance() -> None:
    # a toy CE that grows with the masked share, so that both the weights and the times spread the loss
    rows, width, spread = 16, 256, {}
    tokens = np.zeros((rows, width), np.int32)
    for name in BOUNDS:
        for sampling in ("independent", "jittered"):
            objective, values = Objective(ObjectiveSettings(name=name, time_sampling=sampling)), []
            for step in range(300):
                noised = objective.noise(tokens, objective.maskable(tokens), mask_id=1, seed=0, step=step)
                difficulty = 0.5 + (noised.x_t == 1).mean(axis=1)
                values.append((noised.weight.sum(axis=1) * difficulty).sum())
            spread[name, sampling] = np.std(values)
    assert spread["nelbo", "jittered"] < 0.8 * spread["nelbo_t", "jittered"]
    assert spread["nelbo", "independent"] < spread["nelbo_t", "independent"]
    for name in BOUNDS:
        assert spread[name, "jittered"] < 0.6 * spread[name, "independent"]


def test_a_uniform_denoiser_costs_log_v_per_token() -> None:
    tokens = np.zeros((64, 32), np.int32)
    objective = Objective(ObjectiveSettings(name="exact_k"))
    noised = objective.noise(tokens, objective.maskable(tokens), mask_id=5, seed=0, step=0)
    loss = objective.loss(lambda x, t: np.zeros((*x.shape, 5)), noised, cross_entropy).sum()
    assert loss == pytest.approx(np.log(5), rel=1e-6)


def test_pooled_is_the_mean_over_all_masked_tokens_of_the_batch() -> None:
    tokens = np.random.default_rng(0).integers(0, V, (16, L))
    objective = Objective(ObjectiveSettings(name="pooled"))
    noised = objective.noise(tokens, objective.maskable(tokens), mask_id=V, seed=0, step=0)
    masked = noised.x_t == V
    np.testing.assert_allclose(noised.weight, masked / masked.sum(), rtol=1e-6)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_what_may_not_be_masked_is_not_and_weighs_nothing(name: str) -> None:
    tokens = np.zeros((64, 16), np.int32)
    objective = Objective(ObjectiveSettings(name=name, context_len=6))
    noised = objective.noise(tokens, objective.maskable(tokens), mask_id=1, seed=0, step=0)
    assert not (noised.x_t[:, :6] == 1).any()
    assert not noised.weight[:, :6].any()
    assert ((noised.weight > 0) == (noised.x_t == 1)).all()


def test_rows_of_different_prompts_are_weighed_by_their_own_length() -> None:
    tokens = np.zeros((512, 8), np.int32)
    maskable = np.arange(8) >= np.where(np.arange(512) % 2, 2, 6)[:, None]
    for name in BOUNDS:
        objective, weights = Objective(ObjectiveSettings(name=name)), []
        for step in range(200):
            weights.append(objective.noise(tokens, maskable, mask_id=1, seed=0, step=step).weight.sum(axis=1))
        per_row = np.mean(weights, axis=0) * 512  # with CE = 1 the bound is 1 per token, whatever the length
        assert per_row[0::2].mean() == pytest.approx(1.0, abs=0.02)
        assert per_row[1::2].mean() == pytest.approx(1.0, abs=0.02)


def test_noise_is_a_function_of_seed_and_step() -> None:
    tokens = np.zeros((8, 16), np.int32)
    objective = Objective(ObjectiveSettings())

    def noise(seed: int, step: int) -> Noised:
        return objective.noise(tokens, objective.maskable(tokens), mask_id=1, seed=seed, step=step)

    np.testing.assert_array_equal(noise(1, 2).x_t, noise(1, 2).x_t)
    assert (noise(1, 2).x_t != noise(1, 3).x_t).any()
    assert (noise(1, 2).x_t != noise(2, 2).x_t).any()


def test_shares_of_a_global_batch_average_to_its_loss() -> None:
    tokens = np.zeros((8, 16), np.int32)
    objective = Objective(ObjectiveSettings(name="pooled"))
    noised = objective.noise(tokens, objective.maskable(tokens), mask_id=1, seed=0, step=0)
    shares = [noised.rows(first, first + 2, 4.0).weight.sum() for first in range(0, 8, 2)]
    assert np.mean(shares) == pytest.approx(noised.weight.sum(), rel=1e-6)


def test_an_unknown_objective_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown objective.name 'nelbo_tt' \(did you mean 'nelbo_t'\?\)"):
        Objective(replace(ObjectiveSettings(), name="nelbo_tt"))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sine"])
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_the_time_of_a_row_is_its_masked_share_as_samplers_have_it(name: str, schedule: str) -> None:
    tokens = np.zeros((32, 4000), np.int32)
    objective = Objective(ObjectiveSettings(name=name, schedule=schedule))
    noised = objective.noise(tokens, objective.maskable(tokens), mask_id=1, seed=0, step=0)
    np.testing.assert_allclose(noised.t, (noised.x_t == 1).mean(axis=1), atol=0.04)
