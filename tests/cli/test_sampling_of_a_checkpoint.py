"""A checkpoint may say how its model is best sampled: whoever names no sampler gets that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import Run

import tzd as package
from tzd.checkpoint.layout import CHECKSUMS, CONFIG, sha256
from tzd.errors import CheckpointError, ConfigError

OWN = {"name": "ancestral", "steps": 3, "temperature": 0.5}


@pytest.fixture
def own(trained: Path, tzd: Run, tmp_path: Path) -> Path:
    """A checkpoint that says so."""
    result = tzd("convert", trained, "own", "--sampling", "ancestral:steps=3:temperature=0.5")
    assert result.returncode == 0, result.stderr
    return tmp_path / "own"


def _text(tzd: Run, *arguments: object) -> dict[str, Any]:
    result = tzd(*arguments, "--quiet", "--json")
    assert result.returncode == 0, result.stderr
    values: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return values


def test_it_is_written_down_and_handed_on(own: Path, tzd: Run, tmp_path: Path) -> None:
    assert json.loads((own / CONFIG).read_text())["sampling"] == OWN
    assert package.load(own).sampling == OWN
    assert tzd("convert", own, "again").returncode == 0
    assert package.load(tmp_path / "again").sampling == OWN


def test_whoever_names_no_sampler_gets_it(own: Path, trained: Path, tzd: Run) -> None:
    length = ("--length", 20, "--seed", 4)
    mine = _text(tzd, "sample", own, *length)
    named = _text(tzd, "sample", trained, *length, "--sampler", "ancestral", "--steps", 3, "--temperature", 0.5)
    plain = _text(tzd, "sample", trained, *length)
    assert mine == named and mine["tokens"] != plain["tokens"]
    model = package.load(own)
    assert package.sample(model, length=20, seed=4).tokens.tolist() == mine["tokens"]
    filled = _text(tzd, "infill", own, "the ____ fox", "--seed", 4)
    assert filled["tokens"] == package.infill(
        package.load(trained), "the ____ fox", seed=4, sampler="ancestral", steps=3, temperature=0.5
    ).tokens.tolist()  # fmt: skip


def test_it_is_compared_with_others_where_nobody_says_which(own: Path, tzd: Run) -> None:
    runs = _text(tzd, "compare", own, "--length", 20, "--seed", 4, "--steps", 4)["runs"]
    assert [run["title"] for run in runs] == [
        "ancestral · steps 4 · temperature 0.5", "ancestral · steps 4", "llada · steps 4"
    ]  # fmt: skip
    assert runs[0]["text"] == _text(tzd, "sample", own, "--length", 20, "--seed", 4, "--steps", 4)["text"][0]


def test_a_setting_changes_it_and_a_sampler_takes_its_place(own: Path) -> None:
    model = package.load(own)
    assert model.way(None, {}) == ("ancestral", {"steps": 3, "temperature": 0.5})
    assert model.way(None, {"temperature": 1.0}) == ("ancestral", {"steps": 3, "temperature": 1.0})
    assert model.way("ancestral", {}) == ("ancestral", {})
    assert model.way("dilated", {"steps": 2}) == ("dilated", {"steps": 2})


def test_what_a_models_own_sampler_does_not_take_is_refused(trained: Path) -> None:
    striped = {"name": "dilated", "order": "stripes", "temperature": 0.9, "last_temperature": 0.4}
    model = replace(package.load(trained), sampling=striped)
    with pytest.raises(ConfigError, match=r"^sampler 'dilated' has no setting 'k' \(known: block_len, "):
        model.way(None, {"k": 8})
    assert model.way(None, {"count": "fixed", "k": 8}) == (
        "dilated",
        {"order": "stripes", "temperature": 0.9, "last_temperature": 0.4, "count": "fixed", "k": 8},
    )
    assert model.way(None, {"temperature": 0.0})[1] == {"order": "stripes", "temperature": 0.0}
    assert package.sample(model, length=8, seed=0, temperature=0.0).nfe > 0


def test_a_model_that_says_nothing_is_sampled_as_all_are(trained: Path) -> None:
    model = package.load(trained)
    assert model.sampling is None and model.way(None, {"steps": 2}) == ("dilated", {"steps": 2})


def test_what_measures_a_model_measures_it_as_it_is_sampled(own: Path, tzd: Run) -> None:
    flags = ("--data", "markov.txt", "--infill", "--samples", 2, "--json")
    Path("markov.txt").write_text("the quick brown fox jumps over the lazy dog. " * 4)
    result = tzd("eval", own, *flags)
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout.splitlines()[-1])
    assert (values["sampler"], values["settings"]) == ("ancestral", {"steps": 3, "temperature": 0.5})


@pytest.mark.parametrize("command", ["sample", "watch"])
def test_a_setting_that_its_sampler_has_not_is_one_line(command: str, own: Path, tzd: Run) -> None:
    result = tzd(command, own, "--confidence-threshold", 0.5)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("tzd: sampler 'ancestral' has no setting 'confidence_threshold'")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "lada"}, "unknown sampler 'lada' (did you mean 'llada'?)"),
        ({"name": "dilated", "k": 3}, "sampler 'dilated' has no setting 'k'"),
        ({"name": "dilated", "steps": 0}, "steps must be at least 1"),
        ({"name": "dilated", "steps": "many"}, "steps"),
        ({"steps": 3}, "names no sampler"),
        (["dilated"], "names no sampler"),
        ({"name": ["dilated"]}, "names no sampler"),
    ],
)
def test_a_checkpoint_that_says_nonsense_is_refused(own: Path, section: Any, message: str) -> None:
    config = json.loads((own / CONFIG).read_text())
    (own / CONFIG).write_text(json.dumps({**config, "sampling": section}))
    sums = json.loads((own / CHECKSUMS).read_text())
    (own / CHECKSUMS).write_text(json.dumps({**sums, CONFIG: sha256(own / CONFIG)}))
    with pytest.raises(CheckpointError, match=r"config\.json: sampling") as error:
        package.load(own)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--sampling lada", "unknown sampler 'lada'"),
        ("--sampling dilated,ancestral", "name one sampler"),
        ("--sampling dilated:steps", "'steps' in 'dilated:steps' is no setting"),
    ],
)
def test_a_wrong_way_is_not_written(flags: str, message: str, trained: Path, tzd: Run, tmp_path: Path) -> None:
    result = tzd("convert", trained, "other", *flags.split())
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "other").exists()
