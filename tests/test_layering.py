"""The layers hold, and what must be quick to import stays light."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from networks import CONFIG, checkpoint

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


def test_a_run_on_one_engine_never_imports_the_other(engine: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", replace(CONFIG, vocab_size=128, mask_id=128))
    code = f"""
import tzd, tzd.cli
model = tzd.load({str(folder)!r}, engine={engine!r})
assert model.engine == {engine!r}
assert len(tzd.sample(model, length=20, prompt="ab", cfg_scale=1.0).text[0]) == 22
assert tzd.infill(model, "a_c_").text[0][2] == "c"
assert tzd.nelbo(model, "some text", draws=2).nats_per_token > 0
assert tzd.log_likelihood(model, "so", "me", draws=2) < 0
flags = ["--engine", {engine!r}, "--json"]
assert tzd.cli.main(["sample", {str(folder)!r}, "--length", "5", "--prompt", "ab", *flags]) == 0
assert tzd.cli.main(["infill", {str(folder)!r}, "a_c", *flags]) == 0
assert tzd.cli.main(["eval", {str(folder)!r}, "--data", {str(ROOT / "LICENSE")!r}, "--draws", "1", *flags]) == 0
print()"""
    loaded = loaded_by(code)
    own, others = {"torch": ({"torch"}, {"mlx"}), "mlx": ({"mlx"}, {"torch", "lightning"})}[engine]
    assert own <= loaded and not others & loaded
