"""TensorBoard and W&B: what they were given is read back from what they wrote, and they cannot harm a run."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from runs import config_in, send_at, train
from tzd.checkpoint import RunFolder
from tzd.config import RunConfig, run_config
from tzd.errors import ConfigError, InterruptedRunError, MissingExtraError, TzdError
from tzd.loggers import run_loggers
from tzd.loggers.tags import tags
from tzd.loggers.tensorboard import TensorBoardLogger
from tzd.mapping import to_mapping
from tzd.training.records import COLUMNS, Written, read_rows

TEXTS = ["one\n    two\n\n<b>*three*</b>", "\udcff\r\x1b[31m", ""]
VAL = "val/nats_per_token"


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without W&B's key and without W&B's files, whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    for name, folder in (("HOME", ""), ("NETRC", "netrc"), ("WANDB_CONFIG_DIR", "c"), ("WANDB_CACHE_DIR", "cache")):
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.setenv("WANDB_DATA_DIR", str(home / "data"))


# --- names and choice --------------------------------------------------------------------------------------------


def test_dashboards_group_training_and_validation_and_leave_out_what_is_not_measured() -> None:
    assert tags({"step": 3, "loss": 1, "epoch": 0.5}) == {"train/loss": 1.0, "train/epoch": 0.5}
    assert tags({"step": 3, "val_nats_per_token": 2.0, "val_bits_per_char": float("nan")}) == {VAL: 2.0}
    assert len(tags(dict.fromkeys(COLUMNS, 1.0))) == len(COLUMNS) - 1


@pytest.mark.parametrize("kind", ["csv", "tensorboard", ["tensorboard"], ["csv", "tensorboard", "tensorboard"], []])
def test_files_and_progress_are_there_whatever_is_asked_for(kind: Any, tmp_path: Path) -> None:
    config = run_config({"logger": {"kind": kind}})
    loggers = run_loggers(config)(RunFolder(tmp_path), None, 10)
    for logger in loggers:
        logger.close()
    names = ["CsvLogger", *["TensorBoardLogger"] * ("tensorboard" in kind), "ProgressLogger"]
    assert [type(logger).__name__ for logger in loggers] == names


@pytest.mark.parametrize(
    "kind, message",
    [
        ("tensorbord", "unknown logger.kind 'tensorbord' .did you mean 'tensorboard'"),
        (["csv", "wnadb"], "unknown logger.kind 'wnadb' .did you mean 'wandb'"),
        (["csv", 3], "logger.kind cannot be .* it takes a text or a list, each entry a text"),
    ],
)
def test_an_unknown_logger_names_the_nearest(kind: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_loggers(run_config({"logger": {"kind": kind}}))


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_missing_extra_is_one_line_before_a_run_has_a_folder(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == kind or name == f"tzd.loggers.{kind}"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(MissingExtraError, match=f"logger.kind={kind} needs the extra '{kind}': uv sync --extra {kind}"):
        run_loggers(run_config({"logger": {"kind": ["csv", kind]}}))


# --- TensorBoard -------------------------------------------------------------------------------------------------


def events(folder: Path) -> EventAccumulator:
    """What TensorBoard shows of a run."""
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.tensor_proto.float_val[0]) for event in events(folder).Tensors(tag)]


def texts(folder: Path, tag: str) -> list[tuple[int, str]]:
    """Step and text; that each line, but for the temperature's, is set off as code is checked and undone."""
    found = []
    for event in events(folder).Tensors(tag):
        (text,) = event.tensor_proto.string_val
        lines = text.decode().split("\n")
        if tag != "config":
            assert lines[0].startswith("temperature ") and not lines[1]
            lines = lines[2:]
        assert all(line.startswith("    ") for line in lines)
        found.append((event.step, "\n".join(line[4:] for line in lines)))
    return found


def log_steps(logger: Any, *steps: int, scale: float = 1.0) -> None:
    for step in steps:
        logger.log({"step": step, "loss": scale / step})
        logger.log({"step": step, "val_nats_per_token": scale * step})
        logger.log_samples(step, [Written(0.7, f"text {scale} at {step}")])


def test_tensorboard_reads_metrics_back_at_once(tmp_path: Path) -> None:
    logger = TensorBoardLogger(RunConfig(), tmp_path)
    log_steps(logger, 1, 2, 4)
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 0.5), (4, 0.25)]
    assert scalars(tmp_path, VAL) == [(1, 1.0), (2, 2.0), (4, 4.0)]
    assert set(events(tmp_path).PluginTagToContent("scalars")) == {"train/loss", VAL}


def test_tensorboard_shows_samples_and_the_configuration_verbatim(tmp_path: Path) -> None:
    config = run_config({"logger": {"kind": ["csv", "tensorboard"]}, "seed": 7})
    logger = TensorBoardLogger(config, tmp_path)
    logger.log_samples(5, [Written(0.7, text) for text in TEXTS])
    logger.log_samples(6, [Written(0.7, "at the end")], "test")
    assert texts(tmp_path, "val-samples/1") == [(5, TEXTS[0])]
    assert texts(tmp_path, "val-samples/2") == [(5, "\N{REPLACEMENT CHARACTER}␍␛[31m")]
    assert texts(tmp_path, "val-samples/3") == [(5, "")]
    ((step, settings),) = texts(tmp_path, "config")
    assert step == 0 and json.loads(settings) == to_mapping(config)
    assert set(events(tmp_path).PluginTagToContent("text")) == {
        "config",
        *(f"val-samples/{number}" for number in (1, 2, 3)),
        "test-samples/1",
    }
    assert texts(tmp_path, "test-samples/1") == [(6, "at the end")]


@pytest.mark.parametrize("resume_step", [0, 2, 3, 4])
def test_tensorboard_drops_what_was_logged_after_the_checkpoint(resume_step: int, tmp_path: Path) -> None:
    log_steps(TensorBoardLogger(RunConfig(), tmp_path), 1, 2, 4)
    log_steps(TensorBoardLogger(RunConfig(), tmp_path, resume_step), 5, scale=10.0)
    log_steps(TensorBoardLogger(RunConfig(), tmp_path, 5), 6, scale=100.0)
    kept = [step for step in (1, 2, 4) if step <= resume_step]
    assert scalars(tmp_path, VAL) == [(step, float(step)) for step in kept] + [(5, 50.0), (6, 600.0)]
    assert [step for step, _ in texts(tmp_path, "val-samples/1")] == [*kept, 5, 6]
    assert [step for step, _ in texts(tmp_path, "config")] == [0, *[resume_step + 1] * (resume_step < 5), 6]
    assert len(list(tmp_path.iterdir())) == 1  # a server that knows nothing of restarts sees nothing stale


def test_tensorboard_goes_on_after_a_torn_end(tmp_path: Path) -> None:
    log_steps(TensorBoardLogger(RunConfig(), tmp_path), 1, 2)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    log_steps(TensorBoardLogger(RunConfig(), tmp_path, 1), 2, scale=10.0)
    assert scalars(tmp_path, VAL) == [(1, 1.0), (2, 20.0)]


def test_tensorboard_goes_on_after_a_resume_that_was_killed(tmp_path: Path) -> None:
    log_steps(TensorBoardLogger(RunConfig(), tmp_path), 1, 2)
    (file,) = tmp_path.iterdir()
    before = file.read_bytes()
    TensorBoardLogger(RunConfig(), tmp_path, 1)
    file.write_bytes(before)  # as if it had been killed before the old file was removed
    log_steps(TensorBoardLogger(RunConfig(), tmp_path, 1), 2, scale=10.0)
    assert scalars(tmp_path, VAL) == [(1, 1.0), (2, 20.0)]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TzdError, match=r"^cannot write .*tfevents.*: No such file or directory"):
        TensorBoardLogger(RunConfig(), tmp_path / "none")


# --- W&B, its library for real -----------------------------------------------------------------------------------


def records(folder: Path) -> Iterator[Any]:
    """What W&B wrote for one process: LevelDB's log format, blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    data, at, block, whole = file.read_bytes(), 7, 1 << 15, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # full, or last of several
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def history(folder: Path) -> list[dict[str, Any]]:
    found = []
    for record in records(folder):
        if record.HasField("history"):
            found.append({".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item})
    return found


def offline_runs(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("offline-run-*"))


def assert_same_metrics(run: Path, folder: Path) -> None:
    """W&B's history holds the rows of metrics.csv, at their steps."""
    ours = [{k: float(v) for k, v in row.items() if v and v != "nan"} for row in read_rows(run / "metrics.csv")]
    theirs = [row for row in history(folder) if not any(key.endswith("samples.path") for key in row)]
    assert [{"step": row["step"], **tags(row)} for row in ours] == [
        {k: v for k, v in row.items() if not k.startswith("_")} for row in theirs
    ]


def test_a_run_on_mlx_writes_to_all_at_once_and_imports_no_torch(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    changes = {"engine.name": "mlx", "logger.kind": ["tensorboard", "wandb"], "training.val_generation_freq": 1}
    changes |= {"training.test": True, "model.test_temperatures": [0.5, 1.0]}
    config = config_in(tmp_path, {**changes, "logger.project": "mine"})
    code = (
        "import json, sys, tzd; tzd.train(json.load(sys.stdin));"
        "print(sorted({'torch', 'tensorflow', 'lightning'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(to_mapping(config)), capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
    run = tmp_path / "run"
    said = f"W&B: offline (no API key was found); to upload the run: wandb sync {run}/wandb/offline-run-*"
    assert [line for line in result.stderr.splitlines() if "W&B" in line or "wandb" in line] == [said]

    (folder,) = offline_runs(run)
    assert_same_metrics(run, folder)
    begun = next(record.run for record in records(folder) if record.HasField("run"))
    assert (begun.project, begun.display_name, begun.entity) == ("mine", "run", "")
    kept = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert {key: value for key, value in kept.items() if key != "_wandb"} == to_mapping(config)
    axes = [record.metric for record in records(folder) if record.HasField("metric")]
    assert [(axis.name, axis.glob_name, axis.step_metric) for axis in axes[:2]] == [("step", "", ""), ("", "*", "step")]
    for name, steps, temperatures in (("val", [3, 6], [1.0]), ("test", [6], [0.5] * 4 + [1.0] * 4)):
        tables = [
            (row["step"], json.loads((folder / "files" / row[f"{name}/samples.path"]).read_bytes()))
            for row in history(folder)
            if f"{name}/samples.path" in row
        ]
        assert [step for step, _ in tables] == steps
        for step, table in tables:
            assert table["columns"] == ["step", "temperature", "text"]
            assert [row[:2] for row in table["data"]] == [[step, temperature] for temperature in temperatures]
            shown = [texts(run, f"{name}-samples/{number}") for number in range(1, len(temperatures) + 1)]
            assert [row[2] for row in table["data"]] == [dict(events)[step] for events in shown]
    assert [step for step, _ in scalars(run, "train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [record.exit.exit_code for record in records(folder) if record.HasField("exit")] == [0]


def test_a_resumed_run_goes_on_in_the_same_run_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def left_behind() -> tuple[Any, ...]:
        theirs = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
        return sys.excepthook, sys.exit, signal.getsignal(signal.SIGINT), theirs, wandb.run

    before = left_behind()
    logger = {"logger.kind": ["wandb", "tensorboard"]}
    with monkeypatch.context() as patch:
        send_at(patch, 4, signal.SIGINT)
        with pytest.raises(InterruptedRunError, match="stopped and saved at step 4"):
            train(tmp_path, logger)
    run = train(tmp_path, {**logger, "training.resume": True}).path
    first, second = offline_runs(run)
    begun = [next(record.run for record in records(folder) if record.HasField("run")) for folder in (first, second)]
    assert [part.run_id for part in begun] == [(run / "wandb" / "run-id").read_text().strip()] * 2
    assert [part.resume for part in begun] == [False, True]
    assert [row["step"] for row in history(first)] == [0, 1, 2, 3, 3, 4]
    assert [row["step"] for row in history(second)] == [5, 6, 6]
    assert [step for step, _ in scalars(run, "train/loss")] == [1, 2, 3, 4, 5, 6]
    assert left_behind() == before


# --- W&B, played -------------------------------------------------------------------------------------------------


class PlayedRun:
    """A run of W&B that keeps what it is given."""

    id, disabled, url, offline = "abc123", False, "https://wandb.example/abc123", False

    def __init__(self, **settings: Any) -> None:
        self.settings, self.rows, self.exit_code = settings, list[Any](), None
        self.offline = settings["mode"] == "offline"
        (Path(settings["dir"]) / "wandb").mkdir(exist_ok=True)

    def define_metric(self, name: str, step_metric: str | None = None) -> None: ...

    def log(self, row: Any) -> None:
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


class Played:
    """W&B's library, with a network that fails as often as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import wandb

        self.fails: tuple[Any, ...] = ()  # in these modes
        self.runs: list[PlayedRun] = []
        self.torn_down = 0
        self.settings = SimpleNamespace(mode="online", api_key=None, base_url="https://api.wandb.ai")
        monkeypatch.setattr(wandb, "setup", lambda settings=None: SimpleNamespace(settings=self.settings))
        monkeypatch.setattr(wandb, "init", self.init)
        monkeypatch.setattr(wandb, "teardown", self.teardown)

    def init(self, **settings: Any) -> PlayedRun:
        import wandb

        if settings["mode"] in self.fails:
            raise wandb.errors.CommError("no route to host\nand more")
        self.runs.append(PlayedRun(**settings))
        return self.runs[-1]

    def teardown(self) -> None:
        self.torn_down += 1


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


def wandb_logger(folder: Path, resume_step: int | None = None, **settings: Any) -> Any:
    from tzd.loggers.wandb import WandbLogger

    return WandbLogger(run_config({"logger": settings}), folder, resume_step)


def test_wandb_is_online_with_an_account(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k")
    wandb_logger(tmp_path)
    monkeypatch.delenv("WANDB_API_KEY")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai\n  login user\n  password k\n")
    monkeypatch.setenv("NETRC", str(netrc))
    wandb_logger(tmp_path)
    assert [run.settings["mode"] for run in played.runs] == [None, None]
    assert capsys.readouterr().err == "W&B: https://wandb.example/abc123\n" * 2


@pytest.mark.parametrize("netrc", [None, "machine elsewhere login user password k\n", "machine"])
def test_wandb_is_offline_without_an_account(
    netrc: str | None, played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if netrc is not None:
        (tmp_path / "netrc").write_text(netrc)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb_logger(tmp_path)
    assert [run.settings["mode"] for run in played.runs] == ["offline"]


def test_wandb_is_offline_without_a_network_and_says_why(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k")
    played.fails = (None,)
    wandb_logger(tmp_path)
    said = f"W&B: offline (no route to host); to upload the run: wandb sync {tmp_path}/wandb/offline-run-*\n"
    assert capsys.readouterr().err == said


def test_wandb_that_cannot_begin_as_asked_is_one_line(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    played.fails = (None,)
    with pytest.raises(TzdError, match=r"^W&B cannot begin \(no route to host\): set WANDB_MODE=offline, or leave"):
        wandb_logger(tmp_path)
    assert played.torn_down == 1


@pytest.mark.parametrize(
    "settings, environment, project",
    [({}, None, "tinyzero-diffusion"), ({}, "theirs", "theirs"), ({"project": "mine"}, "theirs", "mine")],
)
def test_the_project_is_the_one_of_the_configuration_then_of_the_environment(
    settings: dict[str, str],
    environment: str | None,
    project: str,
    played: Played,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if environment is not None:
        monkeypatch.setenv("WANDB_PROJECT", environment)
    wandb_logger(tmp_path, **settings)
    assert played.runs[0].settings["project"] == project
    assert "entity" not in played.runs[0].settings


@pytest.mark.parametrize("kept, run_id", [("abc123\n", "abc123"), ("../../etc\n", None), ("", None), (None, None)])
def test_only_a_resumed_run_takes_up_the_kept_id(
    kept: str | None, run_id: str | None, played: Played, tmp_path: Path
) -> None:
    (tmp_path / "wandb").mkdir()
    if kept is not None:
        (tmp_path / "wandb" / "run-id").write_text(kept)
    wandb_logger(tmp_path, resume_step=3)
    assert (played.runs[0].settings["id"], played.runs[0].settings["resume"]) == (run_id, run_id and "allow")
    wandb_logger(tmp_path)
    assert played.runs[1].settings["id"] is None


def test_wandb_that_fails_is_said_once_and_the_run_goes_on(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = wandb_logger(tmp_path)
    capsys.readouterr()

    def broken(row: Any) -> None:
        raise BrokenPipeError("its service is gone\nand more")

    logger.log({"step": 1, "loss": 1.0})
    monkeypatch.setattr(played.runs[0], "log", broken)
    logger.log({"step": 2, "loss": 1.0})
    logger.log_samples(2, [Written(0.7, "text")])
    logger.log({"step": 3, "loss": 1.0})
    logger.close()
    logger.close()
    assert capsys.readouterr().err == "W&B failed (its service is gone): the run goes on without it\n"
    assert played.runs[0].rows == [{"step": 1, "train/loss": 1.0}]


def test_wandb_hears_of_an_error_that_ends_the_run(played: Played, tmp_path: Path) -> None:
    for error in (None, ValueError()):
        logger = wandb_logger(tmp_path)
        try:
            if error is not None:
                raise error
        except ValueError:
            logger.close()
        else:
            logger.close()
    assert [run.exit_code for run in played.runs] == [0, 1]


def test_a_service_that_the_caller_started_is_left_running(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb_logger(tmp_path).close()
    assert played.torn_down == 1
    monkeypatch.setenv("WANDB_SERVICE", "theirs")
    wandb_logger(tmp_path).close()
    assert played.torn_down == 1
