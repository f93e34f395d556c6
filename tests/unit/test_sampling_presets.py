import dataclasses
from pathlib import Path

import pytest

from tzd.config import RunConfig
from tzd.errors import ConfigError
from tzd.sampling import DEFAULT, Sampler, descriptions, sampler, settings_of
from tzd.sampling.presets import COMMON, PRESETS

NAMES = [
    "dilated",
    "ancestral",
    "first-hitting",
    "uniform-order",
    "left-to-right",
    "llada",
    "llada-random",
    "smdm-greedy",
    "maskgit",
    "dream-entropy",
    "dream-margin",
    "top-k",
    "threshold",
    "factor",
    "entropy-bound",
    "klass",
    "renoise",
    "remdm-cap",
    "remdm-rescale",
    "remdm-conf",
    "remdm-loop",
    "p2",
    "mdlm-semi-ar",
]
COLD = ("top-k", "threshold", "factor", "klass")


def test_the_presets_are_the_published_ones_and_one_of_them_is_the_default():
    assert list(descriptions()) == NAMES
    assert RunConfig().sampler == {"name": DEFAULT}
    assert all(description and "\n" not in description for description in descriptions().values())


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_takes_its_own_defaults(name):
    assert sampler(name, **settings_of(name)) == sampler(name)
    assert set(settings_of(name)) <= {field.name for field in dataclasses.fields(Sampler)}


@pytest.mark.parametrize("name", NAMES)
def test_only_rules_that_are_defined_by_the_likeliest_token_are_cold(name):
    assert settings_of(name)["temperature"] == (0.0 if name in COLD else 1.0)


def test_a_threshold_takes_the_place_of_the_quota():
    assert sampler("llada").count == "quota"
    assert sampler("llada", confidence_threshold=0.9).count == "threshold"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lada", {}, r"unknown sampler 'lada' \(did you mean 'llada'\?\)"),
        ("llada", {"step": 3}, r"sampler 'llada' has no setting 'step' \(did you mean 'steps'\?\)"),
        ("first-hitting", {"steps": 3}, r"sampler 'first-hitting' has no setting 'steps'"),
        ("llada", {"eta": 0.5}, r"sampler 'llada' has no setting 'eta'"),
        ("llada", {"steps": 0}, r"steps must be at least 1, not 0"),
        ("llada", {"steps": 2.5}, r"steps cannot be 2.5; it takes a whole number"),
        ("llada", {"steps": None}, r"steps cannot be None; it takes a whole number"),
        ("llada", {"block_len": 0}, r"block_len must be at least 1, not 0"),
        ("llada", {"cfg_scale": -0.5}, r"cfg_scale must not be negative, not -0.5"),
        ("llada", {"confidence_threshold": 1.5}, r"confidence_threshold must lie in \[0, 1\], not 1.5"),
        ("ancestral", {"temperature": -1}, r"temperature must be 0 \(the likeliest token\) or lie in"),
        ("ancestral", {"temperature": 1e-9}, r"temperature must be 0 \(the likeliest token\) or lie in"),
        ("ancestral", {"temperature": float("nan")}, r"temperature must be a finite number"),
        ("ancestral", {"top_p": 0}, r"top_p must lie in \(0, 1\], not 0"),
        ("ancestral", {"top_p": 1.1}, r"top_p must lie in \(0, 1\], not 1.1"),
        ("ancestral", {"top_k_tokens": 0}, r"top_k_tokens must be at least 1, not 0"),
        ("ancestral", {"overlap": -1}, r"overlap must not be negative, not -1"),
        ("ancestral", {"schedule": "cosin"}, r"unknown schedule 'cosin' \(did you mean 'cosine'\?\)"),
        ("top-k", {"k": 0}, r"k must be at least 1, not 0"),
        ("threshold", {"confidence_threshold": None}, r"count=threshold needs a confidence_threshold"),
    ],
)
def test_bad_settings_are_one_clear_line(name, settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        sampler(name, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "confidense"}, r"unknown order 'confidense' \(did you mean 'confidence'\?\)"),
        ({"count": "quotas"}, r"unknown count 'quotas' \(did you mean 'quota'\?\)"),
        ({"remask": "renoize"}, r"unknown remask 'renoize' \(did you mean 'renoise'\?\)"),
        ({"count": "threshold"}, r"count=threshold needs a confidence_threshold"),
        ({"remask": "p2"}, r"remask=p2 needs one of the orders token-log-confidence"),
        ({"remask": "p2", "order": "entropy"}, r"remask=p2 needs count=scheduled, not binomial"),
        ({"remask": "remdm-loop", "t_on": 0.1, "t_off": 0.2}, r"t_off <= t_on"),
        ({"overlap": 3, "stride": 3}, r"overlap and stride say the same"),
    ],
)
def test_a_combination_that_means_nothing_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Sampler(**settings)


def test_the_documentation_lists_the_presets_as_they_are():
    page = (Path(__file__).parents[2] / "docs" / "sampling.md").read_text(encoding="utf-8")
    for name, preset in PRESETS.items():
        rules = preset.sampler
        own = ", ".join(f"`{key}={getattr(rules, key)}`" for key in preset.settings) or "–"
        cells = [f"`{name}`", rules.order, rules.count, rules.remask or "–", own, f"{rules.temperature:g}"]
        assert f"| {' | '.join(cells)} |" in page
    assert all(f"`{key}`" in page for key in COMMON)
