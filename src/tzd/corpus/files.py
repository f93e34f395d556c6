"""Where a corpus lies: the look-up, the download, and reading text without surprises."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tzd.errors import CorpusError, TzdError
from tzd.mapping import require


@dataclass(frozen=True)
class PublishedFile:
    """A file that the world knows.

    Attributes:
        name: what it is called here.
        url: where it is downloaded from.
        sha256: hex digest of its bytes, the only thing that makes it genuine.
    """

    name: str
    url: str
    sha256: str


def cache_folder(kind: str) -> Path:
    """The user's cache for files of a kind ("corpora", "tokens"); it need not exist."""
    import platformdirs

    return platformdirs.user_cache_path("tzd", appauthor=False) / kind


@dataclass(frozen=True)
class Lookup:
    """Where to look for a corpus, and whether to fetch it.

    Attributes:
        path: an explicit path, or what else stands for the user's own files; it comes before everything else.
        data_dir: folder that comes before `$TZD_DATA_DIR`, `./data` and the user's cache.
        download: whether a published file may be downloaded into the cache.
        progress: whether a download shows a progress bar.
    """

    path: str | Path | None = None
    data_dir: str | Path | None = None
    download: bool = True
    progress: bool = False

    def folders(self) -> list[Path]:
        """The folders that are searched, in their order."""
        named = (self.data_dir, os.environ.get("TZD_DATA_DIR"), "data")
        return [*(Path(folder).expanduser() for folder in named if folder), cache_folder("corpora")]

    def find(self, path: str | Path) -> Path | None:
        """The file or folder that a path means: itself, or its namesake in one of the folders.

        A leading `data/` stands for all of the folders, so that the customary `data/tiny_shakespeare.txt` is found
        wherever it lies. An absolute path means just itself.
        """
        path = Path(path).expanduser()
        if path.exists():
            return path
        if path.is_absolute():
            return None
        inside = path.relative_to("data") if path.parts[:1] == ("data",) != path.parts else path
        return next((folder / inside for folder in self.folders() if (folder / inside).exists()), None)

    def published(self, file: PublishedFile) -> Path:
        """A published file, downloaded if it is nowhere; its content is checked wherever it comes from.

        Raises:
            CorpusError: it is nowhere and may not be downloaded, or what is there is another file.
            TzdError: the download failed; nothing is left behind.
        """
        found = self.find(self.path or file.name)
        if found is None and (self.path or not self.download):
            raise self.missing(self.path or file.name)
        if found is None:
            return _download(file, self.progress)
        digest = hashlib.sha256(read_bytes(found)).hexdigest()
        if digest != file.sha256:
            raise CorpusError(
                f"{found} is not the published {file.name}: its sha256 is {digest[:12]}…, not {file.sha256[:12]}…; "
                "remove it, or open it as a text of your own (data.name=text data.path=…)"
            )
        return found

    def refuse_path(self, name: str) -> None:
        """Raises ConfigError if a path was given to a corpus that has none."""
        require(not self.path, f"the corpus '{name}' takes no path; data.path={self.path} goes with data.name=text")

    def missing(self, path: str | Path) -> CorpusError:
        """The error for a path that leads nowhere."""
        searched = "" if Path(path).is_absolute() else f" (nor in {', '.join(map(str, self.folders()))})"
        return CorpusError(f"no such file or folder: {path}{searched}; check the path, or set TZD_DATA_DIR")


def _download(file: PublishedFile, progress: bool) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    folder = cache_folder("corpora")
    by_hand = f"put {file.name} into ./data or the folder that TZD_DATA_DIR names"
    try:
        # Pooch writes beside the target, checks the hash, and only then moves the file to its name.
        downloader = pooch.HTTPDownloader(progressbar=progress, timeout=30)
        pooch.retrieve(file.url, f"sha256:{file.sha256}", fname=file.name, path=folder, downloader=downloader)
    except OSError as error:  # those of `requests` are among them
        reason = error.strerror or type(error).__name__
        raise TzdError(f"cannot download {file.url} to {folder} ({reason}); {by_hand}") from error
    except ValueError as error:
        raise TzdError(
            f"{file.url} does not have the expected sha256 {file.sha256[:12]}… and was not kept; {by_hand}"
        ) from error
    return folder / file.name


def read_bytes(path: Path) -> bytes:
    """The content of a file; CorpusError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}; a file that you may read is needed") from error


def read_text(path: Path) -> str:
    r"""The text of a UTF-8 file, without a byte order mark, every line ending a plain `\n`.

    Raises:
        CorpusError: it cannot be read or is not UTF-8.
    """
    content = read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path} is not UTF-8 (byte 0x{content[error.start]:02x} at offset {error.start}); save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
