"""The worked example of docs/conditional.md, whole: its data, its commands, its answers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "conditional.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_learns_to_turn_words_round_and_answers_95_of_100_right(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(words: list[str]) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{shlex.join(words)}: {result.stderr}"
        return result

    make, ask = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    run([sys.executable, "-c", make])
    (commands,) = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    train, sample, guided, score = (run(shlex.split(line)) for line in commands.splitlines())
    assert "validation NELBO 3.3322" in train.stderr
    assert sample.stdout == guided.stdout == "dlro>orld\n"
    assert "500 answers" in score.stdout
    (share,) = re.findall(r"([\d.]+) of 500 are right", run([sys.executable, "-c", ask]).stdout)
    assert float(share) >= 0.95
