"""Several processes under MLX's own launcher, and processes that hold nothing of the other engine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from runs import TEXT, assert_same_weights
from tzd.checkpoint import RunFolder
from tzd.training.records import read_metrics

pytest.importorskip("mlx.core")

LAUNCH = Path(sys.executable).with_name("mlx.launch")
SETTINGS = (
    *("engine=mlx", "model.n_layer=1", "model.n_head=2", "model.n_embd=16", "objective=nelbo", "sampler.steps=4"),
    *("data=text", "data.path=text.txt", "data.block_size=24", "training.val_windows=9", "training.warmup_steps=2"),
    *("training.optimizer=adamw", "training.max_steps=10", "training.eval_interval=5", "training.log_every_n_steps=1"),
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def launcher(ranks: int) -> list[str]:
    """MLX's launcher, on ports that nobody else uses: on its own ones, two launches would talk to each other."""
    first = 20000 + os.getpid() % 1000 * 10  # below those that the system gives away
    port = next(port for port in range(first, first + 10, ranks) if all(free(port + rank) for rank in range(ranks)))
    return [str(LAUNCH), "-n", str(ranks), "--backend", "ring", "--starting-port", str(port), "--"]


def command(ranks: int, *changes: str) -> list[str]:
    train = [sys.executable, "-m", "tzd", "train", *SETTINGS, *changes]
    return [*launcher(ranks), *train] if ranks > 1 else train


def run(folder: Path, ranks: int, *changes: str) -> subprocess.CompletedProcess[str]:
    (folder / "text.txt").write_text(TEXT)
    return subprocess.run(
        command(ranks, *changes), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    alone = run(tmp_path, 1, "data.batch_size=8", "logger.name=alone", "--json")
    both = run(tmp_path, 2, "data.batch_size=4", "logger.name=both", "--json")
    assert alone.returncode == both.returncode == 0, both.stderr
    assert both.stdout.count("best checkpoint") == 1, "the first process speaks for all"
    assert json.loads(both.stdout.splitlines()[-1])["run"] == "runs/both"
    one, two = (read_metrics(tmp_path / "runs" / name) for name in ("alone", "both"))
    for column, bar in (("loss", 1e-4), ("grad_norm", 1e-3), ("val_nats_per_token", 1e-5), ("val_stderr", 1e-3)):
        # an untrained model loses log V everywhere: the standard error is 0, but for float32
        np.testing.assert_allclose(two[column], one[column], rtol=bar, atol=1e-7, err_msg=column)
    np.testing.assert_array_equal(one["tokens"], two["tokens"])


def test_two_processes_leave_together_and_go_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    changes = ("data.batch_size=4", "model.dropout=0.1", "training.ema_decay=0.9")
    assert run(tmp_path, 2, *changes, "logger.name=whole").returncode == 0
    parts = RunFolder(tmp_path / "runs" / "parts")
    slow = ("logger.name=parts", "training.checkpoint_interval=1", "training.max_steps=10")
    script = tmp_path / "signed.py"
    script.write_text(
        "import os, pathlib, sys\nfrom tzd.cli import main\n"
        "pathlib.Path('rank-' + os.environ['MLX_RANK']).write_text(str(os.getpid()))\n"
        f"sys.exit(main(['train', *{[*SETTINGS, *changes, *slow]!r}]))\n"
    )
    process = subprocess.Popen(
        [*launcher(2), sys.executable, str(script)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (parts.path / "last").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with suppress(ProcessLookupError):  # a quick run may have ended
        os.kill(int((tmp_path / "rank-1").read_text()), signal.SIGTERM)  # told to one, heard by both
    process.wait(60)
    resumed = run(tmp_path, 2, *changes, *slow, "training.resume=true")
    assert resumed.returncode == 0 or "is at step 10 of 10" in resumed.stderr, resumed.stderr
    assert_same_weights(RunFolder(tmp_path / "runs" / "whole"), parts)


@pytest.mark.slow
def test_processes_of_unequal_cores_do_what_one_does(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    script = tmp_path / "unequal.py"
    script.write_text(
        "import os, sys\nos.environ['OMP_NUM_THREADS'] = str(1 + int(os.environ['MLX_RANK']))\n"
        "from tzd.cli import main\n"
        f"sys.exit(main(['train', *{list(SETTINGS)!r}, 'training.ema_decay=0.9', 'data.batch_size=4',"
        " 'logger.name=both']))\n"
    )
    alone = run(tmp_path, 1, "training.ema_decay=0.9", "data.batch_size=8", "logger.name=alone")
    assert alone.returncode == 0, alone.stderr
    arguments = [*launcher(2), sys.executable, str(script)]
    subprocess.run(arguments, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True)
    one, two = (read_metrics(tmp_path / "runs" / name) for name in ("alone", "both"))
    for column, bar in (("loss", 1e-4), ("val_nats_per_token", 1e-4)):
        np.testing.assert_allclose(two[column], one[column], rtol=bar, err_msg=column)


@pytest.mark.slow
def test_what_a_process_cannot_do_ends_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    result = run(tmp_path, 2, "data.batch_size=4")
    said = result.stdout + result.stderr  # the launcher's own exit code says nothing
    assert said.count("training.save_dir=runs cannot hold a run") == 1
    assert "rank 0 exited with code 2" in said and "Traceback" not in said


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_ends_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    script = tmp_path / "full_disk.py"
    script.write_text(
        "import sys\nimport tzd.engines.mlx.trainee as trainee\nfrom tzd.cli import main\n"
        "from tzd.errors import TzdError\n"
        "def full(*args, **kwargs): raise TzdError('the disk is full')\n"
        "trainee.write_checkpoint = full\n"
        f"sys.exit(main(['train', *{list(SETTINGS)!r}, 'data.batch_size=4']))\n"
    )
    arguments = [*launcher(2), sys.executable, str(script)]
    result = subprocess.run(
        arguments, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (result.stdout + result.stderr).count("the disk is full") == 1
    assert "Traceback" not in result.stdout + result.stderr


def test_a_loss_that_is_not_finite_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    script = tmp_path / "spoilt.py"
    script.write_text(
        "import sys\nfrom tzd.cli import main\nfrom tzd.training.task import Task\n"
        "noised = Task.noised\n"
        "def spoilt(self, step):\n"
        "    made = noised(self, step)\n"
        "    made.weight[:] = float('nan')\n"
        "    return made\n"
        "Task.noised = spoilt\n"
        f"sys.exit(main(['train', *{list(SETTINGS)!r}, 'data.batch_size=4']))\n"
    )
    arguments = [*launcher(2), sys.executable, str(script)]
    result = subprocess.run(
        arguments, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    said = result.stdout + result.stderr
    assert said.count("the loss is nan at step 1; no checkpoint was written yet") == 1
    assert "rank 0 exited with code 1" in said and "Traceback" not in said


def test_a_run_on_mlx_holds_nothing_of_pytorch(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    code = (
        "import sys; from tzd.cli import main\n"
        f"assert main(['train', *{[*SETTINGS, 'training.max_steps=2']!r}]) == 0\n"
        "for args in (['sample'], ['infill', 'a__le '], ['eval', '--data', 'text.txt']):\n"
        "    assert main([args[0], 'runs/text-diffusion', *args[1:], '--engine', 'mlx']) == 0\n"
        "print('held', *sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'lightning', 'transformers'}), 'end')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "held end"
