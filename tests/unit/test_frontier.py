import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from oracle import MarkovOracle
from tzd.cli import main
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import UserError
from tzd.evaluation.estimate import Estimate
from tzd.evaluation.frontier import KNOBS, Bench, Contender, contenders, to_rows
from tzd.evaluation.infilling import infill_accuracy
from tzd.evaluation.judge import judged
from tzd.sampling import descriptions, sampler, settings_of

V, LENGTH = 5, 24


def cycle(block_len: int = 0) -> FunctionDenoiser:
    """Knows that each token is one more than the token before it, and its last, unseen, is 0."""

    def logits(tokens: np.ndarray) -> np.ndarray:
        wanted = np.arange(tokens.shape[1]) % V
        return np.where(wanted[None, :, None] == np.arange(V), 5.0, 0.0) * np.ones((*tokens.shape, 1))

    return FunctionDenoiser(logits, V, LENGTH, block_len=block_len)


def encode(text: str) -> np.ndarray:
    return np.array([ord(c) - 97 for c in text])


def decode(tokens: np.ndarray) -> str:
    return "".join(chr(97 + t) for t in tokens)


def test_every_sampler_has_something_that_decides_its_cost() -> None:
    for name in descriptions():
        assert "steps" in settings_of(name) or KNOBS[name][0] in settings_of(name)
    field = list(contenders([("ancestral", {"temperature": 0.5}), ("threshold", {})], [4, 8]))
    assert [c.label for c in field[:3]] == [
        "ancestral temperature=0.5 steps=4",
        "ancestral temperature=0.5 steps=8",
        "threshold confidence_threshold=0.5",
    ]
    assert field[0].variant == "ancestral temperature=0.5"
    assert [c.label for c in contenders([("llada", {"steps": 5})], [4, 8])] == ["llada steps=5"]


def test_what_no_number_of_steps_decides_is_measured_once() -> None:
    sure = {"confidence_threshold": 0.9}
    (by_threshold,) = contenders([("llada", sure)], [4, 8])
    assert by_threshold.label == by_threshold.variant == "llada confidence_threshold=0.9"
    (composed,) = contenders([("top-k", {"count": "one"})], [4, 8])
    assert composed.label == "top-k count=one"
    assert [c.label for c in contenders([("top-k", {"count": "quota"})], [4, 8])] == [
        "top-k count=quota steps=4",
        "top-k count=quota steps=8",
    ]


def test_a_gap_is_filled_as_the_model_knows_it_and_only_the_gap_counts() -> None:
    texts = np.tile(np.arange(LENGTH) % V, (6, 1))
    texts[3:, 10] = 4  # the third token of the gap of 8, which begins at 8, is another than the model thinks
    result = infill_accuracy(cycle(), texts, sampler=sampler("llada", steps=4, temperature=0), span=8, batch_size=4)
    assert result.value == pytest.approx((1 + 7 / 8) / 2)
    with pytest.raises(UserError, match="a gap of 24 tokens does not fit into texts of 24"):
        infill_accuracy(cycle(), texts, sampler=sampler("llada"), span=24)


def test_a_judge_says_nats_per_character_and_is_autoregressive() -> None:
    sure = 5.0 - math.log(math.exp(5) + V - 1)
    unsure = -math.log(math.exp(5) + V - 1)
    texts = ["abcde", "abcdeabcdeabcdeabcdeabcdabcde", "bbcd"]  # the second is cut at 24
    half = cycle().function  # of [x_t ; x_0], whose second half is not asked for
    doubled = FunctionDenoiser(lambda x: np.tile(half(x[:, : x.shape[1] // 2]), (1, 2, 1)), V, LENGTH, block_len=1)
    verdict = judged(doubled, texts, encode)
    right = 37  # all but the first letter of the last: each window begins a cycle anew
    assert verdict.value == pytest.approx(-(right * sure + (38 - right) * unsure) / 38)
    with pytest.raises(UserError, match=r"objective=block objective\.block_len=1"):
        judged(cycle(), texts, encode)


def test_a_point_holds_what_the_sampler_wrote() -> None:
    training = np.tile(np.arange(LENGTH) % V, 40)
    held_out = training[:480].reshape(20, -1)
    bench = Bench(cycle(), decode, lambda texts: Estimate(len(texts), 0.5), training, held_out, 10, 4)
    point = bench.measure(Contender("llada", {"steps": 6}))
    assert point.nfe == 6 and point.judge == (10.0, 0.5)
    cold = bench.measure(Contender("threshold", {"confidence_threshold": 0.5}))
    assert cold.diversity.copied is not None and cold.diversity.copied.value == 1.0 and cold.nfe == 1
    assert cold.infill is not None and cold.infill.value == 1.0
    real = bench.real()
    rows = to_rows([real, point])
    assert rows[0]["sampler"] == "real text" and rows[0]["infill_accuracy"] is None
    assert rows[1]["settings"] == {"steps": 6} and rows[1]["copied_stderr"] is not None
    json.dumps(rows)


def test_an_exact_sampler_is_judged_as_its_source_is() -> None:
    """First-hitting with the exact denoiser of a chain: the judge that knows the chain says its entropy."""
    oracle = MarkovOracle()
    joint = oracle.joint[oracle.joint > 0]
    entropy = -(joint * np.log(joint)).sum() / oracle.length
    rows = oracle.canvases[oracle.joint > 0]
    held_out = np.repeat(rows, 9, axis=0)[:64]

    def verdict(texts: Sequence[str]) -> Estimate:
        p = np.log([oracle.joint[oracle.code(encode(t)[:5])] for t in texts])
        return Estimate(-p.mean() / oracle.length, p.std() / math.sqrt(len(p)) / oracle.length)

    pairs = np.concatenate([held_out, held_out], axis=1)
    bench = Bench(oracle.denoiser(2), decode, verdict, pairs.ravel(), pairs, 2000, 500)
    value, stderr = bench.measure(Contender("first-hitting", {})).judge  # type: ignore[misc]
    assert value == pytest.approx(entropy, abs=4 * stderr)


def test_the_command_prints_a_table_and_writes_a_file_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from runs import train

    monkeypatch.chdir(tmp_path)
    model = train(tmp_path / "model").path
    judge = train(tmp_path / "judge", {"objective": {"name": "block", "block_len": 1}}).path
    capsys.readouterr()
    given = ["bench", "samplers", str(model), "--judge", str(judge), "--samplers", "ancestral,threshold"]
    assert main([*given, "--budgets", "2,4", "--samples", "6", "--batch-size", "4", "--out", "out", "--json"]) == 0
    out = capsys.readouterr().out
    result = json.loads(out.splitlines()[-1])
    assert [row["sampler"] for row in result["points"]] == ["real text"] + ["ancestral"] * 2 + ["threshold"] * 3
    assert json.loads((tmp_path / "out" / "samplers.json").read_text()) == result
    assert (tmp_path / "out" / "frontier.png").stat().st_size > 10_000
    assert all(label in out for label in ("real text", "ancestral steps=2", "threshold confidence_threshold=0.9"))
    assert result["points"][1]["nfe"] <= 2
    kept = tmp_path / "out" / "points" / "ancestral,steps=2.json"
    kept.write_text(kept.read_text().replace('"nfe": 2.0', '"nfe": 1.5'))
    flags = ["--budgets", "2", "--samples", "6", "--batch-size", "4", "--out", "out", "--json"]
    again = [*given[:-1], "ancestral", *flags]
    assert main(again) == 0  # what is there is not measured again, and all of it is in the table
    points = json.loads(capsys.readouterr().out.splitlines()[-1])["points"]
    assert len(points) == 6 and points[1]["nfe"] == 1.5
    assert main([*given, "--budgets", "2", "--samples", "7", "--out", "out"]) == 2
    assert "out holds points measured with samples 6, not 7: choose another folder" in capsys.readouterr().err
    assert main([*again[:-1], "--batch-size", "2"]) == 2  # on which passes and speed depend
    assert (
        "out holds points measured with batch_size 4, not 2: choose another folder (--out), or remove it"
    ) in capsys.readouterr().err
    kept.write_text(kept.read_text().replace('"infill_accuracy":', '"infilling":'))
    assert main(again) == 2
    assert (
        "out/points/ancestral,steps=2.json cannot be read (it has no infill_accuracy): remove it, "
        "and it is measured again"
    ) in capsys.readouterr().err
    kept.write_text("{")
    assert main(again) == 2
    assert "ancestral,steps=2.json cannot be read" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([*again[:-2], "file"]) == 1
    told = capsys.readouterr()
    line = "cannot write file/points: Not a directory; choose a folder that is there and that you may write to"
    assert (told.out, told.err) == ("", f"tzd: {line}\n")  # before anything is measured
    assert main([*given[:-1], "ancestrul"]) == 2
    assert "unknown sampler 'ancestrul' (did you mean 'ancestral'?)" in capsys.readouterr().err
    assert main(["bench", "samplers", str(model), "--judge", str(model)]) == 2
    assert main([*given, "--budgets", "few"]) == 2
