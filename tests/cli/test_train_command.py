from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tzd.cli import main
from tzd.config import RunConfig
from tzd.config.smdm import SIZES
from tzd.configs import GROUPS, as_yaml, compose, options, sweep
from tzd.errors import ConfigError
from tzd.mapping import to_mapping
from tzd.sampling import DEFAULT, settings_of

ROOT = Path(__file__).parent.parent.parent
CHOICES = [
    (group, name)
    for group, names in options(folders=()).items()
    for name in names
    if group != "model" or name not in (*SIZES,)[1:-1]  # generated alike, each checked with the network
]


@functools.cache
def preset(group: str, name: str) -> RunConfig:
    return compose([f"{group}={name}"], folders=())


@dataclasses.dataclass
class Said:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def tzd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command in an empty folder, in this process, which has imported all that it needs."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: Said(main([*arguments]), *capsys.readouterr())


def keys(tree: Any, prefix: str = "") -> set[str]:
    """Dotted names of the leaves."""
    if not isinstance(tree, dict):
        return {prefix}
    return set().union(*(keys(value, f"{prefix}.{key}".lstrip(".")) for key, value in tree.items()))


def composed(*overrides: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.create(as_yaml(overrides, folders=())), resolve=True)  # type: ignore


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_preset_composes_into_a_run(group: str, name: str):
    config = preset(group, name)
    assert isinstance(config, RunConfig)
    if group == "sampler":
        assert config.sampler == {"name": name, **settings_of(name)}
    elif group in ("data", "tokenizer", "objective", "engine", "model"):
        hub = {"llama": "hf", "qwen2.5": "hf"}  # presets of one tokenizer
        assert getattr(config, group).name == hub.get(name, name)


def test_the_configuration_holds_every_setting_and_no_other():
    ours, theirs = keys(composed()), keys(to_mapping(RunConfig()))
    sampler = {f"sampler.{key}" for key in ("name", *settings_of(DEFAULT))}
    assert ours == theirs - {"sampler.name"} | sampler


def test_a_preset_changes_nothing_but_what_it_names():
    defaults = to_mapping(RunConfig())
    changed = {group: set() for group in GROUPS}
    for group, name in CHOICES:
        if group in GROUPS:
            values = to_mapping(getattr(preset(group, name), group))
            changed[group] |= {key for key, value in values.items() if value != defaults[group][key]}
    assert changed == {
        "model": {
            "name",
            "model_type",
            "n_layer",
            "n_head",
            "n_embd",
            "intermediate_size",
            "rope_base",
            "value_residual",
        },
        "data": {"name"},
        "tokenizer": {"name", "vocab_size", "pretrained_model_name_or_path"},
        "objective": {"name"},
        "training": {"epochs", "lr_schedule", "val_check_interval"},
        "engine": {"name"},
        "logger": {"kind"},
    }


@pytest.mark.parametrize(
    ("preset", "shape", "millions"),
    [
        ("diffusion", (12, 8, 512), 37.8),
        ("tiny", (6, 6, 384), 10.7),
        ("tiny_mlx", (10, 12, 768), 70.9),
        ("small", (6, 3, 192), 2.7),
        ("tiny_cpu", (4, 4, 128), 0.8),
    ],
)
def test_the_models_have_their_published_sizes(preset: str, shape: tuple[int, int, int], millions: float):
    model = compose([f"model={preset}"], folders=()).model
    assert (model.n_layer, model.n_head, model.n_embd) == shape
    blocks = model.n_layer * (4 * model.n_embd**2 + 2 * model.n_embd * 4 * model.n_embd)
    assert blocks / 1e6 == pytest.approx(millions, rel=0.02)


def test_the_window_is_set_by_one_key():
    config = compose(["data.block_size=64"], folders=())
    assert (config.data.block_size, config.model.block_size) == (64, 64)
    config = compose(["data.block_size=64", "model.block_size=128"], folders=())
    assert (config.data.block_size, config.model.block_size) == (64, 128)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.n_layr=6", "unknown setting 'model.n_layr' (did you mean 'n_layer'?)"),
        ("+model.n_layr=6", "unknown setting 'model.n_layr' (did you mean 'n_layer'?)"),
        ("modle=tiny", "unknown setting 'modle' (did you mean 'model'?)"),
        ("seeed=1", "unknown setting 'seeed' (did you mean 'seed'?)"),
        ("a.b.c=1", "unknown setting 'a.b.c' (tzd train --cfg job shows all)"),
        ("sampler.stpes=6", "unknown setting 'sampler.stpes' (did you mean 'steps'?)"),
        ("+sampler.k=6", "sampler 'dilated' has no setting 'k'"),
        ("~sampler.name", "unknown sampler 'None' (known: ancestral"),
        ("sampler.steps=0", "steps must be at least 1, not 0"),
        ("model=tinny", "unknown model=tinny (did you mean 'tiny'?)"),
        ("logger=[tensorboard,wandb]", "logger=[tensorboard,wandb]: logger takes one preset; for several loggers set"),
        ("model={a:1}", "'model' cannot be given like this: choose a preset of it or set one of its settings"),
        ("model.n_layer=six", "model.n_layer cannot be 'six'; it takes a whole number"),
        ("model.n_head=5", "model.n_head=5 does not divide model.n_embd=512"),
        ("seed=-1", "seed must not be negative, not -1"),
        ("model.n_layer", "cannot read 'model.n_layer': a setting is KEY=VALUE"),
        ("data.path=a=b", "cannot read 'data.path=a=b': a setting is KEY=VALUE"),
        ("data.path=${", "cannot read 'data.path=${': a setting is KEY=VALUE"),
        ("=3", "these settings cannot be composed"),
        ("data.path=???", "data.path: Missing mandatory value"),
        ("data.path=${no.such}", "data.path: Interpolation key 'no.such' not found"),
        ("data.path=${oc.env:TZD_NO_SUCH}", "data.path: KeyError raised while resolving interpolation"),
        (
            "data.path=${oc.eval:1+x}",
            "data.path: ConfigError raised while resolving interpolation: cannot compute '1+x'",
        ),
        ("model=tiny,small", "Ambiguous value for argument 'model=tiny,small'"),
    ],
)
def test_an_override_that_cannot_be_used_is_one_line(
    override: str, message: str, tzd: Callable[..., Said], tmp_path: Path
):
    result = tzd("train", override)
    assert result.returncode == 2
    assert result.stderr.startswith(f"tzd: {message}")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-name", "nope"], "there is no configuration 'nope' (--config-name)"),
        (["--config-dir", "nowhere"], "nowhere is no folder (--config-dir, --config-path)"),
        (["--cfg", "jbo"], "argument --cfg: invalid choice: 'jbo'"),
        (["model=broken"], "configs/model/broken.yaml, line 2:"),
        (["model=listed"], ""),
        (["model=latin"], ""),
    ],
)
def test_a_configuration_that_cannot_be_read_is_one_line(
    arguments: list[str], message: str, tzd: Callable[..., Said], tmp_path: Path
):
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "broken.yaml").write_text("a: 1\n b: : 2\n")
    (tmp_path / "configs" / "model" / "listed.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "configs" / "model" / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    result = tzd("train", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("tzd: ") and message in result.stderr
    assert result.stderr.count("\n") == 1


def test_cfg_shows_the_configuration_and_trains_nothing(tzd: Callable[..., Said], tmp_path: Path):
    shown = OmegaConf.create(tzd("train", "model.n_layer=3", "--cfg", "job", "data=pydocs").stdout)
    assert shown.model.n_layer == 3
    assert shown.data.name == "pydocs"
    assert list(tmp_path.iterdir()) == []


def test_a_configs_folder_in_the_working_directory_comes_first(tzd: Callable[..., Said], tmp_path: Path):
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "tiny.yaml").write_text("defaults: [base, _self_]\nn_layer: 2\n")
    (tmp_path / "configs" / "mine.yaml").write_text("defaults: [config, _self_]\nseed: 7\n")
    shown = OmegaConf.create(tzd("train", "model=tiny", "--config-name", "mine", "--cfg", "job").stdout)
    assert (shown.model.n_layer, shown.seed, shown.data.name) == (2, 7, "shakespeare")
    assert compose(["model=tiny"], folders=()).model.n_layer == 6


def test_config_path_replaces_configs_and_config_dir_precedes_it(tzd: Callable[..., Said], tmp_path: Path):
    for folder, layers in (("configs", 2), ("path", 3), ("dir", 4)):
        (tmp_path / folder / "model").mkdir(parents=True)
        (tmp_path / folder / "model" / "mine.yaml").write_text(f"defaults: [base]\nn_layer: {layers}\n")

    def layers_with(*arguments: str) -> int:
        return OmegaConf.create(tzd("train", "model=mine", *arguments, "--cfg", "job").stdout).model.n_layer

    assert layers_with() == 2
    assert layers_with("--config-path", "path") == 3
    assert layers_with("--config-path", "path", "--config-dir", "dir") == 4


def test_a_preset_of_ones_own_may_set_the_window(tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "wide.yaml").write_text("defaults: [base, _self_]\nblock_size: 512\n")
    assert compose(["model=wide"], folders=(tmp_path,)).model.block_size == 512


def test_a_sweep_runs_every_combination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    runs: list[RunConfig] = []
    sweep(["model=tiny,small", "seed=1,2", "training.save_dir=out"], runs.append)
    assert [(run.model.name, run.seed) for run in runs] == [("tiny", 1), ("tiny", 2), ("small", 1), ("small", 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_sweep_with_a_wrong_value_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"unknown model=tinny"):
        sweep(["model=tiny,tinny"], lambda config: None)
    with pytest.raises(ConfigError, match=r"model\.n_head=5 does not divide"):
        sweep(["model.n_head=4,5"], lambda config: None)


def test_composing_leaves_another_applications_hydra_alone():
    from hydra import compose as theirs
    from hydra import initialize_config_module

    with initialize_config_module("hydra.conf", version_base="1.3"):
        assert compose(["seed=3"], folders=()).seed == 3
        assert theirs(overrides=["+a=1"]).a == 1


@pytest.mark.parametrize("command", [[sys.executable, "train.py"], ["bash", "train_diffusion.sh"]])
def test_the_scripts_are_the_command(command: list[str], tmp_path: Path):
    command = [command[0], str(ROOT / command[1])]
    result = subprocess.run(
        [*command, "training.epochs=50", "model.n_embd=256", "--cfg", "job"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    shown = OmegaConf.create(result.stdout)
    assert (shown.training.epochs, shown.model.n_embd, shown.model.name) == (50, 256, "diffusion")


def test_a_bare_run_is_tzds_own():
    config = compose(folders=())
    assert (config.model.n_layer, config.model.n_head, config.model.n_embd) == (12, 8, 512)
    assert (config.model.model_type, config.tokenizer.name, config.logger.kind) == ("tiny", "char", "csv")
    assert config.sampler["name"] == DEFAULT
    assert dataclasses.replace(config, model=RunConfig().model, sampler={"name": DEFAULT}) == RunConfig()
