"""Commands that are given no checkpoint: a model that comes with tzd writes, in any folder, without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running import Run

import tzd as package
from tzd.checkpoint import shipped as finding
from tzd.checkpoint import write_checkpoint
from tzd.checkpoint.shipped import default_model, shipped
from tzd.errors import CheckpointError

ROOT = Path(__file__).parents[2]
SMALL = "shakespeare-small"
SONNET = """Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date;
"""
# Runs commands one after the other in a process that can reach nothing, each with its exit code and output.
ALONE = """
import contextlib, io, json, socket, sys
def refuse(*_): raise OSError("there is no network here")
socket.socket.connect = socket.getaddrinfo = refuse
from tzd.cli import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def alone(folder: Path, *commands: str, **environment: str) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of commands in another process, in a folder that is not the repository."""
    words = json.dumps([command.split("|") for command in commands])
    nowhere = {name: str(folder) for name in ("HOME", "XDG_CACHE_HOME", "TZD_DATA_DIR")}
    result = subprocess.run(
        [sys.executable, "-c", ALONE, words],
        cwd=folder,
        env={"PATH": "", "OMP_NUM_THREADS": "1", **nowhere, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return [tuple(json.loads(line)) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command writes that writes, on PyTorch, by its name."""
    commands = {
        "sample": "sample|--length|60|--steps|4|--precision|32",
        "named": f"sample|{SMALL}|--length|60|--steps|4|--precision|32",
        "watch": "watch|--length|60|--steps|4|--precision|32",
        "infill": "infill|To be, or ____ to be|--steps|2",
        "compare": "compare|--samplers|llada:steps=2,ancestral:steps=2|--length|20",
        "life": "life|--iterations|1|--size|8|--steps|2",
        "eval": "eval|--data|sonnet.txt|--draws|4|--json",
        "models": "models|--json",
    }
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "sonnet.txt").write_text(SONNET)
    results = alone(folder, *commands.values())
    assert [result[0] for result in results] == [0] * len(commands), results
    return {name: out for name, (_, out, _) in zip(commands, results, strict=True)}


def test_a_model_comes_with_tzd():
    assert next(iter(shipped())) == default_model().name
    assert default_model() == ROOT / "weights" / default_model().name
    assert SMALL in shipped()


def test_every_shipped_model_is_small_enough_and_has_a_card():
    for folder in shipped().values():
        assert sum(file.stat().st_size for file in folder.iterdir()) < 24e6
        assert not list(folder.glob("training_state*"))
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert card.startswith("---\n") and "license: mit" in card


def test_a_shipped_model_writes_where_no_checkpoint_is_named(written: dict[str, str]):
    assert len(written["sample"]) == 61 and written["sample"] == written["watch"]


def test_the_name_is_that_of_the_model(written: dict[str, str]):
    assert json.loads(written["models"]).keys() == shipped().keys()
    if default_model().name == SMALL:
        assert written["named"] == written["sample"]


def test_a_single_argument_of_infill_is_the_text(written: dict[str, str]):
    text = written["infill"].removesuffix("\n")
    assert (text[:10], text[14:], "_" in text) == ("To be, or ", " to be", False)


def test_samplers_are_compared_and_life_is_played_without_a_checkpoint(written: dict[str, str]):
    assert written["compare"].count("NFE 2") == 2
    assert len(written["life"].splitlines()) == 8


def test_a_shipped_model_knows_shakespeare(written: dict[str, str]):
    bound = json.loads(written["eval"].splitlines()[-1])
    assert bound["nats_per_token"] < 2.5  # the uniform distribution has log 65 = 4.17


def test_mlx_writes_what_pytorch_writes(written: dict[str, str], tmp_path: Path):
    pytest.importorskip("mlx.core")
    command = "sample|--length|60|--steps|4|--precision|32|--engine|mlx"
    assert alone(tmp_path, command) == [(0, written["sample"], "")]


def test_python_loads_a_model_by_no_name_and_by_its_name():
    assert package.load().provenance == package.load(default_model()).provenance
    assert package.load(SMALL).provenance == package.load(ROOT / "weights" / SMALL).provenance


def test_a_page_is_served_without_a_checkpoint(tzd: Run, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("gradio")
    monkeypatch.setattr("tzd.web.server.application", lambda model, name, *_, **__: (model.provenance["corpus"], name))
    monkeypatch.setattr("tzd.web.server.serve", lambda app, taken: print(app))
    assert tzd("serve", "--port", 0).stdout.endswith(f"{('shakespeare', default_model().name)}\n")


def test_a_path_that_exists_wins_over_a_name(trained: Path, tzd: Run, tmp_path: Path):
    shutil.copytree(trained, tmp_path / SMALL)
    given = ["--length", 20, "--steps", 2]
    assert tzd("sample", SMALL, *given).stdout == tzd("sample", trained, *given).stdout
    assert tzd("sample", *given).stdout != tzd("sample", trained, *given).stdout  # not named: not the folder


def test_a_text_is_asked_for_where_infill_gets_a_model_alone(tzd: Run, trained: Path):
    for model in (SMALL, trained):
        result = tzd("infill", model)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == (
            f"tzd: {model} is a model, and no text says what is to be filled in: tzd infill {model} TEXT\n"
        )


def test_a_text_longer_than_a_path_can_be_is_a_text(tzd: Run):
    text = "a" * 5000
    result = tzd("infill", f"_{text}", "--steps", 1)
    assert (result.returncode, result.stdout[1:]) == (0, f"{text}\n")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("shakespeare-smal", ", nor a model of tzd's own of that name (did you mean 'shakespeare-small'?)"),
        ("runs/nothing", ""),
        (f"./{SMALL}", ""),  # a path: the model of that name is not meant
    ],
)
def test_a_name_that_is_none_is_told_the_nearest(given: str, message: str, tzd: Run):
    result = tzd("sample", given)
    assert result.returncode == 2
    assert result.stderr == f"tzd: there is no checkpoint at {Path(given)}: no such file or folder{message}\n"


def test_a_copy_without_models_says_so_in_one_line(tzd: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(finding, "_FOLDERS", ())
    for command in (["sample"], ["watch"], ["infill", "a_"], ["compare"], ["demo"]):
        result = tzd(*command)
        assert result.returncode == 2
        assert result.stderr == "tzd: this copy of tzd comes without a model: name a checkpoint\n"
    with pytest.raises(CheckpointError, match="comes without a model"):
        package.load()


@pytest.mark.parametrize(
    "said", [{}, {"corpus": "mine", "validation": {"nats_per_token": None}}], ids=["none", "bound"]
)
def test_a_model_that_does_not_say_how_good_it_is_is_listed_too(
    said: dict, tzd: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(finding, "_FOLDERS", (tmp_path / "weights",))
    folder = write_checkpoint(tmp_path / "weights" / "a", config={"provenance": said}, weights={"w": np.zeros(25_000)})
    result = tzd("models")
    assert (result.returncode, result.stdout) == (
        0,
        "a (where no other is named)\n"
        f"  learnt {said.get('corpus', 'what it does not say')}: not validated\n"
        f"  0.1 MB in {folder}\n",
    )
    (told,) = json.loads(tzd("models", "--json").stdout).values()
    assert (told["corpus"], told["nats_per_token"]) == (said.get("corpus"), None)


def test_training_begins_with_weights_stored_in_eight_bits(tzd: Run, trained: Path):
    assert tzd("convert", trained, "small", "--dtype", "int8").returncode == 0
    settings = "data=text model.n_layer=1 model.n_head=2 model.n_embd=16 data.block_size=32 data.batch_size=4"
    budget = "training.max_steps=1 training.val_windows=2 training.compile=false training.test=false sampler.steps=4"
    text = trained.parents[1] / "fox.txt"
    result = tzd("train", *settings.split(), *budget.split(), f"data.path={text}", "training.init_from=small")
    assert result.returncode == 0, result.stderr
    assert "best checkpoint: " in result.stdout


def test_an_installed_package_finds_the_models_inside_it(tmp_path: Path):
    installed = tmp_path / "site" / "tzd"
    installed.mkdir(parents=True)
    for path in (*(ROOT / "src" / "tzd").iterdir(), ROOT / "weights"):
        (installed / path.name).symlink_to(path)
    ((code, out, _),) = alone(tmp_path, "models|--json", PYTHONPATH=str(installed.parent))
    folders = [model["folder"] for model in json.loads(out).values()]
    assert code == 0 and folders == [str(installed / "weights" / name) for name in shipped()]


@pytest.mark.slow
def test_a_wheel_holds_the_models(tmp_path: Path):
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("building a wheel needs uv")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    ((code, out, _),) = alone(tmp_path, "sample|--length|20|--steps|2", PYTHONPATH=str(tmp_path / "site"))
    assert code == 0 and len(out) == 21
    assert sorted(p.name for p in (tmp_path / "site/tzd/weights").iterdir()) == sorted(shipped())
