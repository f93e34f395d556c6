"""Where W&B is told to keep a run, and that it cannot harm it; its library is played."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tzd.config import run_config
from tzd.errors import TzdError
from tzd.training.records import Written

pytestmark = pytest.mark.usefixtures("no_account")


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
    with pytest.raises(
        TzdError,
        match=(
            r"W&B cannot begin \(no route to host\): set " r"WANDB_MODE=offline, or leave wandb out of logger\.kind"
        ),
    ):
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
