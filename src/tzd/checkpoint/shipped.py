"""The models that come with tzd: checkpoints in `weights/NAME` of its repository, or of the installed package."""

from __future__ import annotations

from pathlib import Path

from tzd.checkpoint.layout import CONFIG
from tzd.errors import CheckpointError, nearest

_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "weights", _PACKAGE.parents[1] / "weights")  # installed; in a checkout


def shipped() -> dict[str, Path]:
    """The models that come with tzd: name -> checkpoint folder, by name; the first is for whoever names none."""
    for folder in _FOLDERS:
        if found := sorted(file.parent for file in folder.glob(f"*/{CONFIG}")):
            return {path.name: path for path in found}
    return {}


def default_model() -> Path:
    """The checkpoint folder of the model for whoever names none.

    Raises:
        CheckpointError: this copy of tzd comes without models.
    """
    for folder in shipped().values():
        return folder
    raise CheckpointError("this copy of tzd comes without a model: name a checkpoint")


def locate(path: str | Path) -> Path:
    """The folder of the shipped model of that name; the path itself where something is there, or there is none."""
    folder = shipped().get(str(path))
    return Path(path) if folder is None or Path(path).exists() else folder


def meant(path: str | Path) -> str:
    """The end of a message about a path at which nothing is: the shipped model that a plain name may mean."""
    models = shipped()
    if not models or str(path) in models or Path(path).name != str(path):
        return ""
    return f", nor a model of tzd's own of that name{nearest(str(path), models)}"
