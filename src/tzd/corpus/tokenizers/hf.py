"""Any fast `AutoTokenizer` of the transformers library, from the hub or a local folder; its code is never run."""

from __future__ import annotations

from tzd.config import TokenizerSettings
from tzd.corpus.corpus import Texts
from tzd.corpus.tokenizer import Kind
from tzd.corpus.tokenizers._library import LibraryTokenizer, load_library
from tzd.errors import CorpusError, MissingExtraError


def _make(settings: TokenizerSettings, corpus: Texts) -> LibraryTokenizer:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("tokenizer.name=hf", "hf") from error
    name = settings.pretrained_model_name_or_path
    try:
        pretrained = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the library raises OSError, ValueError, KeyError and more for what it cannot read
        reason = str(error).strip().split("\n")[0]
        raise CorpusError(
            f"no tokenizer can be had from tokenizer.pretrained_model_name_or_path={name} ({reason}); "
            "give a name on the hub, with a network, or a folder that holds tokenizer.json"
        ) from error
    if not getattr(pretrained, "is_fast", False):
        raise CorpusError(f"the tokenizer {name} has no fast version, which is the one that a checkpoint can hold")
    # A copy by way of its own file: what is trained with is what a checkpoint gives back, without the hub.
    return LibraryTokenizer("hf", load_library(pretrained.backend_tokenizer.to_str().encode()))


KIND = Kind(
    make=_make,
    load=lambda description, content: LibraryTokenizer("hf", load_library(content)),
    setting="pretrained_model_name_or_path",
    has_file=True,
)
