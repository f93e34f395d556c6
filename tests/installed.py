"""What an installed tzd does, with nothing but its wheel: `make installed PYTHON=3.12`.

Not one of the tests of `make test`: it runs by the Python of an empty environment, in a folder of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKPOINT = HERE / "parity/golden/tiny/mlx_diffusion_model.npz"
TRAIN = """
data=text data.path={text} data.block_size=16 data.batch_size=4 tokenizer=char
model=tiny model.n_layer=1 model.n_head=1 model.n_embd=8 model.block_size=16
training.max_steps=2 training.val_windows=2 training.accelerator=cpu training.save_dir={folder} logger.name=run
"""


def run(*command: str, folder: Path) -> str:
    """What a command prints; AssertionError where it fails, or warns of what it was not asked for."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def main() -> None:
    """Imports, reads, writes and learns."""
    python, tzd = sys.executable, str(Path(sys.executable).with_name("tzd"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = "import tzd; [getattr(tzd, n) for n in tzd.__all__]; print(tzd.__version__, tzd.__file__)"
        version, file = run(python, "-c", code, folder=folder).split(maxsplit=1)
        assert HERE.parent / "src" not in Path(file).parents, f"{file} is the checkout's, not the wheel's"
        assert "train" in run(tzd, "--help", folder=folder)
        assert "dilated" in run(tzd, "samplers", folder=folder)
        write = (tzd, "sample", str(CHECKPOINT), "--length", "64", "--steps", "4", "--seed", "1", "--quiet")
        texts = {run(*write, folder=folder) for _ in range(2)}
        assert len(texts) == 1 and len(texts.pop()) >= 64
        assert len(run(tzd, "sample", "--length", "64", "--quiet", folder=folder)) >= 64  # the model that comes along
        text = folder / "text.txt"
        text.write_text("to be or not to be, that is the question. " * 100)
        run(tzd, "train", *TRAIN.format(text=text, folder=folder).split(), folder=folder)
        assert len(run(tzd, "sample", "run", "--length", "16", "--quiet", folder=folder)) >= 16
    print(f"tzd {version} on Python {sys.version.split()[0]}: imports, writes, learns")


if __name__ == "__main__":
    main()
