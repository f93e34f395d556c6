import math

import numpy as np
import pytest

from tzd.diffusion.schedule import SCHEDULES, Schedule, schedule, weight_by_count
from tzd.errors import ConfigError

NAMES = {"linear": 1.0, "cosine": 1.0, "sine": 1.0, "poly-2": 2.0, "poly-half": 0.5}


@pytest.fixture(params=NAMES)
def curve(request: pytest.FixtureRequest) -> Schedule:
    return SCHEDULES[request.param.split("-")[0]](NAMES[request.param])


def test_alpha_falls_from_one_to_zero(curve: Schedule) -> None:
    t = np.linspace(0.0, 1.0, 1001)
    alpha = curve.alpha(t)
    assert alpha[0] == pytest.approx(1.0, abs=1e-12)
    assert alpha[-1] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(alpha) < 0).all()


def test_dalpha_is_the_derivative_of_alpha(curve: Schedule) -> None:
    t, h = np.linspace(0.05, 0.95, 19), 1e-6
    difference = (curve.alpha(t + h) - curve.alpha(t - h)) / (2 * h)
    np.testing.assert_allclose(curve.dalpha(t), difference, rtol=1e-7)


def test_inverse_undoes_alpha(curve: Schedule) -> None:
    t = np.linspace(0.0, 1.0, 101)
    np.testing.assert_allclose(curve.inverse(curve.alpha(t)), t, atol=1e-7)


def test_known_values() -> None:
    half = np.array([0.5])
    assert schedule("linear").alpha(half)[0] == 0.5
    assert schedule("cosine").alpha(half)[0] == pytest.approx(math.cos(math.pi / 4))
    assert schedule("sine").alpha(half)[0] == pytest.approx(1 - math.sin(math.pi / 4))
    assert schedule("poly", 2.0).alpha(half)[0] == 0.75
    np.testing.assert_allclose(schedule("linear").weight(np.array([0.25])), [4.0])


def test_an_unknown_schedule_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown masking schedule 'cosin' \(did you mean 'cosine'\?\)"):
        schedule("cosin")


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_weight_by_count_is_the_mean_weight_given_the_count(curve: Schedule, length: int) -> None:
    # E[w | n] by brute force: a fine grid over the mask-probability p, over which the NELBO integrates Σ CE dp / p
    edges = np.linspace(0.0, 1.0, 200_001)
    p, dp, dt = (edges[1:] + edges[:-1]) / 2, 1 / 200_000, np.abs(np.diff(curve.inverse(1 - edges)))
    table = weight_by_count(curve, length)
    assert table[0] == 0
    for n in range(1, length + 1):
        likelihood = p**n * (1 - p) ** (length - n)
        expected = (likelihood / p * dp).sum() / (likelihood * dt).sum()
        assert table[n] == pytest.approx(expected, rel=1e-4)


def test_on_the_linear_schedule_the_weight_is_length_plus_one_over_n() -> None:
    np.testing.assert_allclose(weight_by_count(schedule("linear"), 9)[1:], 10 / np.arange(1, 10))


def test_quadrature_agrees_with_the_closed_form_of_the_polynomial_schedule() -> None:
    # t^k: E[w | n] = k B(n, L-n+1) / B(n + 1/k, L-n+1)
    length, k = 300, 2.0

    def log_beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    expected = [
        k * math.exp(log_beta(n, length - n + 1) - log_beta(n + 1 / k, length - n + 1)) for n in range(1, length + 1)
    ]
    np.testing.assert_allclose(weight_by_count(schedule("poly", k), length)[1:], expected, rtol=1e-6)


def test_a_polynomial_of_power_one_is_linear() -> None:
    np.testing.assert_allclose(
        weight_by_count(schedule("poly", 1.0), 50), weight_by_count(schedule("linear"), 50), rtol=1e-9
    )


def test_every_schedule_is_listed() -> None:
    assert set(SCHEDULES) == {"linear", "cosine", "sine", "poly"}


def test_a_schedule_knows_its_name_and_its_power_if_it_is_one() -> None:
    made = {name: make(2.0) for name, make in SCHEDULES.items()}
    assert [curve.name for curve in made.values()] == list(SCHEDULES)
    assert {name: curve.power for name, curve in made.items()} == {
        **{"linear": 1.0, "cosine": None, "sine": None},
        "poly": 2.0,
    }
