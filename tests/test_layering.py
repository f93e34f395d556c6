"""The layers hold, and what must be quick to import stays light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "lightning", "mlx", "matplotlib", "hydra", "omegaconf", "transformers", "pooch", "rich")


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    report = f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_imports_point_down_the_layers() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [lint, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import tzd",
        "import tzd.cli; tzd.cli.main(['--help'])",
        "import tzd.cli; tzd.cli.main(['nonsense'])",
        "import tzd.cli; tzd.cli.main(['samplers'])",
    ],
)
def test_nothing_heavy_is_imported_by(code: str) -> None:
    assert not loaded_by(code).intersection(HEAVY)
