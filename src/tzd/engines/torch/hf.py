"""Models of the Hugging Face hub as denoisers: LLaDA, Dream and masked language models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tzd.checkpoint.read import read_object
from tzd.config.hf import HfConfig, convention, window
from tzd.corpus.tokenizers.hf import FILES, OLDER_FILES, LibraryTokenizer, read_folder, special_tokens
from tzd.engines.torch.denoiser import TorchDenoiser, best_device
from tzd.engines.torch.hf_files import library_network, own_code, own_code_errors, own_network, weight_files
from tzd.errors import MissingExtraError, TzdError, UserError
from tzd.hub import repository

_WANTED = (*FILES, *OLDER_FILES, "*.json", "*.safetensors", "*.py")
_POSITIONS = 1 << 13  # of one call: the logits of all of them are made, though few may be wanted


class HubNetwork(nn.Module):
    """A model of the hub, called by its convention.

    Args:
        network: takes `input_ids` and `attention_mask`, and returns `logits`.
        config: how it is called.
    """

    def __init__(self, network: nn.Module, config: HfConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def forward(self, tokens: Tensor, attention: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """See `Denoiser.forward`: logits in the network's own precision, (B, L, V), or (N, V) if `rows` is given."""
        batch, length = tokens.shape
        step = max(1, _POSITIONS // length)
        order = None if rows is None else rows.argsort()
        parts = []
        for start in range(0, batch, step):
            chunk = slice(start, start + step)
            logits = self._logits(tokens[chunk], None if attention is None else attention[chunk])
            if rows is not None and order is not None:
                here = rows[order] - start * length
                logits = logits.flatten(0, 1)[here[(here >= 0) & (here < step * length)]]
            parts.append(logits)
        logits = torch.cat(parts)
        return logits if order is None else logits[order.argsort()]

    def _logits(self, tokens: Tensor, attention: Tensor | None) -> Tensor:
        """(B, L, V) logits over the tokens at these very positions."""
        if attention is not None and attention.ndim != 2:
            raise UserError(f"{self.config.name} can be told which tokens are pads, not who attends to whom")
        first, length = len(self.config.before), tokens.shape[1]
        given, seen = self._framed(tokens, attention)
        logits: Tensor = self.network(input_ids=given, attention_mask=self._mask(seen, attention is None)).logits
        if self.config.shift:
            logits = torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
        return logits[:, first : first + length]

    def _framed(self, tokens: Tensor, attention: Tensor | None) -> tuple[Tensor, Tensor]:
        """The special tokens around each row's text, whose pads are behind it; and what of all that is no pad."""
        before, behind = (
            tokens.new_tensor(ids).expand(len(tokens), -1) for ids in (self.config.before, self.config.behind)
        )
        text = torch.ones_like(tokens, dtype=torch.bool) if attention is None else attention
        given = torch.cat([before, tokens, behind], dim=1)
        seen = torch.cat(
            [torch.ones_like(before, dtype=torch.bool), text, torch.zeros_like(behind, dtype=torch.bool)], 1
        )
        place = torch.arange(given.shape[1], device=seen.device)
        ends = (seen * place).amax(dim=1, keepdim=True) + 1 + torch.arange(behind.shape[1], device=seen.device)
        return given.scatter(1, ends, behind), seen.scatter(1, ends, True)

    def _mask(self, seen: Tensor, everything: bool) -> Any:
        """Who may be attended to, as the network wants it."""
        if self.config.attention == "full":
            return "full" if everything else seen[:, None, None].expand(-1, 1, seen.shape[1], -1)
        return seen.long()


@dataclass(frozen=True)
class HubModel:
    """A model of the hub, loaded.

    Attributes:
        denoiser: on the best device here, in the precision of its weights; its logits are float32.
        config: how it is called.
        tokenizer: its own; None if it comes without.
        folder: where its files lie.
    """

    denoiser: TorchDenoiser
    config: HfConfig
    tokenizer: LibraryTokenizer | None
    folder: Path


def load_hub_model(
    name: str, *, trust_remote_code: bool = False, mask_id: int | None = None, shift: bool | None = None
) -> HubModel:
    """A model of the hub.

    Args:
        name: `owner/name`, `owner/name@revision`, or a local folder.
        trust_remote_code: whether code that comes with the model may run.
        mask_id: id of [MASK], where it is not what the model's configuration or tokenizer says.
        shift: whether the logits of position i are those of token i + 1; None: as its kind has it.

    Raises:
        UserError: there is no such model, it would run code of its own, or it is none that fills in blanks.
        CheckpointError: its files are damaged, incomplete or of a kind that can run code.
        MissingExtraError: the transformers library is not installed.
        TzdError: the hub cannot be reached, or the model's own code fails.
    """
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"a model of the hub ({name})", "hf") from error
    place, revision = _place(name)
    described = read_object(repository(place, revision=revision, files=("config.json",)) / "config.json")
    own = own_code(described)
    if own is not None and not trust_remote_code:
        raise UserError(
            f"{name} computes with Python code of its own ({own.rpartition('.')[0]}.py), which would run on this"
            " machine: read it, then allow it with --trust-remote-code (tzd.load: trust_remote_code=True)"
        )
    folder = repository(place, revision=revision, files=_WANTED)
    files = weight_files(folder)
    tokenizer = read_folder(folder) if any((folder / file).is_file() for file in (FILES[0], *OLDER_FILES)) else None
    framed = own is None or own == dict(described["auto_map"]).get("AutoModelForMaskedLM")
    config = _describe(name, described, tokenizer, framed=framed, mask_id=mask_id, shift=shift)
    if own is None:
        network = library_network(name, folder, described, files)
    else:
        network = own_network(name, folder, own, described, files)
    return _loaded(network, config, described, tokenizer, folder)


def _place(name: str) -> tuple[str, str | None]:
    """A name and its revision."""
    place, at, revision = name.rpartition("@")
    return (place, revision) if at and not Path(name).expanduser().is_dir() else (name, None)


def _describe(
    name: str,
    described: Mapping[str, Any],
    tokenizer: LibraryTokenizer | None,
    *,
    framed: bool,
    mask_id: int | None,
    shift: bool | None,
) -> HfConfig:
    """How a model is called, as far as its files say; its logits' columns are still to be counted."""
    usual = convention(described)
    theirs = (mask_id, described.get("mask_token_id"), tokenizer and tokenizer.mask_id, usual.mask_id)
    mask = next((i for i in theirs if type(i) is int), None)
    if mask is None:
        raise UserError(f"nothing says which token of {name} is [MASK]: give its id (tzd.load: mask_id=)")
    before, behind = tokenizer.frame if framed and tokenizer is not None else ([], [])
    return HfConfig(
        name=name,
        kind=str(described.get("model_type")),
        vocab_size=0,
        mask_id=mask,
        block_size=window(described, name) - len(before) - len(behind),
        n_embedding_rows=0,
        shift=usual.shift if shift is None else shift,
        attention=usual.attention,
        before=tuple(before),
        behind=tuple(behind),
        ends=() if before or behind else _ends(usual.ends, described, tokenizer),
    )


def _ends(usual: tuple[str, ...], described: Mapping[str, Any], tokenizer: LibraryTokenizer | None) -> tuple[int, ...]:
    """The tokens at which an answer ends."""
    said = described.get("eos_token_id")
    ids = [*(said if isinstance(said, list) else [said]), tokenizer and tokenizer.eos_id]
    ids += [tokenizer and tokenizer.library.token_to_id(token) for token in usual]
    return tuple(sorted({i for i in ids if type(i) is int}))


def _loaded(
    network: Any, config: HfConfig, described: Mapping[str, Any], tokenizer: LibraryTokenizer | None, folder: Path
) -> HubModel:
    try:
        network = network.to(best_device()).eval()
    except torch.OutOfMemoryError as error:
        raise TzdError(
            f"{config.name} does not fit into the memory of {best_device()}: take a smaller model"
        ) from error
    rows = network.get_input_embeddings().weight.shape[0]
    if not 0 <= config.mask_id < rows:
        raise UserError(f"{config.name} has {rows} tokens, so that [MASK] cannot be {config.mask_id}: give mask_id=")
    with own_code_errors(config.name, described), torch.inference_mode():
        columns = HubNetwork(network, config)(torch.zeros((1, 1), dtype=torch.long, device=best_device())).shape[-1]
    config = replace(config, vocab_size=columns, n_embedding_rows=rows)
    denoiser = TorchDenoiser(HubNetwork(network, config), config, device=best_device())
    denoiser.banned = _banned(config, tokenizer, folder)
    return HubModel(denoiser, config, tokenizer, folder)


def _banned(config: HfConfig, tokenizer: LibraryTokenizer | None, folder: Path) -> np.ndarray:
    """(V,) bool: [MASK], padding, the tokens around a text, and the columns that are no tokens at all."""
    banned = np.zeros(config.vocab_size, bool)
    special = {config.mask_id, *config.before, *config.behind}
    if tokenizer is not None:
        tokens = np.fromiter(tokenizer.library.get_vocab().values(), np.int64)
        banned[:] = True
        banned[tokens[tokens < config.vocab_size]] = False
        special.add(tokenizer.library.token_to_id(special_tokens(folder).get("pad_id", "")))
    special -= {None, *config.ends}
    banned[[i for i in special if i < config.vocab_size]] = True
    return banned
