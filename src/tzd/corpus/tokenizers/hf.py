"""Any tokenizer of the `tokenizers` library, from the hub or a local folder; code that comes with one is never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tzd.config import TokenizerSettings
from tzd.corpus.corpus import Texts
from tzd.corpus.tokenizer import FILE, Kind
from tzd.corpus.tokenizers._library import LibraryTokenizer, load_library
from tzd.errors import CorpusError, MissingExtraError, TzdError, first_line
from tzd.hub import quietly, repository
from tzd.untrusted import read_file, read_json

# What a tokenizer is made of: the library's own file; which tokens are special; the files of older kinds.
FILES = (FILE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
OLDER_FILES = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model")
_SPECIAL = {"mask_id": "mask_token", "eos_id": "eos_token"}
# Tokenizers whose own code does no more than a class of the transformers library: Dream's is Qwen's.
_STAND_INS = {"DreamTokenizer": "Qwen2TokenizerFast"}


def read_folder(folder: Path) -> LibraryTokenizer:
    """The tokenizer in a folder as the hub holds one; nothing in it can run.

    Without `tokenizer.json` the transformers library makes it of the files of older kinds.

    Raises:
        CorpusError: there is none, or it is damaged.
        MissingExtraError: it takes the transformers library, which is not installed.
    """
    path = folder / FILE
    try:
        content = read_file(path) if path.is_file() else _converted(folder)
        library = load_library(content)
        ids = {name: library.token_to_id(token) for name, token in special_tokens(folder).items() if name in _SPECIAL}
        return LibraryTokenizer("hf", library, **ids)
    except TzdError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CorpusError(f"{path} cannot be read: {error}; get the file again") from error


def special_tokens(folder: Path) -> dict[str, str]:
    """What a folder's JSON says of special tokens: "mask_id", "eos_id" and "pad_id", as far as there are any."""
    said: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):  # the latter is the newer
        said |= _json(folder / name)
    found = {}
    for name, key in {**_SPECIAL, "pad_id": "pad_token"}.items():
        token = said.get(key)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            found[name] = token
    return found


def _json(file: Path) -> dict[str, Any]:
    """What a JSON file says; nothing if there is none."""
    try:
        said = read_json(file) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise CorpusError(f"{file} cannot be read: {error}; get the file again") from error
    if not isinstance(said, dict):
        raise CorpusError(f"{file} is damaged: it is no JSON object; get the file again")
    return said


def _converted(folder: Path) -> bytes:
    """`tokenizer.json` of a folder that has only the files of an older kind."""
    if not any((folder / name).is_file() for name in OLDER_FILES):
        raise CorpusError(f"{folder} holds no tokenizer: neither {FILE} nor {', '.join(OLDER_FILES)}")
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(f"a tokenizer without {FILE} ({folder})", "hf") from error
    named = _json(folder / "tokenizer_config.json").get("tokenizer_class")
    cls = getattr(transformers, _STAND_INS.get(str(named), "AutoTokenizer"))
    try:
        with quietly():
            pretrained = cls.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            content: str = pretrained.backend_tokenizer.to_str()
    except Exception as error:  # the library raises OSError, ValueError, KeyError and more for what it cannot read
        reason = first_line(error)
        raise CorpusError(
            f"the transformers library makes no {FILE} of what lies in {folder} ({reason}); put one there"
        ) from error
    return content.encode()


def _make(settings: TokenizerSettings, corpus: Texts) -> LibraryTokenizer:
    name = settings.pretrained_model_name_or_path
    assert name is not None  # `make_tokenizer` has seen to it
    return read_folder(repository(name, files=(*FILES, *OLDER_FILES)))


def _load(description: Mapping[str, Any], content: bytes) -> LibraryTokenizer:
    return LibraryTokenizer("hf", load_library(content), **{n: description[n] for n in _SPECIAL if n in description})


KIND = Kind(_make, _load, setting="pretrained_model_name_or_path", has_file=True)
