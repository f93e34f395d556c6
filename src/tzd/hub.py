"""Repositories of the Hugging Face hub, as local folders."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tzd.errors import TzdError, UserError, first_line
from tzd.untrusted import read_json

PREFIX = "hf:"
_TIMEOUT = 5.0  # seconds; the hub's own clients would try for most of a minute where there is no network
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def hub_model(path: str | Path) -> str | None:
    """The name of a model of the hub: what follows "hf:", or a local folder with a config.json as the hub's have it.

    Returns:
        None for what is read as tzd's own, or as a file of weights.
    """
    if str(path).startswith(PREFIX):
        return str(path)[len(PREFIX) :]
    try:
        config = read_json(Path(path) / "config.json")
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or "format" in config or not isinstance(config.get("model_type"), str):
        return None
    return None if (Path(path) / "lit_model.pth").exists() else str(path)


def repository(name: str, *, revision: str | None = None, files: Sequence[str] = ("*",)) -> Path:
    """The folder that a name means: a local one, or a repository of the hub, downloaded into the hub's own cache.

    Args:
        name: a local folder, or `owner/name`.
        revision: a branch, tag or commit of a repository; its main branch if None.
        files: patterns of the names that are wanted of a repository.

    Raises:
        UserError: there is no such folder or repository, or it is not open to this user.
        TzdError: the hub cannot be reached, and its cache does not hold the files.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UserError(f"{name} is a local folder, which has no revision '{revision}'; leave it out")
        return folder
    if not _NAME.fullmatch(name):
        raise UserError(f"there is no folder {name}; give one that exists, or a repository of the hub (owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files), etag_timeout=_TIMEOUT))
    except GatedRepoError as error:
        raise UserError(
            f"{name} is only for those who have asked for access on the hub: do so, then 'hf auth login' here"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{name} has no revision '{revision}' on the hub: give a branch, a tag or a commit") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"there is neither a folder {name} nor a repository of that name on the hub (private ones need"
            " 'hf auth login')"
        ) from error
    except LocalEntryNotFoundError as error:
        raise TzdError(
            f"there is no folder {name}, and the hub cannot be reached to look for a repository of that name: check the"
            " network, or give a local folder"
        ) from error
    except Exception as error:  # a broken connection has as many names as there are libraries underneath
        reason = first_line(error)
        raise TzdError(f"{name} cannot be had from the hub ({reason}); try again, or give a local folder") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps the transformers library's bars and remarks off the screen; what matters of them is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what the library calls itself
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
