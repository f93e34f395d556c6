"""The MLX port's commands: as its page has them, on small models, and everything that can be wrong with their flags."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import TEXT, Run

import tzd as package
from tzd.checkpoint import RunFolder
from tzd.config import RunConfig
from tzd.errors import CorpusError, InterruptedRunError

pytest.importorskip("mlx.core")

ROOT = Path(__file__).parents[2]
PORT = ROOT / "tests" / "parity" / "golden" / "tiny"
DOCS = (ROOT / "docs" / "mlx.md").read_text(encoding="utf-8")
WEIGHTS = Path("weights", "mlx_diffusion_model.npz")
STATE = WEIGHTS.with_suffix(".state")
_SETTINGS = (
    "model.n_layer=1 model.n_head=2 model.n_embd=16 data.block_size=32 objective.context_len=8 training.compile=false"
    " training.val_windows=2 training.val_draws=1 model.generation_num_steps=2 training.log_every_n_steps=1"
)
SMALL = _SETTINGS.split()
FLAGS = ["--data", "fox.txt", "--batch-size", "4", "--eval-interval", "2", "--learning-rate", "0.01"]


@pytest.fixture
def port(tzd: Run, tmp_path: Path) -> Run:
    """Either command in this process, in a folder that holds a text."""
    (tmp_path / "fox.txt").write_text(TEXT)
    return tzd


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the training command, as a script, has made four steps."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "fox.txt").write_text(TEXT)
    result = script("mlx_training.py", *FLAGS, "--max-iters", "4", *SMALL, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"weights: {WEIGHTS}\nstate:   {STATE}\n"
    return folder


@pytest.fixture
def copy(finished: Path, port: Run, tmp_path: Path) -> Path:
    """That folder to change; the working directory is there."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def script(name: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / name), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def training(port: Run, *arguments: object) -> subprocess.CompletedProcess[str]:
    return port("mlx_training.py", *FLAGS, *arguments, *SMALL)


def sampling(port: Run, *arguments: object) -> subprocess.CompletedProcess[str]:
    return port("mlx_sample.py", "--data", "fox.txt", "--steps", "2", *arguments)


def arrays(folder: Path, name: Path = WEIGHTS) -> dict[str, np.ndarray]:
    with np.load(folder / name, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def steps(folder: Path) -> list[int]:
    """Of training and validation; every run that ends has a test of its own."""
    with (folder / STATE / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if not row["test_nats_per_token"]]


def refused(result: subprocess.CompletedProcess[str], message: str) -> None:
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert result.stderr.startswith("tzd: ")
    assert message in result.stderr


# --- training ---------------------------------------------------------------------------------------------------


def test_the_weights_are_the_ports_file_with_our_configuration_beside_it(finished: Path):
    found = arrays(finished)
    assert found["token_emb.weight"].shape == (128, 16)
    assert found["blocks.0.attn.c_q.weight"].shape == (16, 16)
    assert found["cos"].shape == (1, 64, 1, 4)
    config = json.loads((finished / WEIGHTS.with_suffix(".json")).read_text())
    assert config["provenance"]["step"] == 4
    assert config["diffusion"]["context_len"] == 8
    assert steps(finished)[-1] == 4


def test_a_resumed_run_ends_with_the_weights_of_one_that_never_stopped(finished: Path, port: Run, tmp_path: Path):
    assert training(port, "--max-iters", "2").returncode == 0
    before = arrays(tmp_path)
    assert training(port, "--max-iters", "4", "--resume").returncode == 0
    ours, theirs = arrays(tmp_path), arrays(finished)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    assert any(ours[name].tobytes() != before[name].tobytes() for name in ours)
    assert steps(tmp_path) == steps(finished)


def test_a_run_whose_file_of_weights_was_lost_goes_on_from_its_state(copy: Path, port: Run, finished: Path):
    (copy / WEIGHTS).unlink()
    refused(training(port, "--max-iters", "6"), "holds a run: give --resume to go on with it")
    assert training(port, "--max-iters", "6", "--resume").returncode == 0
    assert (copy / WEIGHTS).is_file()


def test_weights_without_a_state_begin_a_run_at_the_given_step(copy: Path, port: Run):
    shutil.rmtree(copy / STATE)
    result = training(port, "--max-iters", "6", "--resume", "--resume-step", "4", "model.n_embd=32")
    assert result.returncode == 0, result.stderr
    assert min(steps(copy)) == 4 and max(steps(copy)) == 6
    assert arrays(copy)["token_emb.weight"].shape == (128, 16)  # the architecture is that of the weights


def test_a_run_begun_with_weights_can_be_resumed(copy: Path, port: Run, tmp_path: Path):
    shutil.rmtree(copy / STATE)
    first = ["--resume", "--resume-step", "4"]
    shutil.copytree(copy, tmp_path / "straight")
    assert training(port, "--max-iters", "6", *first).returncode == 0
    result = training(port, "--max-iters", "8", "--resume")
    assert result.returncode == 0, result.stderr
    os.chdir(tmp_path / "straight")
    assert training(port, "--max-iters", "8", *first).returncode == 0
    ours, theirs = arrays(copy), arrays(tmp_path / "straight")
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_the_ports_own_weights_can_be_trained_further(port: Run, tmp_path: Path):
    for name in ("mlx_diffusion_model.npz", "config.json"):
        (tmp_path / "weights").mkdir(exist_ok=True)
        shutil.copy(PORT / name, tmp_path / "weights" / name)
    before = arrays(tmp_path)
    result = training(port, "--max-iters", "2", "--resume")
    assert result.returncode == 0, result.stderr
    after = arrays(tmp_path)
    assert {name: value.shape for name, value in after.items()} == {n: value.shape for n, value in before.items()}
    assert any(before[name].tobytes() != after[name].tobytes() for name in before)
    for name in ("cos", "sin"):
        np.testing.assert_array_equal(before[name], after[name], err_msg="tables are no parameters")


def test_the_defaults_are_the_ports(port: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    runs: list[RunConfig] = []
    monkeypatch.setattr(package, "train", runs.append, raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny_shakespeare.txt").write_text(TEXT)
    assert port("mlx_training.py").returncode == 0
    (run,) = runs
    assert (run.data.batch_size, run.data.block_size, run.objective.context_len) == (64, 256, 64)
    assert (run.model.n_layer, run.model.n_head, run.model.n_embd) == (10, 12, 768)
    assert (run.engine.name, run.tokenizer.name, run.model.lr) == ("mlx", "ascii", 3e-4)
    training = run.training
    assert (training.max_steps, training.eval_interval, training.weight_decay) == (20000, 500, 0.01)
    assert (training.optimizer, training.lr_schedule) == ("adamw", "constant")
    assert (training.export_to, training.run_folder, run.run_name) == (str(WEIGHTS), str(STATE), STATE.name)
    # it is not the published text that lies there, so it is a text like any other
    assert (run.data.name, run.data.path) == ("text", str(Path("data", "tiny_shakespeare.txt")))


def test_the_default_text_is_looked_up(
    port: Run, monkeypatch: pytest.MonkeyPatch, tiny_shakespeare: Path, tmp_path: Path
):
    runs: list[RunConfig] = []
    monkeypatch.setattr(package, "train", runs.append, raising=False)
    monkeypatch.setenv("TZD_DATA_DIR", str(tiny_shakespeare.parent))
    assert port("mlx_training.py").returncode == 0
    assert (runs[0].data.name, runs[0].data.path) == ("shakespeare", str(tiny_shakespeare))


def test_a_run_that_was_interrupted_says_how_this_command_goes_on(port: Run, monkeypatch: pytest.MonkeyPatch):
    def train(config: RunConfig) -> None:
        raise InterruptedRunError(f"stopped; repeat the command with training.resume={STATE}", 2)

    monkeypatch.setattr(package, "train", train, raising=False)
    result = training(port)
    assert (result.returncode, result.stderr) == (130, "tzd: stopped; repeat the command with --resume\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data no.txt", "no such file or folder: no.txt"),
        ("--data ''", "--data names nothing: give it a file"),
        ("--weights .npz", "--weights .npz is an ending without a name"),
        ("--weights /dev/null/x/b.npz", "/dev/null"),
        ("--weights y.npz --state-path y.json", "--state-path y.json must name a folder of its own, beside y.npz"),
        ("--weights z.npz --state-path z.npz/state", "--state-path z.npz/state must name a folder of its own"),
        ("--weights y.npz --state-path y.json/state", "--state-path y.json/state must name a folder of its own"),
        ("--data .", ". is a folder; --data takes a file"),
        ("--data short.txt", "the text has 27 tokens, fewer than one window of 32"),
        ("--data empty.txt", "is empty"),
        ("--data latin.txt", "latin.txt is not UTF-8"),
        ("--data cafe.txt", "character 'é' (U+00E9) at offset 3 (line 1, column 4)"),
        ("--batch-size 0", "--batch-size must be at least 1, not 0"),
        ("--batch-size some", "argument --batch-size: invalid int value: 'some'"),
        ("--max-iters 0", "--max-iters must be at least 1, not 0"),
        ("--eval-interval -5", "--eval-interval must be at least 1, not -5"),
        ("--learning-rate 0", "--learning-rate must be positive, not 0.0"),
        ("--learning-rate nan", "--learning-rate must be a finite number, not nan"),
        ("--weight-decay -1", "--weight-decay must not be negative, not -1.0"),
        ("--weights model.pt", "--weights model.pt: only .npz can be written; give a name that ends in it"),
        ("--weights model", "--weights model: only .npz can be written"),
        ("--weights folder.npz", "--weights folder.npz is a folder"),
        ("--weights fox.txt/model.npz", "fox.txt"),
        ("--state-path fox.txt", "--state-path fox.txt: the state is a folder here"),
        ("--state-path w.state.pkl", "--state-path w.state.pkl: the state is a folder here, no pickle is read"),
        ("--state-path .", "--state-path . must name a folder of its own"),
        ("--state-path full", "full is not empty and holds no run to go on with"),
        ("--resume", f"there are no weights at {WEIGHTS} to go on with: leave out --resume"),
        ("--resume-step 5", "--resume-step goes with --resume"),
        ("--maxiters 5", "mlx_training.py has no argument '--maxiters' (did you mean '--max-iters'?)"),
        ("training.max_steps=5", "training.max_steps=5 is not taken here: give --max-iters"),
        ("data=pydocs", "data=pydocs is not taken here: give --data"),
        ("model=tinny", "unknown model=tinny"),
        ("model.n_layr=3", "unknown setting 'model.n_layr' (did you mean 'n_layer'?)"),
        ("tokenizer=char", "a 'char' tokenizer needs a file of its own"),
    ],
)
def test_what_training_cannot_use_is_one_line_and_leaves_nothing(
    arguments: str, message: str, port: Run, tmp_path: Path
):
    (tmp_path / "short.txt").write_text("x" * 31)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    (tmp_path / "cafe.txt").write_text("café " * 100, encoding="utf-8")
    for folder in ("folder.npz", "full"):
        (tmp_path / folder).mkdir()
    (tmp_path / "full" / "note").touch()
    before = sorted(tmp_path.rglob("*"))
    words = shlex.split(arguments)
    refused(port("mlx_training.py", *FLAGS, "--max-iters", "2", *SMALL, *words), message)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", f"{WEIGHTS} exists: give --resume to go on with it, or name another file with --weights"),
        ("--weights other.npz --state-path weights/mlx_diffusion_model.state", "holds a run: give --resume"),
        ("--resume --max-iters 4", f"{STATE} is at step 4 of 4: raise --max-iters to go on"),
        ("--resume --resume-step 3", f"--resume-step=3, but {STATE} is at step 4: leave it out"),
        ("--resume model.n_embd=32", "was trained with model n_embd=16, not 32"),
        ("--resume seed=7", "was trained with another seed"),
        ("--resume --data more.txt", "was trained with another corpus_sha256"),
        ("--resume --weights other.npz --state-path new", "there are no weights at other.npz to go on with"),
    ],
)
def test_a_run_that_is_there_is_neither_overwritten_nor_mixed_up(arguments: str, message: str, copy: Path, port: Run):
    (copy / "more.txt").write_text(TEXT * 2)
    before = arrays(copy)
    refused(port("mlx_training.py", *FLAGS, "--max-iters", "6", *SMALL, *shlex.split(arguments)), message)
    assert all(before[name].tobytes() == value.tobytes() for name, value in arrays(copy).items())
    assert (copy / STATE / "last").read_text().startswith("step-00000004 ")
    assert {path.name for path in (copy / "weights").iterdir()} == {WEIGHTS.name, WEIGHTS.stem + ".json", STATE.name}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("-1", "--resume-step must not be negative, not -1"),
        ("6", "--resume-step=6 is not before the last of 6 steps: raise --max-iters\n"),
    ],
)
def test_a_step_that_weights_cannot_be_at_is_one_line(step: str, message: str, copy: Path, port: Run):
    shutil.rmtree(copy / STATE)
    refused(training(port, "--max-iters", "6", "--resume", "--resume-step", step), message)
    assert not (copy / STATE).exists()


def test_a_description_that_lies_where_the_weights_would_get_theirs_is_kept(copy: Path, port: Run):
    shutil.rmtree(copy / STATE)
    (copy / WEIGHTS).unlink()
    refused(training(port, "--max-iters", "6"), f"{WEIGHTS.with_suffix('.json')} exists")


def test_weights_of_another_run_are_not_resumed_with_this_runs_state(copy: Path, port: Run):
    assert training(port, "--max-iters", "2", "--weights", "other.npz", "seed=7").returncode == 0
    for suffix in (".npz", ".json"):
        shutil.copy(copy / f"other{suffix}", copy / WEIGHTS.with_suffix(suffix))
    refused(training(port, "--max-iters", "6", "--resume"), f"{WEIGHTS} is not from the run in {STATE}")


@pytest.mark.parametrize("command", ["mlx_training.py", "mlx_sample.py"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "cut short; get the file again"),
        ("objects", "it holds Python objects, which are never unpickled"),
        ("architecture", "holds no weights of Tiny Diffusion"),
        ("contradicted", "says n_layer=5: one of them is another model's"),
    ],
)
def test_weights_that_cannot_be_used_are_one_line(command: str, damage: str, message: str, copy: Path, port: Run):
    shutil.rmtree(copy / STATE)
    data, beside = (copy / WEIGHTS).read_bytes(), copy / WEIGHTS.with_suffix(".json")
    if damage == "cut":
        (copy / WEIGHTS).write_bytes(data[:-100])
    elif damage == "contradicted":
        said = json.loads(beside.read_text().replace('"n_layer": 1', '"n_layer": 5'))
        beside.write_text(json.dumps({key: value for key, value in said.items() if key != "sha256"}))
    else:
        values: dict[str, Any] = {"x": np.array([print], dtype=object)} if damage == "objects" else {"x": np.ones(3)}
        np.savez(copy / WEIGHTS, **values)
    before = sorted(copy.rglob("*"))
    arguments = [*FLAGS, "--max-iters", "6", "--resume", *SMALL] if command == "mlx_training.py" else []
    refused(port(command, *arguments), message)
    assert sorted(copy.rglob("*")) == before


def test_a_run_goes_into_the_very_folder_that_is_named(port: Run, tmp_path: Path):
    (tmp_path / "runs" / "exp-2" / "step-00000009").mkdir(parents=True)
    result = training(port, "--max-iters", "2", "--state-path", "runs/exp")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "exp" / "last").read_text().startswith("step-00000002 ")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["exp", "exp-2"]


def test_a_second_run_on_the_same_weights_is_told_who_is_at_work(port: Run, tmp_path: Path):
    with RunFolder.at(tmp_path / STATE).lock():
        result = training(port, "--max-iters", "2")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert f"{STATE} is in use by process {os.getpid()}" in result.stderr
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [STATE.name]


def test_a_run_that_another_one_was_quicker_to_start_does_not_overwrite_it(
    port: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    lock = RunFolder.lock

    def late(self: RunFolder) -> Any:
        (self.path / "step-00000002").mkdir()
        self.point("last", 2)
        return lock(self)

    monkeypatch.setattr(RunFolder, "lock", late)
    refused(training(port, "--max-iters", "2"), f"{STATE} holds a run by now")


def test_what_a_run_left_that_ended_before_its_first_checkpoint_is_in_nobodys_way(port: Run, tmp_path: Path):
    (tmp_path / STATE).mkdir(parents=True)
    for name in ("lock", "metrics.csv", "samples.txt", ".metrics.csv.1.tmp"):
        (tmp_path / STATE / name).write_text("left\n")
    result = training(port, "--max-iters", "2")
    assert result.returncode == 0, result.stderr
    assert steps(tmp_path)[0] == 0


@pytest.mark.parametrize(("arguments", "flag"), [("", "--weights"), ("--state-path locked/deep/state", "--state-path")])
def test_a_folder_that_cannot_be_made_is_blamed_on_the_flag_that_was_given(
    arguments: str, flag: str, port: Run, monkeypatch: pytest.MonkeyPatch
):
    def mkdir(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    result = training(port, "--max-iters", "2", "--weights", "locked/b.npz", *shlex.split(arguments))
    refused(result, "cannot hold a run: Permission denied")
    assert result.stderr.startswith(f"tzd: {flag}: locked/")


def test_a_held_out_split_that_is_too_short_is_said_before_anything_is_there(port: Run, tmp_path: Path):
    (tmp_path / "brief.txt").write_text("x" * 160)
    result = training(port, "--max-iters", "2", "--data", "brief.txt")
    refused(result, "the validation split has 8 tokens, and the first 8 of a window are never scored")
    assert "at least 9; use a longer text (--data)" in result.stderr
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("lost", ["weights", "description", "damaged"])
def test_a_whole_state_is_all_that_resuming_needs(lost: str, copy: Path, port: Run):
    if lost == "weights":
        (copy / WEIGHTS).unlink()
    elif lost == "description":
        (copy / WEIGHTS.with_suffix(".json")).unlink()
    else:
        (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-100])
    result = training(port, "--max-iters", "6", "--resume")
    assert result.returncode == 0, result.stderr
    assert json.loads((copy / WEIGHTS.with_suffix(".json")).read_text())["provenance"]["step"] == 6


def test_a_run_begun_with_weights_goes_on_without_them(copy: Path, port: Run):
    shutil.rmtree(copy / STATE)
    begun = ["--resume", "--weights", "other.npz", "--max-iters"]
    for suffix in (".npz", ".json"):
        shutil.copy(copy / WEIGHTS.with_suffix(suffix), copy / f"other{suffix}")
    assert training(port, *begun, "2", "model.n_embd=32").returncode == 0
    for suffix in (".npz", ".json"):
        (copy / f"other{suffix}").unlink()
    for steps_in_all in ("4", "6"):
        result = training(port, *begun, steps_in_all, "model.n_embd=32")
        assert result.returncode == 0, result.stderr
    assert arrays(copy, Path("other.npz"))["token_emb.weight"].shape == (128, 16)


def test_resuming_a_finished_run_first_writes_the_weights_that_it_lost(copy: Path, port: Run):
    before = arrays(copy)
    (copy / WEIGHTS).unlink()
    refused(training(port, "--max-iters", "4", "--resume"), f"{STATE} is at step 4 of 4: raise --max-iters")
    after = arrays(copy)
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)


# --- sampling ---------------------------------------------------------------------------------------------------


def test_the_text_is_connected_blocks_after_a_piece_of_the_data(copy: Path, port: Run):
    result = sampling(port, "--num-blocks", "3", "--json")
    assert result.returncode == 0, result.stderr
    out = json.loads(result.stdout.splitlines()[-1])
    (text,) = out["text"]
    assert result.stdout.startswith(text)
    assert text[:8] in TEXT
    assert len(text) == 8 + 3 * (32 - 8)
    assert out["nfe"] == 3 * 2


def test_a_seed_decides_the_text_and_where_it_begins(copy: Path, port: Run):
    texts = [sampling(port, "--num-blocks", "1", "--seed", seed).stdout for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len({text[:8] for text in texts}) == 3


def test_each_of_several_texts_begins_with_a_piece_of_its_own(copy: Path, port: Run):
    result = sampling(port, "--num-blocks", "1", "--batch-size", "3", "--json")
    texts = json.loads(result.stdout.splitlines()[-1])["text"]
    assert len({text[:8] for text in texts}) == 3


def test_a_prompt_takes_the_place_of_the_data(copy: Path, port: Run):
    result = sampling(port, "--num-blocks", "2", "--prompt", "the dog", "--data", "nowhere.txt")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("the dog")
    assert len(result.stdout) == 7 + 2 * (32 - 8) + 1


def test_the_blocks_of_a_model_without_context_are_independent(port: Run, tmp_path: Path):
    result = port("mlx_training.py", *FLAGS, "--max-iters", "2", *SMALL, "objective.context_len=0")
    assert result.returncode == 0, result.stderr
    result = sampling(port, "--num-blocks", "3", "--data", "nowhere.txt", "--json")
    assert [len(text) for text in json.loads(result.stdout.splitlines()[-1])["text"]] == [32, 32, 32]
    result = sampling(port, "--num-blocks", "2", "--prompt", "the dog", "--json")
    texts = json.loads(result.stdout.splitlines()[-1])["text"]
    assert [text[:7] for text in texts] == ["the dog"] * 2 and [len(text) for text in texts] == [32, 32]
    refused(sampling(port, "--prompt", "x" * 32), "--prompt leaves nothing to write in the model's window of 32 tokens")


def test_either_engine_samples_what_the_other_trained(copy: Path, port: Run):
    assert len(sampling(port, "--num-blocks", "1", "--engine", "torch").stdout) == 33


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--weights none.npz", "there is no checkpoint at none.npz"),
        ("--data none.txt", "no such file or folder: none.txt"),
        ("--data short.txt", "short.txt has 5 tokens, fewer than the model's context of 8"),
        ("--data cafe.txt", "cafe.txt: character 'é' (U+00E9) at offset 3 (line 1, column 4)"),
        ("--num-blocks 0", "--num-blocks must be at least 1, not 0"),
        ("--num-blocks many", "argument --num-blocks: invalid int value: 'many'"),
        ("--batch-size 0", "--batch-size must be at least 1, not 0"),
        ("--temperature -1", "temperature must be 0 (the likeliest token) or lie in"),
        ("--steps 0", "steps must be at least 1, not 0"),
        ("--seed -1", "seed must be at least 0, not -1"),
        ("--sampler renoice", "unknown sampler 'renoice' (did you mean 'renoise'?)"),
        ("--prompt é", "character 'é' (U+00E9) at offset 0"),
        ("--engine jax", "unknown engine 'jax'"),
        ("--numblocks 3", "mlx_sample.py has no argument '--numblocks' (did you mean '--num-blocks'?)"),
    ],
)
def test_what_sampling_cannot_use_is_one_line(arguments: str, message: str, copy: Path, port: Run):
    (copy / "short.txt").write_text("short")
    (copy / "cafe.txt").write_text("café " * 100, encoding="utf-8")
    refused(sampling(port, *shlex.split(arguments)), message)


# --- the module, and the page -----------------------------------------------------------------------------------


def test_the_ports_module_can_be_imported_under_its_names():
    import mlx.core as mx
    from mlx_model import DiffusionConfig, DiffusionTransformer, decode_tokens, encode_text

    config = DiffusionConfig()
    sizes = (config.block_size, config.vocab_size, config.mask_id, config.n_layer, config.n_head, config.n_embd)
    assert (*sizes, config.time_steps) == (256, 128, 0, 10, 12, 768, 128)
    network = DiffusionTransformer(DiffusionConfig(n_layer=1, n_head=2, n_embd=16))
    tokens = encode_text("To be")
    assert network(mx.array(tokens[None]), mx.array([3])).shape == (1, 5, 128)
    assert decode_tokens(mx.array(tokens)) == "To be"
    with pytest.raises(CorpusError, match="'é'"):
        encode_text("café")


def test_the_scripts_explain_themselves_with_their_defaults(tmp_path: Path):
    explained = (
        script("mlx_training.py", "--help", cwd=tmp_path).stdout
        + script("mlx_sample.py", "--help", cwd=tmp_path).stdout
    )
    for default in ("20000", "64", "500", "0.0003", "0.01", str(WEIGHTS), "renoise", "128"):
        assert default in explained.replace("\n", "")


def test_every_script_of_the_port_has_its_line_in_the_table():
    table = re.findall(r"^\| `([^`]+)`", DOCS, flags=re.MULTILINE)
    scripts = ("mlx_model.py", "mlx_training.py", "mlx_sample.py", "game_of_life_mlx.py")
    legacy = ("model.py", "training.py", "sample.py", "animations/diffusion-process.py", "animations/game-of-life.py")
    assert {*scripts, *(f"legacy/{name}" for name in legacy)} <= set(table)


@pytest.mark.slow
def test_every_command_of_the_page_runs(tmp_path: Path, tiny_shakespeare: Path):
    binaries = Path(sys.executable).parent
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    for name in ("train.py", "mlx_training.py", "mlx_sample.py", "game_of_life_mlx.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    lines = [line for block in re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL) for line in block.splitlines()]
    assert len(lines) >= 10
    for line in lines:
        settings, command = re.fullmatch(r"((?:\w+=\S+ )*)uv run (.*)", line).groups()
        environment = dict(setting.split("=", 1) for setting in settings.split())
        environment |= {"PATH": path, "TZD_DATA_DIR": str(tiny_shakespeare.parent), "OMP_NUM_THREADS": "1"}
        words = shortened(shlex.split(command, comments=True))
        words = ["python", *words] if words[0].endswith(".py") else words
        result = subprocess.run(
            words, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{line}: {result.stderr}"
        assert result.stdout.strip(), line


def shortened(words: list[str]) -> list[str]:
    """The same command, but of a few steps, on a small model."""
    small = "model.n_layer=1 model.n_embd=32 data.batch_size=2 training.val_windows=2 model.generation_num_steps=2"
    if words[0] == "mlx_training.py":
        steps = {"20000": "2", "30000": "4"}
        return [*(steps.get(word, word) for word in words), *SMALL]
    if words[0] == "mlx_sample.py":
        return [*words, "--steps", "2"]
    if words[0] == "game_of_life_mlx.py":
        return [*(word.replace("200", "1") for word in words), "--size", "8"]
    if "train" in words or "train.py" in words:
        return [*words, "training.max_steps=2", *small.split()]
    return words
