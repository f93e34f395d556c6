"""The benchmark compares what can be compared."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import masked_head, openblas, smdm
from benchmarks.plain import Plain
from benchmarks.same import CONFIG, plainly_named, weights
from benchmarks.sampling import summary as sampling_summary
from benchmarks.sizes import FLOP_PER_TOKEN, HEADS, LAYERS, LENGTH, PARAMETERS, VOCABULARY, WIDTH
from benchmarks.training import PLAIN, PRODUCTS, summary
from benchmarks.turns import Worker, in_turns

from tzd.config import RunConfig, TinyConfig
from tzd.engines import engine_module
from tzd.engines.torch.tiny import Tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(1).integers(0, VOCABULARY + 1, (1, LENGTH))


def ours(engine: str, tokens: np.ndarray) -> np.ndarray:
    load = engine_module(engine, "denoiser").load_denoiser
    denoiser = load(CONFIG, weights(), context_len=0, where=Path("here"))
    return denoiser.xp.to_numpy(denoiser.forward(tokens)[0])


def test_the_plain_loop_trains_the_same_model(tokens: np.ndarray) -> None:
    plain = Plain()
    plain.load_state_dict({name: torch.tensor(value) for name, value in plainly_named(weights()).items()})
    with torch.no_grad():
        np.testing.assert_allclose(plain(torch.tensor(tokens)).numpy(), ours("torch", tokens), atol=1e-4, rtol=0)


def test_the_plain_loop_on_mlx_trains_and_samples_the_same_model(tokens: np.ndarray) -> None:
    mx = pytest.importorskip("mlx.core")
    from benchmarks.plain_sampling import network

    plain = network()
    np.testing.assert_allclose(np.array(plain(mx.array(tokens))), ours("mlx", tokens), atol=1e-4, rtol=0)


def test_the_plain_sampler_masks_a_share_anew_before_each_pass_and_leaves_no_blank() -> None:
    mx = pytest.importorskip("mlx.core")
    from benchmarks.plain_sampling import write

    shares = []

    def likes_token_3(tokens):
        shares.append(float((tokens == VOCABULARY).mean()))
        return mx.where(mx.arange(VOCABULARY) == 3, 100.0, mx.zeros((*tokens.shape, VOCABULARY)))

    assert (np.array(write(likes_token_3, 16, 4)) == 3).all()
    assert shares == pytest.approx([1, 0.75, 0.5, 0.25], abs=0.05)


def test_neither_the_plain_sampler_nor_who_starts_it_imports_our_engine() -> None:
    pytest.importorskip("mlx.core")
    code = "import sys, benchmarks.__main__, benchmarks.plain_sampling; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tzd.engines.mlx.streams" not in run.stdout.split()  # it has MLX walk graphs otherwise, workers too


def test_the_sizes_are_those_of_the_defaults() -> None:
    default = RunConfig().model.architecture(VOCABULARY)
    assert isinstance(default, TinyConfig)
    assert (default.n_layer, default.n_head, default.n_embd, default.block_size) == (LAYERS, HEADS, WIDTH, LENGTH)
    with torch.device("meta"):
        assert sum(p.numel() for p in Tiny(CONFIG).parameters()) == PARAMETERS
    assert pytest.approx(71e6, rel=0.01) == FLOP_PER_TOKEN


def test_ratios_are_taken_turn_by_turn_and_the_peak_is_that_of_the_products_type() -> None:
    said = {
        PRODUCTS: [{"float32": 1e11, "bfloat16": 3e11}, {"float32": 2e11, "bfloat16": 4e11}, {"peak_mib": 1.0}],
        PLAIN: [{"first_step": 3.0}, {"seconds": 2.0}, {"seconds": 8.0}, {"seconds": 2.0}, {"peak_mib": 200.0}],
        "ours": [
            {"first_step": 31.0, "bf16": True},
            *({"seconds": seconds} for seconds in (1.0, 2.0, 1.0)),
            {"peak_mib": 100.0},
        ],
    }
    result = summary(said, steps=1)["contenders"]
    assert result["ours"]["ratio"] == 2.0 and result[PLAIN]["ratio"] == 1.0
    assert result["ours"]["tokens_per_second"] == 4096
    assert result["ours"]["compile_seconds"] == 30.0
    assert result["ours"]["share_of_peak"] == pytest.approx(4096 * FLOP_PER_TOKEN / 4e11)
    assert result[PLAIN]["share_of_peak"] == pytest.approx(2048 * FLOP_PER_TOKEN / 2e11)
    assert (result["ours"]["memory_ratio"], result[PLAIN]["memory_ratio"]) == (0.5, 1.0)


def test_every_batch_is_compared_with_the_plain_loop_at_the_same_batch() -> None:
    said = {
        "plain loop, batch 1": [{"seconds": 9.0}, {"seconds": 2.0}, {"seconds": 4.0}, {"peak_mib": 50.0}],
        "tzd, batch 1": [{"seconds": 9.0}, {"seconds": 2.0}, {"seconds": 2.0}, {"peak_mib": 100.0}],
        "plain loop, batch 16": [{"seconds": 9.0}, {"seconds": 30.0}, {"seconds": 30.0}, {"peak_mib": 400.0}],
        "tzd, batch 16": [{"seconds": 9.0}, {"seconds": 10.0}, {"seconds": 15.0}, {"peak_mib": 100.0}],
    }
    result = sampling_summary(said)
    assert list(result) == list(said)
    assert [row["ratio"] for row in result.values()] == [1.0, 1.5, 1.0, 2.5]
    assert [row["seconds_per_pass"] for row in result.values()] == [3.0, 2.0, 30.0, 12.5]
    assert [row["memory_ratio"] for row in result.values()] == [1.0, 2.0, 1.0, 0.25]


def test_workers_take_turns_and_one_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text(
        "import sys, time\n"
        "from benchmarks.turns import serve\n"
        "def turn():\n"
        "    start = time.monotonic()\n"
        "    if sys.argv[1] == 'fails': raise ValueError('no luck')\n"
        "    return {'start': start, 'end': time.monotonic()}\n"
        "serve(turn, int(sys.argv[2]), ready=1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    said = in_turns({"a": ["toy", "a"], "b": ["toy", "b"]}, 2)
    assert [numbers.keys() for numbers in said["a"]] == [{"ready"}, {"start", "end"}, {"start", "end"}, {"peak_mib"}]
    turns = [said[name][number] for number in (1, 2) for name in "ab"]
    assert all(before["end"] <= after["start"] for before, after in pairwise(turns))
    with pytest.raises(SystemExit, match=r"(?s)the worker 'c' failed:.*no luck"):
        in_turns({"c": ["toy", "fails"]}, 1)


def test_workers_have_the_variables_that_they_are_given(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text("import os\nfrom benchmarks.turns import say\nsay(toy=float(os.environ['TOY']))\n")
    given = {**os.environ, "TOY": "7", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with Worker("toy", ["toy"], given) as worker:
        assert worker.listen() == {"toy": 7}


def test_what_the_benchmark_was_started_with_is_preloaded_else_the_openblas_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libopenblas.so.0"
    monkeypatch.setattr(openblas, "places", lambda: [str(tmp_path / "nowhere"), str(library)])
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    assert openblas.preload() is None and openblas.environment() is None
    library.touch()
    assert openblas.environment() == {**os.environ, "LD_PRELOAD": str(library)}
    monkeypatch.setenv("LD_PRELOAD", "mine.so")
    assert openblas.preload() == "mine.so"


def test_without_mlx_its_measures_are_skipped_or_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr(command.startup, "measure", lambda rounds: {"nothing": 0.0})
    monkeypatch.setattr(command.training, "measure", lambda *args: pytest.fail("not to be measured"))
    monkeypatch.setattr("sys.argv", ["benchmarks", "startup", "mlx-sampling"])
    with pytest.raises(SystemExit):
        command.main()
    assert "mlx-sampling needs the extra 'mlx': uv sync --extra mlx" in capsys.readouterr().err
    monkeypatch.setattr(command.training, "measure", lambda engine, *args: engine)
    for other in (command.corpus, command.masked_head, command.loop):
        monkeypatch.setattr(other, "measure", lambda *args: "figures")
    for measured in (command.training, command.corpus, command.masked_head, command.loop):
        monkeypatch.setattr(measured, "table", str)
    monkeypatch.setattr("sys.argv", ["benchmarks"])
    command.main()
    out = capsys.readouterr().out
    assert "skipped: mlx-training, mlx-sampling needs the extra 'mlx'" in out and "torch" in out
    assert "skipped: litgpt, smdm needs the extra 'litgpt'" in out


def test_the_masked_head_is_compared_with_the_head_at_all_positions() -> None:
    turns = {"plain": (4.0, 8.0), "all": (4.0, 4.0), "masked": (2.0, 2.0)}
    said = {
        name: [{"ready_mib": 9.0}, *({"seconds": seconds} for seconds in turns[kind]), {"peak_mib": 10.0}]
        for name, kind in masked_head.CONTENDERS.items()
    }
    result = masked_head.summary(said, steps=2)
    assert [row["ratio"] for row in result.values()] == [1.0, 1.5, 3.0]
    assert [row["seconds_per_step"] for row in result.values()] == [3.0, 2.0, 1.0]


def test_smdm_is_compared_with_litgpt_kind_by_kind() -> None:
    kinds = ["float32, training", "float32, forward", "bfloat16, training", "bfloat16, forward"]
    said = {
        "litgpt": [{}, dict.fromkeys(kinds, 6.0), {}],
        "smdm": [{}, dict(zip(kinds, [6, 3, 2, 1], strict=True)), {}],
    }
    result = smdm.summary(said, passes=3)
    assert list(result) == kinds
    assert [row["ratio"] for row in result.values()] == [1, 2, 3, 6]
    assert result[kinds[1]]["litgpt"] == 2.0 and result[kinds[1]]["smdm"] == 1.0


def test_smdm_and_litgpts_gpt_have_the_same_parameters_but_the_row_of_the_mask() -> None:
    pytest.importorskip("litgpt")
    from benchmarks.smdm_pass import network

    with torch.device("meta"):
        theirs, ours = (sum(p.numel() for p in network(n, "Diff_LLaMA_6M").parameters()) for n in ("litgpt", "smdm"))
    assert ours == theirs + 256
