"""A trained model, loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tzd.arrays import Array
from tzd.checkpoint.layout import CONFIG
from tzd.checkpoint.shipped import default_model
from tzd.config import Architecture, ObjectiveSettings, model_config
from tzd.corpus import Tokenizer, load_tokenizer
from tzd.corpus.chat import ChatTemplate, read_template
from tzd.diffusion.denoiser import Denoiser, FunctionDenoiser
from tzd.diffusion.objective import Objective
from tzd.engines import engine_module
from tzd.engines.formats import read_any
from tzd.engines.inputs import PRECISIONS
from tzd.errors import CheckpointError, ConfigError, CorpusError, UserError, nearest
from tzd.hub import hub_model
from tzd.mapping import from_mapping, require
from tzd.sampling import DEFAULT, parts, settings_of
from tzd.sampling import sampler as make_sampler


@dataclass(frozen=True)
class Model:
    """A denoiser with the tokenizer and the configuration that belong to it.

    Attributes:
        denoiser: see `tzd.diffusion.denoiser.Denoiser`.
        tokenizer: text <-> tokens; None for a model made from a function.
        config: the architecture; None for a model made from a function.
        provenance: where the weights come from: corpus, step, seed, version.
        ends: tokens at which its answers end; none for most models, whose texts go on.
        template: how a model of the hub has conversations written, for who asks for a chat.
        sampling: how it is best sampled, if its checkpoint says so: a sampler's `name`, and settings of it.
    """

    denoiser: Denoiser
    tokenizer: Tokenizer | None = None
    config: Architecture | None = None
    provenance: Mapping[str, Any] | None = None
    ends: tuple[int, ...] = ()
    template: ChatTemplate | None = None
    sampling: Mapping[str, Any] | None = None

    @property
    def engine(self) -> str:
        """What computes: "torch", "mlx", or "numpy" for a function."""
        return self.denoiser.engine

    @property
    def mask_id(self) -> int:
        """Id of [MASK]."""
        return self.denoiser.mask_id

    def logits(self, tokens: np.ndarray, t: np.ndarray | None = None) -> Array:
        """Logits over clean tokens.

        Args:
            tokens: (B, L) ints, `mask_id` where masked.
            t: (B,) the time of each row, for models conditioned on it: integers are rows of the time embedding,
                floats in [0, 1] are mapped to it. The masked fraction if not given.

        Returns:
            (B, L, V) float32 of the engine.
        """
        tokens = np.atleast_2d(np.asarray(tokens))
        return self.denoiser.forward(tokens, t=None if t is None else np.atleast_1d(np.asarray(t)))[0]

    def way(self, sampler: str | None, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """A sampler's name, and its settings.

        Args:
            sampler: its name; None is what the model brings, or else the default of all models.
            settings: what is set, in place of what the model brings with its own sampler. A temperature that is set
                holds from beginning to end.

        Raises:
            ConfigError: the model's own sampler takes no such setting.
        """
        if sampler is not None:
            return sampler, dict(settings)
        brought = {"name": DEFAULT, **(self.sampling or {})}
        name = brought.pop("name")
        if "temperature" in settings:
            brought.pop("last_temperature", None)
        if not any(part in settings for part in parts()):  # which make a combination of one's own, of all settings
            known = {**settings_of(name), **brought}
            for key in settings:
                require(key in known, f"sampler '{name}' has no setting '{key}'{nearest(key, known)}")
        return name, {**brought, **settings}

    def encode(self, text: str) -> np.ndarray:
        """Tokens (N,) int32 of a text.

        Raises:
            CorpusError: the text holds what the tokenizer cannot hold, or a token that the model can never write.
        """
        tokens = self._tokenizer().encode(text)
        banned = self.denoiser.banned
        if banned is not None and banned[tokens].any():
            token = tokens[banned[tokens]][:1]
            raise CorpusError(
                f"the text holds {self.decode(token)!r} (token {token[0]}), which this model cannot write; leave it out"
            )
        return tokens

    def decode(self, tokens: np.ndarray) -> str:
        """Text of tokens (N,)."""
        return self._tokenizer().decode(tokens)

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError(
                "this model has no tokenizer: give and take tokens instead of text,"
                " or put its tokenizer.json beside the weights"
            )
        return self.tokenizer


def load(
    path: str | Path | None = None,
    engine: str | None = None,
    denoiser: Any = None,
    *,
    precision: str | int = "32",
    trust_remote_code: bool = False,
    mask_id: int | None = None,
    shift: bool | None = None,
) -> Model:
    """A trained model.

    Args:
        path: a run folder (its best checkpoint), a checkpoint folder, the weights file in one, or a `.npz` or `.pt`
            file of Tiny Diffusion's or a `.safetensors` of SMDM's (or a folder that holds one); or a model of the hub:
            `hf:owner/name`, `hf:owner/name@revision`, `hf:FOLDER`, or a folder with a `config.json` as the hub has it;
            or the name of a model that comes with tzd ("shakespeare-small"), where nothing else has that path. None is
            the first of these.
        engine: "torch", "mlx", or None for the best one here; models of the hub compute on torch.
        denoiser: your own module, for a checkpoint that was trained with it.
        precision: of the matrices: "32", "bf16" (good to about three digits), "int8", "int4" (mlx), or "auto": bf16
            where torch finds it in hardware, else 32. Models of the hub keep that of their weights.
        trust_remote_code: whether code that comes with a model of the hub may run on this machine.
        mask_id: id of a hub model's [MASK], where it is not what the model itself says.
        shift: whether a hub model's logits at position i are those of token i + 1; None: as its kind has it.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, of a newer format, or does not fit the model.
        UserError: there is no such model of the hub, or it would run code that is not trusted; or the
            engine, the device or the model has no such precision.
    """
    precision = str(precision)
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision '{precision}'{nearest(precision, PRECISIONS)}")
    path = default_model() if path is None else path
    name = hub_model(path)
    if name is not None and precision not in ("auto", "32"):
        raise UserError(f"{path} computes in the precision of its own weights: leave out precision={precision}")
    if name is not None:
        return _load_hub(name, engine, denoiser, trust_remote_code=trust_remote_code, mask_id=mask_id, shift=shift)
    if mask_id is not None or shift is not None:
        raise UserError(f"mask_id and shift are for models of the hub (hf:owner/name); {path} says them itself")
    checkpoint = read_any(path)
    where = checkpoint.folder / CONFIG
    config = model_config(checkpoint.section("model"), f"{where}: model")
    module = checkpoint.section("provenance").get("module")
    if module is not None and denoiser is None:
        raise CheckpointError(f"{checkpoint.folder} was trained with a module of your own ({module}): give denoiser=")
    if module is not None and engine is None:  # a module computes on its own engine
        engine = checkpoint.section("provenance").get("run", {}).get("engine", {}).get("name")
    try:
        objective = Objective(from_mapping(ObjectiveSettings, checkpoint.section("diffusion"), f"{where}: diffusion"))
    except ConfigError as error:
        raise CheckpointError(str(error) if str(where) in str(error) else f"{where}: {error}") from error
    described = checkpoint.section("tokenizer")  # empty for weights of which nothing says what their tokens mean
    # now: a run that goes on may soon remove the folder for a better one
    tokenizer = load_tokenizer(described, checkpoint.folder) if described else None
    loaded = engine_module(engine, "denoiser").load_denoiser(
        config,
        checkpoint.weights,
        context_len=objective.settings.context_len,
        block_len=objective.block_len,
        where=checkpoint.source,
        network=denoiser,
        precision=precision,
    )
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{checkpoint.source} writes {config.vocab_size} tokens, and its tokenizer has {tokenizer.vocab_size}: take"
            " both from one place"
        )
    sampling = read_sampling(checkpoint.config, f"{where}: sampling")
    return Model(loaded, tokenizer, config, checkpoint.config.get("provenance"), sampling=sampling)


def read_sampling(config: Mapping[str, Any], where: str) -> Mapping[str, Any] | None:
    """How a checkpoint says that its model is best sampled: its section `sampling`, {"name": …, SETTING: …}, or None.

    Raises:
        CheckpointError: there is no such sampler, or it has no such setting or value.
    """
    section = config.get("sampling")
    if section is None:
        return None
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        raise CheckpointError(f"{where} names no sampler: it is an object with a name and its settings")
    try:
        make_sampler(section["name"], **{key: value for key, value in section.items() if key != "name"})
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from error
    return section


def _load_hub(name: str, engine: str | None, denoiser: Any, **asked: Any) -> Model:
    if engine not in (None, "torch"):
        raise UserError(f"models of the hub compute on the torch engine, not on {engine}: leave out the engine")
    if denoiser is not None:
        raise UserError(f"{name} brings its own network: leave out denoiser=")
    hub = engine_module("torch", "hf").load_hub_model(name, **asked)
    return Model(
        hub.denoiser, hub.tokenizer, hub.config, {"hub": name}, ends=hub.config.ends, template=read_template(hub.folder)
    )


def from_function(function: Any, *, vocab_size: int, seq_len: int, mask_id: int | None = None) -> Model:
    """Any tokens → logits function as a model: oracles, tests, baselines.

    Args:
        function: (B, L) ints -> (B, L, V) floats; NumPy will do.
        vocab_size: V.
        seq_len: longest sequence.
        mask_id: id of [MASK] in the function's input; `vocab_size` if not given.
    """
    return Model(FunctionDenoiser(function, vocab_size, seq_len, vocab_size if mask_id is None else mask_id))
