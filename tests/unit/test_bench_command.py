"""`tzd bench train|sample|startup|corpus` shows and keeps what it measures, and says what it does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benches import CELL, MACHINE, SAMPLING, TRAINING
from tzd.bench import corpus, grid, openblas, sampling, startup, training
from tzd.bench.sizes import Cell
from tzd.bench.turns import WorkerError
from tzd.cli import main
from tzd.errors import UserError


def run(*arguments: object) -> int:
    return main(["bench", *map(str, arguments)])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """No worker is started: they have said what stands above; what was asked of them."""
    asked: dict[str, list] = {"commands": [], "environment": []}

    def turns(commands, rounds, environment=None):
        asked["commands"].append(commands)
        asked["environment"].append(environment)
        if list(commands) == ["the machine"]:
            return {"the machine": MACHINE[:1]}
        if any("fails" in str(command) for command in commands.values()):
            raise WorkerError("'tzd' failed: out of luck")
        said = SAMPLING if sampling.PLAIN in commands else TRAINING
        ours = next(name for name in said if name.startswith("tzd"))
        return {name: said.get(name, said[ours]) for name in commands}

    for module in (training, sampling):
        monkeypatch.setattr(module, "in_turns", turns)
    monkeypatch.setattr("tzd.bench.turns.in_turns", turns)
    monkeypatch.setattr("tzd.bench.machine.free_bytes", lambda: 40e9)
    return asked


def test_a_table_and_json_say_what_was_measured_and_what_was_skipped(
    measured: dict[str, list], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    sizes = ("train", "--sizes", "smdm-113M,10.7M", "--batch", "16,1024", "--json", file)
    assert run(*sizes, "--minutes", 60) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "training 10.7M on torch, V=66, 16 × 256: 10.7M parameters, 71 MFLOP a token" in out
    assert "400 GFLOP/s in bfloat16; memory: 50 GB/s" in out
    assert out.index("training 10.7M") < out.index("training smdm-113M")  # the smallest first
    assert "skipped: smdm-113M on torch, V=66, 1024 × 256: needs some" in out and "36 GB are free" in out
    data = json.loads(file.read_text())
    assert data.keys() == {"bench", "machine", "settings", "results", "skipped", "failed"}
    assert [(row["size"], row["batch"]) for row in data["results"]] == [("10.7M", 16), ("smdm-113M", 16)]
    assert {(row["size"], row["batch"]) for row in data["skipped"]} == {("10.7M", 1024), ("smdm-113M", 1024)}
    assert data["results"][0]["contenders"]["tzd, Muon"]["tokens_per_second"] == 4 * 4096
    assert data["settings"]["rounds"] == 3 and data["machine"]["cores"] >= 1


def test_sampling_has_a_contender_for_each_precision_and_a_row_for_each_batch(
    measured: dict[str, list], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sample", "--precision", "auto,int8", "--batch", "1,16", "--sizes", "0.8M") == 0
    contenders = [list(commands) for commands in measured["commands"][1:]]
    assert contenders == [["machine", sampling.PLAIN, "tzd, auto", "tzd, int8"]] * 2
    out = capsys.readouterr().out
    assert "sampling 0.8M on torch, V=66, 1 × 256" in out and "sampling 0.8M on torch, V=66, 16 × 256" in out


def test_the_full_grid_has_every_cell_and_says_which_would_take_too_long(
    measured: dict[str, list], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "find_spec", lambda name: None if name == "mlx" else name)
    assert run("train", "--grid", "--minutes", 0.0001) == 0
    out = capsys.readouterr().out
    assert (
        out.count("skipped: ") == 4 * 3 * 3 * 2
        and out.count("than the 0 s of --minutes") + out.count("of memory") == 72
    )


def test_the_grid_leaves_lists_that_are_given_as_they_are(
    measured: dict[str, list], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "figures.json"
    lists = ("--engine", "torch", "--sizes", "0.8M", "--batch", "2", "--vocab", "9")
    assert run("train", "--grid", *lists, "--json", file) == 0
    data = json.loads(file.read_text())
    assert [(row["batch"], row["length"]) for row in data["results"]] == [(2, 256), (2, 1024)]
    assert data["settings"]["length"] == "256,1024" and data["settings"]["batch"] == "2"


def test_no_more_passes_of_the_plain_loop_are_timed_than_it_has(measured: dict[str, list]) -> None:
    for steps, passes in ((32, "32"), (300, "256")):
        assert run("sample", "--batch", 1, "--steps", steps, "--minutes", 60) == 0
        assert measured["commands"][-1][sampling.PLAIN][-1] == passes
        assert measured["commands"][-1]["tzd, auto"][-1] == str(steps)


def test_a_precision_that_an_engine_lacks_is_skipped_and_the_others_are_measured(
    measured: dict[str, list], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sample", "--precision", "int8,int4", "--batch", "1") == 0
    assert list(measured["commands"][-1]) == ["machine", sampling.PLAIN, "tzd, int8"]
    assert "skipped: 10.7M on torch, V=66, 1 × 256: the torch engine has no precision=int4" in capsys.readouterr().out
    measured["commands"].clear()
    assert run("sample", "--precision", "int4", "--batch", "1") == 0 and not measured["commands"]


def test_a_cell_that_fails_does_not_stop_the_others_and_ends_in_one_line(
    measured: dict[str, list], capsys: pytest.CaptureFixture[str]
) -> None:
    measure = training.measure

    def failing(cell: Cell, *settings: int):
        if cell.batch == 2:
            raise WorkerError("'tzd, Muon' failed: out of luck")
        return measure(cell, *settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "measure", failing)
        assert run("train", "--sizes", "0.8M", "--batch", "2,3") == 1
    captured = capsys.readouterr()
    assert "failed: 0.8M on torch, V=66, 2 × 256: 'tzd, Muon' failed: out of luck" in captured.out
    assert "training 0.8M on torch, V=66, 3 × 256" in captured.out
    assert captured.err == "tzd: 1 of 2 cells failed, the first because 'tzd, Muon' failed: out of luck\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--sizes", "10.7"), "--sizes 10.7: unknown '10.7' (did you mean '10.7M'?)"),
        (("train", "--engine", "jax"), "--engine jax: unknown 'jax'"),
        (("train", "--vocab", "66,x"), "--vocab 66,x: give whole numbers from 1 to 32000, separated by commas"),
        (("train", "--vocab", "64000"), "--vocab 64000: give whole numbers from 1 to 32000"),
        (("sample", "--batch", "0"), "--batch 0: give whole numbers"),
        (("sample", "--precision", "fp4"), "--precision fp4: unknown 'fp4'"),
        (("train", "--steps", "1"), "--steps must be at least 2, not 1"),
        (("startup", "--rounds", "0"), "--rounds must be at least 1, not 0"),
        (("corpus", "--mebibytes", "0"), "--mebibytes must be at least 1, not 0"),
        (("train", "--minutes", "nan"), "--minutes must be a number above 0, not nan"),
        (("sample", "--minutes", "inf"), "--minutes must be a number above 0, not inf"),
        (("train", "--minutes", "-1"), "--minutes must be a number above 0, not -1"),
        (("train", "--sizes", ""), "--sizes : unknown ''"),
        (("startup", "--json", "."), "--json .: it cannot be written there"),
        (("startup", "--json", "nowhere/x.json"), "--json nowhere/x.json: there is no folder nowhere"),
        (("speed",), "invalid choice: 'speed'"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], measured: dict[str, list]
) -> None:
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not measured["commands"]


def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(grid, "find_spec", lambda name: None)
    assert run("train", "--engine", "mlx") == 1
    assert "--engine mlx needs the extra 'mlx': uv sync --extra mlx" in capsys.readouterr().err


def test_start_up_and_corpora_are_shown_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {"tzd --help": [0.1, 0.2, 0.3], startup.TORCH: [1.0, 2.0, 1.0], startup.SAMPLE: [2.0, 4.0, 2.5]}
    found = {"tzd sample": {"count": 700, "heavy": ["torch"]}}
    monkeypatch.setattr(startup, "measure", lambda rounds: startup.summary(seconds) | {"modules": found})
    monkeypatch.setattr(corpus, "measure", lambda mebibytes: {"byte": {"seconds": 2.0, "text": 1.0, "peak": 9.0}})
    for what in ("startup", "corpus"):
        assert run(what, "--json", tmp_path / f"{what}.json") == 0
    (result,) = json.loads((tmp_path / "startup.json").read_text())["results"]
    assert result["beyond_torch"] == 1.5 and result["seconds"]["tzd --help"] == 0.2
    out = " ".join(capsys.readouterr().out.split())
    assert "tzd sample imports 700 modules, of the heavy ones torch" in out and "beyond import torch" in out


def test_a_command_that_is_told_to_end_ends_as_ctrl_c_would_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned = []

    def measure(mebibytes: int) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    monkeypatch.setattr(corpus, "measure", measure)
    before = signal.getsignal(signal.SIGTERM)
    assert run("corpus") == 143 and cleaned and signal.getsignal(signal.SIGTERM) is before


def test_what_the_benchmark_was_started_with_is_preloaded_else_the_openblas_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: dict[str, list]
) -> None:
    library = tmp_path / "libopenblas.so.0"
    monkeypatch.setattr(openblas, "places", lambda: [str(tmp_path / "nowhere"), str(library)])
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    assert openblas.preload() is None and openblas.environment() is None
    library.touch()
    assert openblas.environment() == {**os.environ, "LD_PRELOAD": str(library)}
    result = training.measure(Cell("mlx", "0.8M", 66, 2, 8), 2, 2)
    assert result["preload"] == str(library) and measured["environment"][-1] == openblas.environment()
    monkeypatch.setenv("LD_PRELOAD", "mine.so")
    assert openblas.preload() == "mine.so"


def test_help_of_the_bench_imports_nothing_heavy() -> None:
    code = (
        "import sys, tzd.cli\ntry: tzd.cli.main(['bench', 'train', '--help'])\nexcept SystemExit: print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "mlx", "rich", "matplotlib", "hydra"} & set(run.stdout.splitlines()[-1].split())


def test_limits_leave_out_what_does_not_fit() -> None:
    limits = grid.Limits(memory=10e9, seconds=300, speeds={"float32": 200e9, "bfloat16": 800e9})
    works = {"plain": 1e12, "tzd, AdamW": 4e12}
    assert grid.why_not(9e9, works, 3, limits) is None
    assert grid.why_not(11e9, works, 3, limits) == "needs some 11 GB of memory, 10 GB are free"
    assert "more than the 5 minutes of --minutes" in str(grid.why_not(1e9, {**works, "plain": 6e12}, 3, limits))
    assert grid.why_not(1e9, {"tzd, AdamW": 6e12}, 3, limits) is None
    with pytest.raises(UserError, match="--batch 1,,2"):
        grid.numbers("1,,2", "--batch", 4)
    assert grid.numbers("4, 2,4", "--batch", 4) == [4, 2]
    used = grid.training_bytes(CELL, 1)
    assert 1.8e9 < used < 2.6e9  # a plain loop was seen to hold 2.2e9
