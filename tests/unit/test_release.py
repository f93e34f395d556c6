"""What is built from the same files is the same, wherever and whenever; and it holds what it should, no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "from hatchling.build import build_sdist, build_wheel; build_sdist({0!r}); build_wheel({0!r})"


def build(source: Path, out: Path, umask: int) -> dict[str, bytes]:
    """Wheel and sdist of a folder, by name."""
    run = subprocess.run(
        [sys.executable, "-c", BUILD.format(str(out))],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Two builds of what git tracks, in two folders, with files of other dates and permissions."""
    pytest.importorskip("hatchling")
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    builds = []
    for umask in (0o022, 0o077):
        folder = tmp_path_factory.mktemp("build")
        source, out = folder / "source", folder / "out"
        for name in filter(None, tracked.split("\0")):
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, source / name)
                os.utime(source / name, (umask * 10**6, umask * 10**6))
                (source / name).chmod((0o777 if os.access(ROOT / name, os.X_OK) else 0o666) & ~umask)
        out.mkdir()
        builds.append(build(source, out, umask))
    return builds[0], builds[1]


def test_two_builds_in_two_folders_give_the_same_bytes(built: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    one, other = built
    assert sorted(one) == sorted(other) and len(one) == 2
    for name in one:
        assert one[name] == other[name], name


def test_the_wheel_holds_the_package_and_nothing_of_the_checkout(
    built: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    for name, content in built[0].items():
        (tmp_path / name).write_bytes(content)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"tzd", "tinyzero_diffusion"}
    ours = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/tzd").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} <= ours
    assert {"tzd/configs/config.yaml", "tzd/viewers/player.html", "tzd/web/page.css"} <= set(names)
    assert "tzd/weights/shakespeare-small/model.safetensors" in names
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert all(member.isfile() and member.name.startswith("tinyzero_diffusion-") for member in members)
    assert any(member.name.endswith("/tests/installed.py") for member in members)
