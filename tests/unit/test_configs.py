from __future__ import annotations

import ast
import dataclasses
import importlib
import os
import pickle
import re
import sys
import time
import typing
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import MissingConfigException
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from tzd.config import MODEL_CONFIGS, RunConfig
from tzd.config.smdm import SIZES
from tzd.configs import compose, options, sweep
from tzd.configs.arithmetic import calculate
from tzd.configs.messages import one_line
from tzd.corpus import make_tokenizer, open_corpus
from tzd.diffusion.objective import Objective
from tzd.engines.torch.shapes import parameter_shapes
from tzd.errors import ConfigError, InterruptedRunError, MissingExtraError, TzdError
from tzd.training.data import open_data

ROOT = Path(__file__).parents[2]
MODELS = [name for name in options(folders=())["model"] if name not in (*SIZES,)[1:-1]]  # of SMDM's, the ends


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-7 // 2", -4),
        ("7 % 4 - 2 ** 3", -5),
        ("2 ** -1", 0.5),
        ("1e-3 * 2", 0.002),
        ("max(3, 4.5, 1)", 4.5),
        ("int(8 / 3 * 512)", 1365),
        ("round(2.567, 1)", 2.6),
        ("min(2, +1)", 1),
        (5, 5),
        (0.5, 0.5),
    ],
)
def test_a_formula_has_its_value(formula: object, value: float):
    assert calculate(formula) == value
    assert type(calculate(formula)) is type(value)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('true')",
        "().__class__",
        "(1).__class__",
        "open('x')",
        "n_embd * 4",
        "[1, 2]",
        "'a' * 9",
        "b'a' * 9",
        "lambda: 1",
        "1 if 1 else 2",
        "1 < 2",
        "True + 1",
        "not 1",
        "~1",
        "1 << 9",
        "max(*[1, 2])",
        "max(1, key=2)",
        "min()",
        "max",
        "max(1)",
        "int(1, 2)",
        "round(1, 2.5)",
        "round(5, -(9 ** 9))",
        "(x := 3)",
        "f'{1}'",
        "1j",
        "(-8) ** 0.5",
        "9 ** 9 ** 9",
        "(9 ** 99) ** 99",
        "2.0 ** 9999",
        "9" * 400,
        "1e999",
        "1e308 * 10",
        "1e308 * 10 - 1e308 * 10",
        "1 / 0",
        "1 // 0.0",
        "0 ** -1",
        "",
        "1 +",
        "1; 2",
        "1\n2",
        "\0",
        "(" * 250 + "1" + ")" * 249,
        "-" * 499 + "1" + "+",
        "10 ** 300 / 10 ** -300 * 10 ** 300 * 10 ** 300",
        None,
        True,
    ],
)
def test_what_is_no_formula_is_one_line_at_once_and_runs_nothing(formula: object):
    begun = time.perf_counter()
    with pytest.raises(ConfigError) as error:
        calculate(formula)
    assert "\n" not in " ".join(str(error.value).split()) and str(error.value)
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize("name", ["calc", "oc.eval"])
def test_a_configuration_computes_with_other_settings(name: str):
    config = compose(
        [
            "model.n_embd=96",
            "model.n_head=4",
            f"model.intermediate_size='${{{name}:\"int(${{model.n_embd}} * 8/3)\"}}'",
        ],
        folders=(),
    )
    assert config.model.intermediate_size == 256


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_a_network(name: str):
    model = compose([f"model={name}"], folders=()).model
    if model.model_type == "litgpt":
        pytest.importorskip("litgpt")
    architecture = model.architecture(vocab_size=66)
    shapes = parameter_shapes(architecture)
    assert shapes and max(map(len, shapes.values())) >= 2
    assert (architecture.n_layer, architecture.n_embd) == (model.n_layer or 12, model.n_embd or 512)


@pytest.mark.parametrize("name", options(folders=())["tokenizer"])
def test_every_tokenizer_is_made(name: str, tmp_path: Path):
    if name == "corpus":
        pytest.skip("it is that of a folder of shards")
    (tmp_path / "text.txt").write_text("the quick brown fox " * 400)
    overrides = [f"tokenizer={name}", "data=text", f"data.path={tmp_path / 'text.txt'}"]
    if compose(overrides, folders=()).tokenizer.pretrained_model_name_or_path or name == "hf":  # stands in for the hub
        words = Tokenizer(WordLevel({"[UNK]": 0, "the": 1, "quick": 2, "brown": 3, "fox": 4}, unk_token="[UNK]"))
        words.save(str(tmp_path / "tokenizer.json"))
        overrides.append(f"tokenizer.pretrained_model_name_or_path={tmp_path}")
    if name == "bpe":
        overrides.append("tokenizer.vocab_size=260")
    config = compose(overrides, folders=())
    tokenizer = make_tokenizer(config.tokenizer, open_corpus(config.data.name, path=config.data.path))
    assert tokenizer.vocab_size >= 5
    assert len(tokenizer.encode("the fox")) > 0


@pytest.mark.parametrize("name", ["pydocs", "markov", "shakespeare", "text"])
def test_every_corpus_that_is_here_is_opened(name: str, tmp_path: Path, request: pytest.FixtureRequest):
    overrides = [f"data={name}", "data.block_size=64", "tokenizer=byte" if name == "pydocs" else "tokenizer=char"]
    if name == "shakespeare":
        overrides.append(f"data.data_dir={request.getfixturevalue('tiny_shakespeare').parent}")
    if name == "text":
        (tmp_path / "text.txt").write_text("the quick brown fox " * 400)
        overrides.append(f"data.path={tmp_path / 'text.txt'}")
    data = open_data(compose(overrides, folders=()))
    assert data.examples.batch(0, 2).tokens.shape == (2, 64)


@pytest.mark.parametrize("name", ["text8", "pairs", "shards", "stream"])
def test_every_other_corpus_says_what_it_lacks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZD_DATA_DIR", str(tmp_path))
    (tmp_path / "text8").write_bytes(b"not it")
    with pytest.raises(TzdError) as error:
        open_data(compose([f"data={name}"], folders=()))
    assert str(error.value)


def test_every_group_has_been_looked_at():
    assert set(options(folders=())["data"]) == {
        *("pydocs", "markov", "shakespeare", "text"),
        *("text8", "pairs", "shards", "stream"),
    }


@pytest.mark.parametrize("name", options(folders=())["experiment"])
def test_every_experiment_is_a_run(name: str):
    config = compose([f"experiment={name}"], folders=())
    if config.model.model_type == "litgpt":
        pytest.importorskip("litgpt")
    Objective(config.objective)
    assert parameter_shapes(config.model.architecture(vocab_size=66))
    assert config.run_name == name


@pytest.mark.parametrize(("name", "model_type"), [("config", "tiny"), ("smdm", "smdm"), ("litgpt", "litgpt")])
def test_every_primary_configuration_has_its_model_type(name: str, model_type: str):
    assert compose(config_name=name, folders=()).model.model_type == model_type
    changed = compose(["model.n_layer=2", "experiment=demo"], config_name=name, folders=()).model
    assert changed.n_layer == 2


@pytest.mark.parametrize(
    ("settings", "config_name", "model", "epochs"),
    [
        ([], "config", "diffusion", 10),
        (["model=tiny"], "config", "tiny", 10),
        (["data=shakespeare"], "config", "small", 23.25),
        (["experiment=shakespeare"], "config", "tiny", 300),
        (["experiment=shakespeare_cpu"], "config", "medium", 98),
        (["data=shakespeare", "model=tiny"], "config", "tiny", 23.25),
        (["model=diffusion", "training=default", "data=shakespeare"], "config", "diffusion", 10),
        (["training.epochs=3", "model.n_layer=2", "data=shakespeare"], "config", "small", 3),
        (["experiment=tzd"], "config", "diffusion", 10),
        (["experiment=tzd", "data=shakespeare"], "config", "diffusion", 23.25),
        (["data=shakespeare"], "smdm", "smdm", 23.25),
        (["data=shakespeare"], "litgpt", "litgpt", 23.25),
    ],
)
def test_data_shakespeare_chooses_model_and_training_where_nobody_else_does(
    settings: list[str], config_name: str, model: str, epochs: float
):
    config = compose(settings, config_name=config_name, folders=())
    assert (config.data.name, config.model.name, config.training.epochs) == ("shakespeare", model, epochs)


def test_a_training_preset_of_ones_own_counts_for_more_than_that_of_the_data(tmp_path: Path):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "mine.yaml").write_text("defaults: [base, _self_]\nepochs: 2\n")
    assert compose(["data=shakespeare", "training=mine"], folders=(tmp_path,)).training.epochs == 2


def test_what_the_page_says_that_commands_train_is_what_they_train():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `python train\.py ?(.*)` \| `(\w+)` \| ([\d.]+) \|$", page, flags=re.MULTILINE)
    assert len(told) == 5
    for settings, model, epochs in told:
        config = compose(settings.split(), folders=())
        assert (config.model.name, config.training.epochs) == (model, float(epochs))


@pytest.mark.parametrize("preset", ["diffusion", "tiny_cpu", "smdm", "Diff_LLaMA_6M", "litgpt"])
@pytest.mark.parametrize("model_type", ["tiny", "smdm", "litgpt"])
def test_one_key_switches_the_model_type_whatever_the_preset(preset: str, model_type: str):
    model = compose([f"model={preset}", f"model.model_type={model_type}"], folders=()).model
    assert model.architecture(9).model_type == model_type
    assert model.n_layer == compose([f"model={preset}"], folders=()).model.n_layer


def test_what_a_preset_says_for_another_model_type_is_left_out_and_what_a_user_says_is_not(tmp_path: Path):
    (tmp_path / "model").mkdir()
    own = "defaults: [base, _self_]\nmodel_type: smdm\nn_layer: 3\nn_head: 4\nn_embd: 64\nnorm_class_name: LayerNorm\n"
    (tmp_path / "model" / "mine.yaml").write_text(own)
    (tmp_path / "both.yaml").write_text(
        "defaults: [config, {override model: mine}, _self_]\nmodel:\n  model_type: tiny\n"
    )
    folders = (tmp_path,)
    assert compose(["model=mine"], folders=folders).model.norm_class_name == "LayerNorm"
    assert compose(["model=mine", "model.model_type=litgpt"], folders=folders).model.norm_class_name == "LayerNorm"
    for settings in (["model=mine", "model.model_type=tiny"], []):
        config = compose(settings, config_name="config" if settings else "both", folders=folders)
        assert (config.model.model_type, config.model.n_layer, config.model.norm_class_name) == ("tiny", 3, None)
    with pytest.raises(ConfigError, match=r"model\.norm_class_name=RMSNorm: model_type=tiny has no such setting"):
        compose(["model=mine", "model.model_type=tiny", "model.norm_class_name=RMSNorm"], folders=folders)
    with pytest.raises(ConfigError, match=r"model\.bias=True: model_type=tiny has no such setting"):
        compose(["model.bias=true"], folders=folders)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "defaults: [{override /modle: tiny}]",
            r"In 'experiment/mine': unknown setting 'modle' \(did you mean 'model'",
        ),
        ("defaults: [{override /model: tinny}]", r"unknown model=tinny \(did you mean 'tiny'\?\)"),
        ("model: {n_layr: 3}", r"unknown setting 'model.n_layr' \(did you mean 'n_layer'\?\)"),
        ("trainig: {epochs: 3}", r"unknown setting 'trainig' \(did you mean 'training'\?\)"),
        ("hydra: {swep: 3}", "Key 'swep' not in 'HydraConf'"),
        ("hydra: {sweep: {dri: x}}", "Key 'dri' not in 'SweepDir'"),
        (
            "model: {n_layer: '${calc:2+}'}",
            (
                r"cannot compute '2\+': a formula has numbers, \+ - \* / "
                r"// % \*\*, parentheses, min, max, round, int"
            ),
        ),
    ],
)
def test_a_typo_in_an_experiment_is_one_line_that_names_the_nearest(text: str, message: str, tmp_path: Path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=mine"], folders=(tmp_path,))


def test_an_experiment_that_is_not_global_is_told_how_to_be(tmp_path: Path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("defaults: [{override /model: tiny}]\n")
    with pytest.raises(
        ConfigError,
        match=(
            "In 'experiment/mine': 'model' is not found from here: the file begins with the line '# @package _global_'"
        ),
    ):
        compose(["experiment=mine"], folders=(tmp_path,))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.swep.dir=x"], r"unknown setting 'hydra\.swep' \(did you mean 'sweep'\?\)"),
        (["hydra.sweep.dri=x"], r"unknown setting 'hydra\.sweep\.dri' \(did you mean 'dir'\?\)"),
        (["hydra/launcher=joblb"], r"unknown hydra/launcher=joblb"),
        (["hydra/lancher=joblib"], r"unknown setting 'hydra/lancher' \(did you mean 'hydra/launcher'\?\)"),
    ],
)
def test_a_typo_in_hydras_own_settings_is_one_line(overrides: list[str], message: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=message):
        sweep([*overrides, f"training.save_dir={tmp_path}"], lambda config: None)


@pytest.mark.parametrize("override", ["hydra.job.chdir=true", "+hydra.a=1", "hydra/launcher=basic"])
def test_hydras_own_settings_are_refused_where_nothing_reads_them(override: str):
    with pytest.raises(ConfigError, match="Hydra's own settings are for sweeps: add --multirun"):
        compose([override], folders=())


def test_an_experiment_is_chosen_without_a_plus():
    with pytest.raises(
        ConfigError,
        match=("'experiment' is chosen already, at least as null: choose " r"with experiment=PRESET, without \+"),
    ):
        compose(["+experiment=demo"], folders=())


def _reads() -> dict[str, set[tuple[str | None, str]]]:
    """Attribute -> what it is read of, by its last name, and in which file."""
    found: dict[str, set[tuple[str | None, str]]] = {}
    for file in (ROOT / "src" / "tzd").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                of = getattr(node.value, "attr", None) or getattr(node.value, "id", None)
                found.setdefault(node.attr, set()).add((of, file.relative_to(ROOT / "src" / "tzd").as_posix()))
    return found


def test_every_setting_of_a_run_is_read_by_what_it_configures():
    reads, architectures = _reads(), {f.name for cls in MODEL_CONFIGS.values() for f in dataclasses.fields(cls)}
    unread = set()
    for group, cls in typing.get_type_hints(RunConfig).items():
        for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
            of = {name for name, file in reads.get(field.name, ()) if not file.startswith("config/")}
            if not of & {group, "settings"} and not (group == "model" and field.name in architectures):
                unread.add(f"{group}.{field.name}")
    # these say which architecture there is; `kinds` is the tuple of what `kind` names, `pretrained` the weights' folder
    assert unread == {"model.config_name", "model.litgpt", "model.checkpoint_dir", "logger.kind"}
    assert any(of == "logger" for of, _ in reads["kinds"]) and any(of == "model" for of, _ in reads["pretrained"])


@pytest.mark.parametrize("engine", ["torch", "mlx"])
@pytest.mark.parametrize("model_type", ["tiny", "smdm"])
def test_every_setting_of_an_architecture_is_read_by_each_engine(model_type: str, engine: str):
    read: set[str] = set()
    cls = MODEL_CONFIGS[model_type]

    class Recorded(cls):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            if sys._getframe(1).f_code.co_name not in ("__post_init__", "_check_heads", "__init__"):
                read.add(name)
            return super().__getattribute__(name)

    pytest.importorskip(f"{engine}.core" if engine == "mlx" else engine)
    module = importlib.import_module(f"tzd.engines.{engine}.{model_type}")
    network = getattr(module, model_type.capitalize())
    config = Recorded(vocab_size=9, n_layer=1, n_head=2, n_embd=8, block_size=4)
    read.clear()
    network(config)
    build = read
    source = (ROOT / "src" / "tzd" / "engines" / engine / f"{model_type}.py").read_text(encoding="utf-8")
    for field in dataclasses.fields(cls):
        # what the forward pass reads, or the denoiser around every network (mask_id, block_size)
        assert field.name in build or f"config.{field.name}" in source or field.name == "mask_id", field.name


def test_a_sweep_runs_in_several_processes_at_once(tmp_path: Path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    overrides = ["model=tiny_cpu,small", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "model.model_type=smdm"]
    meeting = Meeting(tmp_path)
    sweep([*overrides, f"training.save_dir={tmp_path / 'runs'}"], meeting)
    met = sorted(path.read_text() for path in tmp_path.glob("*.txt"))
    assert [line.split()[:2] for line in met] == [["small", "smdm"], ["tiny_cpu", "smdm"]]
    pids = {line.split()[2] for line in met}
    assert len(pids) == 2 and str(os.getpid()) not in pids
    with pytest.raises(ConfigError, match=r"model\.n_head=5 does not divide model\.n_embd=192"):
        sweep([*overrides[:3], "model=small", "model.n_head=3,5", f"training.save_dir={tmp_path / 'runs'}"], print)


@dataclasses.dataclass
class Meeting:
    """A job that ends once two of them run."""

    folder: Path

    def __call__(self, config: RunConfig) -> None:
        line = f"{config.model.name} {config.model.model_type} {os.getpid()}"
        (self.folder / f"{config.model.name}.txt").write_text(line)
        deadline = time.monotonic() + 60
        while len(list(self.folder.glob("*.txt"))) < 2:
            assert time.monotonic() < deadline, "no other job came"
            time.sleep(0.05)


def test_a_launcher_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    missing = MissingConfigException("", "hydra/launcher/joblib", [])
    error = one_line(missing)
    assert isinstance(error, MissingExtraError) and "[joblib]" in str(error)


@pytest.mark.parametrize("error", [MissingExtraError("a", "b"), InterruptedRunError("x", 2), ConfigError("y")])
def test_errors_travel_between_processes(error: TzdError):
    same = pickle.loads(pickle.dumps(error))
    assert (type(same), str(same), same.exit_code) == (type(error), str(error), error.exit_code)
