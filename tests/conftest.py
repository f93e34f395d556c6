"""What tests of several folders share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

from tzd.engines import ENGINES

hypothesis.settings.register_profile("untimed", deadline=None)  # no test asserts how long it takes
hypothesis.settings.register_profile(  # of a mutant, that it fails is all there is to know
    "unshrunk",
    deadline=None,
    derandomize=True,
    max_examples=30,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile("untimed")

# What a script starts with `&` or nohup ignores these, and runs heed that: neither could be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def tiny_shakespeare() -> Path:
    """The file, from $TZD_DATA_DIR or a folder of corpora beside the checkout; tests that need it skip without it."""
    folder = Path(os.environ.get("TZD_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
    file = folder / "tiny_shakespeare.txt"
    if not file.is_file():
        pytest.skip("Tiny Shakespeare is not here: set TZD_DATA_DIR to the folder that holds it")
    return file


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn; what needs one that is not installed is skipped."""
    if request.param == "mlx":
        pytest.importorskip("mlx.core")
    return str(request.param)


@pytest.fixture
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without W&B's key and without W&B's files, whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    for name, folder in (("HOME", ""), ("NETRC", "netrc"), ("WANDB_CONFIG_DIR", "c"), ("WANDB_CACHE_DIR", "cache")):
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.setenv("WANDB_DATA_DIR", str(home / "data"))
