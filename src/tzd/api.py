"""The public face: what `import tzd` offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tzd.arrays import Array
from tzd.checkpoint import RunFolder, write_checkpoint, write_npz
from tzd.checkpoint.layout import CONFIG
from tzd.checkpoint.npz import NPZ
from tzd.config import Architecture, ObjectiveSettings, RunConfig, model_config, run_config
from tzd.corpus import Tokenizer, evaluation_windows, load_tokenizer
from tzd.diffusion import likelihood
from tzd.diffusion.denoiser import Denoiser, FunctionDenoiser
from tzd.engines import engine_module
from tzd.engines.formats import read_any
from tzd.errors import CheckpointError, UserError
from tzd.mapping import from_mapping
from tzd.sampling import Frame, descriptions
from tzd.sampling import sampler as make_sampler
from tzd.sampling import stream as stream_canvas

Prompt = str | Sequence[str] | Sequence[Sequence[int]] | np.ndarray
_LARGEST = 2**20  # of what is said about a file: heads, tokens of a window
OTHERS_WEIGHTS = (".npz", ".pt", ".pth", ".safetensors", ".ckpt")  # endings of files; a checkpoint is a folder


@dataclass(frozen=True)
class Model:
    """A denoiser with the tokenizer and the configuration that belong to it.

    Attributes:
        denoiser: see `tzd.diffusion.denoiser.Denoiser`.
        tokenizer: text <-> tokens; None for a model made from a function.
        config: the architecture; None for a model made from a function.
        provenance: where the weights come from: corpus, step, seed, version.
    """

    denoiser: Denoiser
    tokenizer: Tokenizer | None = None
    config: Architecture | None = None
    provenance: Mapping[str, Any] | None = None

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

    def encode(self, text: str) -> np.ndarray:
        """Tokens (N,) int32 of a text."""
        return self._tokenizer().encode(text)

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


@dataclass(frozen=True)
class Sample:
    """What a sampler wrote.

    Attributes:
        text: one text per row, the prompt included; empty for a model without a tokenizer.
        tokens: (B, P + length) int32.
        nfe: denoiser calls that it took; guidance counts two.
    """

    text: list[str]
    tokens: np.ndarray
    nfe: int


def load(path: str | Path, engine: str | None = None, denoiser: Any = None) -> Model:
    """A trained model.

    Args:
        path: a run folder (its best checkpoint), a checkpoint folder, the weights file in one, or a `.npz` or `.pt`
            file of Tiny Diffusion's or a `.safetensors` of SMDM's (or a folder that holds one).
        engine: "torch", "mlx", or None for the best one here.
        denoiser: your own module, for a checkpoint that was trained with it.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, of a newer format, or does not fit the model.
    """
    checkpoint = read_any(path)
    where = checkpoint.folder / CONFIG
    config = model_config(checkpoint.section("model"), f"{where}: model")
    module = checkpoint.section("provenance").get("module")
    if module is not None and denoiser is None:
        raise CheckpointError(f"{checkpoint.folder} was trained with a module of your own ({module}): give denoiser=")
    if module is not None and engine is None:  # a module computes on its own engine
        engine = checkpoint.section("provenance").get("run", {}).get("engine", {}).get("name")
    objective = from_mapping(ObjectiveSettings, checkpoint.section("diffusion"), f"{where}: diffusion")
    loaded = engine_module(engine, "denoiser").load_denoiser(
        config, checkpoint.weights, context_len=objective.context_len, where=checkpoint.source, network=denoiser
    )
    described = checkpoint.section("tokenizer")  # empty for weights of which nothing says what their tokens mean
    tokenizer = load_tokenizer(described, checkpoint.folder) if described else None
    return Model(loaded, tokenizer, config, checkpoint.config.get("provenance"))


def from_function(function: Any, *, vocab_size: int, seq_len: int, mask_id: int | None = None) -> Model:
    """Any tokens → logits function as a model: oracles, tests, baselines.

    Args:
        function: (B, L) ints -> (B, L, V) floats; NumPy will do.
        vocab_size: V.
        seq_len: longest sequence.
        mask_id: id of [MASK] in the function's input; `vocab_size` if not given.
    """
    return Model(FunctionDenoiser(function, vocab_size, seq_len, vocab_size if mask_id is None else mask_id))


def stream(
    model: Model,
    *,
    length: int = 256,
    prompt: Prompt = "",
    sampler: str = "ancestral",
    batch_size: int = 1,
    seed: int = 0,
    **settings: Any,
) -> Iterator[Frame]:
    """Denoises, one `Frame` per step.

    Args:
        model: what `load` returned.
        length: number of new tokens per row; beyond the model's window the text is written in connected windows.
        prompt: what each row begins with: a text, a list of texts of equal length, or (B, P) tokens, an array or
            nested lists.
        sampler: a name; see `samplers`.
        batch_size: rows, where the prompt does not say.
        seed: of every draw.
        settings: the sampler's own, such as `steps`, `temperature`, `block_len`.

    Raises:
        UserError: a setting that the sampler does not have, a value out of its range, or an impossible prompt.
    """
    rule = make_sampler(sampler, **settings)
    rows = _prompt_rows(model, prompt, _whole("batch_size", batch_size, 1))
    blank = np.full((len(rows), _whole("length", length, 1)), model.mask_id, np.int32)
    canvas = np.concatenate([rows, blank], axis=1)
    return stream_canvas(model.denoiser, canvas, sampler=rule, seed=_whole("seed", seed, 0))


def sample(model: Model, **request: Any) -> Sample:
    """Writes text. Takes what `stream` takes."""
    return finished(model, stream(model, **request))


def infill(
    model: Model,
    text: str,
    *,
    mask: str = "_",
    sampler: str = "ancestral",
    batch_size: int = 1,
    seed: int = 0,
    **settings: Any,
) -> Sample:
    """Fills the blanks of a text; the rest of it never changes.

    Args:
        model: what `load` returned.
        text: a text in which every `mask` stands for one token to be written.
        mask: a single character.
        sampler: a name; see `samplers`.
        batch_size: number of versions.
        seed: of every draw.
        settings: the sampler's own.

    Raises:
        UserError: the text has no blank.
    """
    return finished(
        model, infill_stream(model, text, mask=mask, sampler=sampler, batch_size=batch_size, seed=seed, **settings)
    )


def infill_stream(
    model: Model,
    text: str,
    *,
    mask: str = "_",
    sampler: str = "ancestral",
    batch_size: int = 1,
    seed: int = 0,
    **settings: Any,
) -> Iterator[Frame]:
    """Like `infill`, one `Frame` per step."""
    if len(mask) != 1:
        raise UserError(f"the mask must be a single character, not {mask!r}")
    if mask not in text:
        raise UserError(f"the text has no blank: write {mask!r} for every token that is to be filled in")
    rule = make_sampler(sampler, **settings)
    pieces = [np.append(model.encode(part), model.mask_id) for part in text.split(mask)]
    row = np.concatenate(pieces)[:-1].astype(np.int32)
    canvas = np.repeat(row[None], _whole("batch_size", batch_size, 1), axis=0)
    return stream_canvas(model.denoiser, canvas, sampler=rule, seed=_whole("seed", seed, 0))


def finished(model: Model, frames: Iterator[Frame]) -> Sample:
    """The last of a sampler's frames as a `Sample`."""
    *_, last = frames
    text = [model.decode(row) for row in last.tokens] if model.tokenizer is not None else []
    return Sample(text, last.tokens, last.nfe)


def _whole(name: str, value: Any, least: int) -> int:
    """A whole number, of Python or NumPy, that is not too small."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise UserError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise UserError(f"{name} must be at least {least}, not {value}")
    return int(value)


def _number(name: str, value: Any) -> int | None:
    """A number that is said about a file; None where none is."""
    if value is None:
        return None
    number = _whole(name, value, 0 if name == "context_len" else 1)
    if number > _LARGEST:
        raise UserError(f"{name} must be at most {_LARGEST}, not {number}")
    return number


def _prompt_rows(model: Model, prompt: Prompt, batch_size: int) -> np.ndarray:
    """(B, P) int32."""
    if isinstance(prompt, str):
        row = model.encode(prompt) if prompt else np.zeros(0, np.int32)
        return np.repeat(row[None], batch_size, axis=0)
    given: Any = prompt
    if isinstance(prompt, Sequence) and all(isinstance(text, str) for text in prompt):
        given = [model.encode(str(text)) for text in prompt]
    try:
        rows = np.atleast_2d(given)
    except ValueError as error:
        raise UserError(
            "the prompts of one batch must be of equal length, in tokens; sample them one by one"
        ) from error
    if rows.dtype.kind not in "iu" or rows.ndim != 2 or not len(rows):
        raise UserError(
            "a prompt is a text, a list of texts, or whole numbers (B, P); "
            f"it cannot be {rows.dtype} of shape {rows.shape}"
        )
    if rows.size and (rows.min() < 0 or rows.max() >= model.denoiser.vocab_size):
        raise UserError(f"the prompt has tokens outside 0..{model.denoiser.vocab_size - 1}")
    return rows.astype(np.int32)


def nelbo(model: Model, text_or_tokens: str | np.ndarray, *, draws: int = 8, seed: int = 0) -> likelihood.Nelbo:
    """An upper bound on −log p of a text, cut into windows of the model's length.

    Args:
        model: what `load` returned.
        text_or_tokens: a text, (N,) tokens, or (B, L) tokens: rows that are scored as they are.
        draws: masks per window; their numbers of masked tokens are stratified.
        seed: fixes the masks.

    Returns:
        `nats_per_token`, `stderr`, `bits_per_char`, `tokens`.
    """
    if isinstance(text_or_tokens, str):
        tokens = model.encode(text_or_tokens)
    else:
        tokens = np.asarray(text_or_tokens)
    groups = [tokens] if tokens.ndim == 2 else evaluation_windows(tokens, model.denoiser.seq_len)
    context = model.denoiser.context_len
    if isinstance(text_or_tokens, str) and not context:
        characters: int | None = len(text_or_tokens)
    elif model.tokenizer is None:
        characters = None
    else:  # a row of tokens is decoded in one piece: a window's border may lie within a character
        scored = [tokens] if tokens.ndim == 1 and not context else [row[context:] for group in groups for row in group]
        characters = sum(len(model.decode(row)) for row in scored)
    seed = _whole("seed", seed, 0)
    return likelihood.nelbo(model.denoiser, groups, draws=draws, seed=seed, characters=characters)


def log_likelihood(
    model: Model, prompt: str | np.ndarray, answer: str | np.ndarray, *, draws: int = 128, seed: int = 0
) -> float:
    """A lower bound on log p(answer | prompt), in nats. See `tzd.diffusion.likelihood.log_likelihood`."""
    given, scored = (model.encode(x) if isinstance(x, str) else np.asarray(x) for x in (prompt, answer))
    return likelihood.log_likelihood(model.denoiser, given, scored, draws=draws, seed=_whole("seed", seed, 0))


def train(config: RunConfig | Mapping[str, Any] | Sequence[str] = (), denoiser: Any = None) -> Path | None:
    """Trains a model.

    Args:
        config: a `RunConfig`, the same as plain data, or a list of overrides as on the command line
            (`["model=tiny_cpu", "data=pydocs", "training.max_steps=500"]`).
        denoiser: your own module of the engine's kind (torch's or MLX's) in place of the configured architecture: it
            takes tokens (B, L) and returns logits (B, L, V), V being the tokenizer's vocabulary.

    Returns:
        The folder of the best checkpoint; the run folder is its parent, and `load` takes either. None in every
        process but the first, where several train together.
    """
    from tzd.loggers import run_loggers

    if isinstance(config, str):
        raise UserError(f"train takes a list of overrides, not a text: {config.split()}")
    if isinstance(config, Mapping):
        config = run_config(config)
    elif not isinstance(config, RunConfig):
        from tzd.configs import compose

        config = compose(list(config))
    start = config.training.init_from
    run = engine_module(config.engine.name, "train").train(
        config, run_loggers(config), network=denoiser, initial=None if start is None else read_any(start)
    )
    if run is None:
        return None
    best = RunFolder(run).resolve("best")
    assert best is not None  # a run that ends has validated
    return best


def convert(
    source: str | Path,
    destination: str | Path,
    n_head: int | None = None,
    block_size: int | None = None,
    context_len: int | None = None,
) -> Path:
    """Writes what `source` holds in another format, without the state that training could resume from.

    Args:
        source: what `load` takes.
        destination: a folder that does not exist yet, for a tzd checkpoint; or `NAME.npz`, for the single file of Tiny
            Diffusion's MLX port, beside which `NAME.json` is written.
        n_head: attention heads, which a `.pt` file does not say.
        block_size: length of the window, which it does not say either; 256 if nothing says it.
        context_len: length of the prefix that training never masked, which no single file says; 64, or 0 where the
            window is no longer than that, if nothing says it.

    Raises:
        CheckpointError: there is nothing to read, or it is damaged or contradicts what is said.
        UserError: the destination exists, or the model cannot be written there.
    """
    return converted(source, destination, n_head=n_head, block_size=block_size, context_len=context_len)[0]


def converted(source: str | Path, destination: str | Path, **given: int | None) -> tuple[Path, str | None]:
    """Like `convert`. Returns also a line on who can read a `.npz`; None for a folder."""
    destination = Path(destination)
    given = {name: _number(name, value) for name, value in given.items()}
    if destination.name.lower() in OTHERS_WEIGHTS:
        raise UserError(f"cannot write {destination}: it is an ending without a name; call it NAME{NPZ}, or a folder")
    if destination.suffix != NPZ and destination.suffix.lower() in OTHERS_WEIGHTS:
        raise UserError(
            f"cannot write {destination}: a tzd checkpoint is a folder, and the only other format written is {NPZ}; "
            f"name one without '{destination.suffix}'"
        )
    beside = [destination.with_suffix(".json")] if destination.suffix == NPZ else []
    for path in (destination, *beside):
        if path.exists():
            raise UserError(f"{path} exists already: choose another name")
    checkpoint = read_any(source, **given)
    if beside:
        return destination, write_npz(destination, checkpoint)
    described = checkpoint.section("tokenizer")
    files = load_tokenizer(described, checkpoint.folder).files() if described else {}
    return write_checkpoint(destination, config=checkpoint.config, weights=checkpoint.weights, files=files), None


def samplers() -> dict[str, str]:
    """Every sampler's name and what it is, in a line."""
    return descriptions()
