"""Prompts and answers as tokens: how a conversation is written down, and where an answer ends."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tzd.corpus.tokenizer import Tokenizer, check_tokens, load_tokenizer
from tzd.errors import CheckpointError, CorpusError, MissingExtraError, first_line
from tzd.untrusted import read_file, read_json

TEMPLATE = "chat_template.jinja"  # as the hub's repositories call it, beside tokenizer.json
_CONFIG = "tokenizer_config.json"
TEMPLATE_FILES = (TEMPLATE, _CONFIG)  # where a template may be

Message = Mapping[str, str]  # "role": system, user, assistant or the like; "content"


def user_says(text: str) -> tuple[Message, ...]:
    """The conversation that consists of a prompt."""
    return ({"role": "user", "content": text},)


@dataclass(frozen=True)
class ChatTemplate:
    """How a tokenizer's makers write conversations.

    Attributes:
        source: Jinja, as `transformers` renders it. It comes from elsewhere and is rendered in a sandbox.
        special_tokens: what it can call by name: `bos_token`, `eos_token` and the like.
    """

    source: str = field(repr=False)
    special_tokens: Mapping[str, str]

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation as text, up to where the assistant's next answer begins.

        The clock (`strftime_now`) is not handed to the template: tomorrow's prompts would be others than today's.

        Raises:
            CorpusError: the template cannot write this conversation.
            MissingExtraError: Jinja is not installed.
        """
        template = self._compiled
        try:
            text: str = template.render(messages=messages, add_generation_prompt=True, **self.special_tokens)
        except Exception as error:  # what a template can get wrong, Jinja raises as it comes
            raise CorpusError(
                f"the tokenizer's chat template cannot write this conversation ({first_line(error)}): change the"
                " messages, or do without (data.chat_template=false)"
            ) from error
        return text

    @cached_property
    def _compiled(self) -> Any:
        try:
            from jinja2 import TemplateError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise MissingExtraError("a tokenizer's chat template", "hf") from error

        def raise_exception(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        environment.globals["raise_exception"] = raise_exception
        try:
            return environment.from_string(self.source)
        except Exception as error:  # TemplateError, and what its parser does not expect: a number of 5,000 digits
            raise CorpusError(
                f"the tokenizer's chat template is no Jinja ({first_line(error)}): set data.chat_template=false"
            ) from error


def read_template(folder: Path) -> ChatTemplate | None:
    """The chat template in a folder as the hub holds one; None if there is none.

    Raises:
        CorpusError: a file is damaged.
    """
    try:
        config = dict(read_json(folder / _CONFIG)) if (folder / _CONFIG).is_file() else {}
        whole = (folder / TEMPLATE).is_file()
        source = read_file(folder / TEMPLATE).decode("utf-8") if whole else config["chat_template"]
    except KeyError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CorpusError(f"the chat template in {folder} cannot be read: {error}; get the file again") from error
    if isinstance(source, list):  # several by name, of which one is the usual
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default")
    if not isinstance(source, str):
        return None
    tokens = {name: token for name, token in config.items() if name.endswith("_token")}
    special = {name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()}
    return ChatTemplate(source, {name: token for name, token in special.items() if isinstance(token, str)})


@dataclass(frozen=True)
class PairTokenizer:
    """A `Tokenizer` for prompts and answers; a checkpoint that has one was trained on such.

    Attributes:
        base: text <-> tokens. If it has no token that ends a text, one is added, V.
        template: how conversations are written; None writes what is said, and nothing between.
    """

    kind: ClassVar[str] = "pairs"
    base: Tokenizer
    template: ChatTemplate | None = None

    @property
    def eos_id(self) -> int:
        """The token that ends an answer, and fills the rest of a window."""
        return self.base.vocab_size if self.base.eos_id is None else self.base.eos_id

    @property
    def mask_id(self) -> int | None:
        """See `Tokenizer.mask_id`."""
        return self.base.mask_id

    @property
    def vocab_size(self) -> int:
        """Number of tokens, V."""
        return self.base.vocab_size + (self.base.eos_id is None)

    def encode(self, text: str) -> np.ndarray:
        """See `Tokenizer.encode`; nothing ends the text."""
        return self.base.encode(text)

    def prompt(self, messages: Sequence[Message], *, chat: bool | None = None) -> np.ndarray:
        """The tokens before an answer, (P,) int32.

        Args:
            messages: what was said.
            chat: True writes it by the template, False plainly, end to end; None by the template if there is one.

        Raises:
            CorpusError: there is no template, it cannot write these messages, or they cannot be tokenized.
        """
        if self.template is None and chat:
            raise CorpusError("the tokenizer has no chat template: write the prompt plainly, as it is")
        if self.template is None or chat is False:
            return self.encode("".join(message["content"] for message in messages))
        return self.encode(self.template.render(messages))

    def decode(self, tokens: np.ndarray) -> str:
        """See `Tokenizer.decode`; the padding at the end is no text."""
        tokens = check_tokens(tokens, self.vocab_size)
        tokens = tokens[: int(np.flatnonzero(np.append(-1, tokens) != self.eos_id)[-1])]
        return self.base.decode(tokens[tokens < self.base.vocab_size])

    def pieces(self, tokens: np.ndarray) -> list[str]:
        """See `Tokenizer.pieces`; an end that was added is empty."""
        tokens = check_tokens(tokens, self.vocab_size)
        added = tokens >= self.base.vocab_size
        texts = self.base.pieces(np.where(added, 0, tokens))
        return ["" if end else text for end, text in zip(added, texts, strict=True)]

    def describe(self) -> dict[str, Any]:
        """See `Tokenizer.describe`."""
        said: dict[str, Any] = {"kind": self.kind, "vocab_size": self.vocab_size, "eos_id": self.eos_id}
        if self.template is not None:
            said["chat_template"] = hashlib.sha256(self.template.source.encode()).hexdigest()
            said["special_tokens"] = dict(self.template.special_tokens)
        return {**said, "base": self.base.describe()}

    def files(self) -> dict[str, bytes]:
        """See `Tokenizer.files`."""
        template = {} if self.template is None else {TEMPLATE: self.template.source.encode()}
        return {**self.base.files(), **template}


def load_pairs(description: Mapping[str, Any], folder: Path) -> PairTokenizer:
    """The tokenizer of a checkpoint that was trained on pairs, from its description and the files beside it.

    Raises:
        CheckpointError: as `load_tokenizer`.
    """
    base, special = description.get("base"), description.get("special_tokens", {})
    if not isinstance(base, Mapping) or not isinstance(special, Mapping) or base.get("kind") == PairTokenizer.kind:
        raise CheckpointError(f"{folder}: the description of its tokenizer is damaged; get the checkpoint again")
    template = None
    if "chat_template" in description:
        try:
            template = ChatTemplate(read_file(folder / TEMPLATE).decode("utf-8"), dict(special))
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{folder / TEMPLATE} cannot be read ({error}); get the checkpoint again") from error
    tokenizer = PairTokenizer(load_tokenizer(base, folder), template)
    if description != tokenizer.describe():
        raise CheckpointError(
            f"{folder} describes its tokenizer as {dict(description)}, but it is {tokenizer.describe()}; "
            "the files beside it are those of another one: take all from one place"
        )
    return tokenizer


def same_tokens(description: object, tokenizer: Tokenizer) -> bool:
    """Whether the tokens of a tokenizer of that description mean the same: with pairs, their base's own do."""
    ours = [tokenizer.describe()]
    if isinstance(tokenizer, PairTokenizer) and tokenizer.base.eos_id is not None:
        ours.append(tokenizer.base.describe())
    return description in ours
