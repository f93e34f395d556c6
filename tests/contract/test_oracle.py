"""Samplers against exact laws: a Markov chain whose denoiser, and whose samplers' laws, can be computed."""

import numpy as np
import pytest

from oracle import MarkovOracle, chi_square, total_variation
from tzd.sampling import Sampler, sampler

SAMPLES = 1_000_000
ORACLE = MarkovOracle()


def rates(steps):
    """For the linear schedule, (T,) q = 1 - s/t of each step."""
    return 1 / np.arange(steps, 0, -1)


def test_the_oracle_agrees_with_itself():
    assert ORACLE.joint.sum() == pytest.approx(1, abs=1e-12)
    # one token a step, each given all others, ends at the joint whatever the route: here, all blanks in 1 step of 5
    one_step = ORACLE.law(np.array([1.0]), np.ones(1))
    marginals = ORACLE.conditionals[-1]
    independent = np.prod(marginals[np.arange(5), ORACLE.canvases[0]])
    assert one_step[0] == pytest.approx(independent, rel=1e-12)
    assert ORACLE.law(rates(300), np.ones(300)) == pytest.approx(ORACLE.joint, abs=1e-3)


def test_first_hitting_reproduces_the_joint():
    assert chi_square(ORACLE.counts(sampler("first-hitting"), SAMPLES), ORACLE.joint) > 1e-3


@pytest.mark.parametrize("steps", [4, 32, pytest.param(256, marks=pytest.mark.slow)])
def test_ancestral_follows_its_exact_law(steps):
    counts = ORACLE.counts(sampler("ancestral", steps=steps), SAMPLES, seed=1, copies=8)
    assert chi_square(counts, ORACLE.law(rates(steps), np.ones(steps))) > 1e-3
    if steps < 100:  # the test can tell that law from the limit of many steps
        assert chi_square(counts, ORACLE.joint) < 1e-9


def test_ancestral_on_another_schedule_follows_its_exact_law():
    steps = 5
    p = 1 - np.cos(np.pi / 2 * np.arange(steps, -1, -1) / steps)  # mask-probabilities at the edges of the grid
    counts = ORACLE.counts(sampler("ancestral", steps=steps, schedule="cosine"), SAMPLES // 4, seed=2)
    assert chi_square(counts, ORACLE.law(1 - p[1:] / p[:-1], np.ones(steps))) > 1e-3
    assert chi_square(counts, ORACLE.law(rates(steps), np.ones(steps))) < 1e-9


@pytest.mark.parametrize("steps", [3, 8])
def test_renoise_follows_its_exact_law(steps):
    alpha = np.arange(1, steps + 1) / steps
    counts = ORACLE.counts(sampler("renoise", steps=steps), SAMPLES // 4, seed=3)
    assert chi_square(counts, ORACLE.law(alpha, alpha)) > 1e-3
    assert chi_square(counts, ORACLE.joint) < 1e-9


@pytest.mark.parametrize("order", ["left-to-right", "dilated", "stripes", "confidence", "margin", "entropy"])
def test_one_token_a_step_by_any_order_of_the_distribution_reproduces_the_joint(order):
    counts = ORACLE.counts(Sampler(order=order, count="one"), SAMPLES // 4, seed=4)
    assert chi_square(counts, ORACLE.joint) > 1e-3


def test_blocks_of_one_token_a_step_reproduce_the_joint():
    counts = ORACLE.counts(sampler("first-hitting", block_len=2), SAMPLES // 4, seed=5)
    assert chi_square(counts, ORACLE.joint) > 1e-3


def test_the_confidence_of_drawn_tokens_is_biased_and_the_test_sees_it():
    counts = ORACLE.counts(sampler("llada", steps=5), 20_000, seed=6)
    assert chi_square(counts, ORACLE.joint) < 1e-9
    assert total_variation(counts, ORACLE.joint) > 0.5


def test_a_grid_of_one_step_more_or_less_is_told_apart():
    counts = ORACLE.counts(sampler("ancestral", steps=4), SAMPLES, seed=7, copies=8)
    for steps in (3, 5):
        assert chi_square(counts, ORACLE.law(rates(steps), np.ones(steps))) < 1e-9


def test_a_chain_that_begins_a_little_differently_is_told_apart():
    counts = ORACLE.counts(sampler("first-hitting"), SAMPLES, seed=8)
    assert chi_square(counts, MarkovOracle(first=(0.61, 0.29, 0.1)).joint) < 1e-3


@pytest.mark.parametrize("name", ["remdm-cap", "remdm-rescale"])
@pytest.mark.parametrize("steps", [4, 8])
def test_remdm_follows_its_exact_law(name, steps):
    eta = 0.3
    s, t = np.arange(steps - 1, -1, -1) / steps, np.arange(steps, 0, -1) / steps
    largest = np.minimum(1, s / np.maximum(1 - t, 1e-12))
    sigma = np.minimum(eta, largest) if name == "remdm-cap" else eta * largest
    law = ORACLE.law((1 - s - (1 - sigma) * (1 - t)) / t, 1 - sigma)
    counts = ORACLE.counts(sampler(name, steps=steps, eta=eta, top_p=1.0), SAMPLES, seed=9, copies=8)
    assert chi_square(counts, law) > 1e-3
    assert chi_square(counts, ORACLE.law(rates(steps), np.ones(steps))) < 1e-9


def test_the_loop_of_remdm_follows_its_exact_law():
    steps, eta, t_on, t_off, level = 12, 0.2, 0.6, 0.3, 0.8
    edges = np.arange(steps, -1, -1) / steps
    alpha = np.interp(-edges, [-1, -t_on, -t_off, 0], [0, level, level, 1])
    t, alpha_t, alpha_s = edges[:-1], alpha[:-1], alpha[1:]
    sigma = np.where((t > t_off) & (t <= t_on), np.minimum(eta, (1 - alpha_s) / np.maximum(alpha_t, 1e-12)), 0)
    law = ORACLE.law((alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t), 1 - sigma)
    rules = sampler("remdm-loop", steps=steps, eta=eta, t_on=t_on, t_off=t_off, alpha_on=level, top_p=1.0)
    assert chi_square(ORACLE.counts(rules, SAMPLES, seed=10, copies=8), law) > 1e-3


@pytest.mark.parametrize("name", ["uniform-order", "left-to-right"])
def test_one_token_a_pass_in_a_given_order_reproduces_the_joint(name):
    assert chi_square(ORACLE.counts(sampler(name), SAMPLES // 4, seed=11), ORACLE.joint) > 1e-3


def test_entropy_bound_at_0_reproduces_the_joint_and_at_1_does_not():
    exact = ORACLE.counts(sampler("entropy-bound", gamma=0.0), SAMPLES, seed=12)
    assert chi_square(exact, ORACLE.joint) > 1e-3
    loose = ORACLE.counts(sampler("entropy-bound", gamma=1.0), 50_000, seed=12)
    assert chi_square(loose, ORACLE.joint) < 1e-9
    assert total_variation(loose, ORACLE.joint) == pytest.approx(0.37, abs=0.05)


def test_the_confidence_of_the_distribution_has_no_bias_where_that_of_drawn_tokens_has():
    counts = ORACLE.counts(sampler("llada", steps=5, order="confidence"), SAMPLES // 4, seed=13)
    assert chi_square(counts, ORACLE.joint) > 1e-3
