"""The readers of weights: checkpoints, runs, single files."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tzd
from fuzz import formats
from fuzz.mutators import Files
from fuzz.reader import Reader, files_in
from tzd.checkpoint import RunFolder, read_checkpoint, write_checkpoint
from tzd.checkpoint.layout import signed
from tzd.config import ObjectiveSettings, TinyConfig
from tzd.corpus import load_tokenizer
from tzd.engines.formats import read_any
from tzd.mapping import to_mapping
from tzd.training.initial import initial_weights
from tzd.viewers.panel import Panel

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
CONFIG = TinyConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=4, block_size=8)
SHAPES = {
    "token_embedding.weight": (6, 4),
    "head.weight": (5, 4),
    "blocks.0.attention.qkv.weight": (12, 4),
    "blocks.0.attention.out.weight": (4, 4),
    "blocks.0.mlp.up.weight": (16, 4),
    "blocks.0.mlp.down.weight": (4, 16),
}
STATE = {
    "step": 7,
    "moments": {0: np.linspace(0, 1, 5), 1: np.arange(3)},
    "ema": (None, True, 0.1),
    "inf": float("inf"),
}


def checkpoint_files() -> Files:
    """A checkpoint of a very small model, with all that one can hold."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "model": {"model_type": "tiny", **to_mapping(CONFIG)},
            "tokenizer": {"kind": "char", "vocab_size": 5},
            "diffusion": to_mapping(ObjectiveSettings()),
            "provenance": {"run": {"engine": {"name": "torch"}}, "module": None, "validation": {"nats_per_token": 1.5}},
            "step": 7,
            "sampling": {"name": "dilated", "steps": 8, "temperature": 0.4},
        }
        write_checkpoint(
            Path(folder, "c"),
            config=config,
            weights=initial_weights(SHAPES, 0, "tiny"),
            files={"tokenizer.json": b'{"kind": "char", "characters": "abcde"}'},
            training_state=STATE,
        )
        return files_in(Path(folder, "c"))


def checked(files: Files) -> Files:
    """The same with checksums that are right, of what is a file."""
    sums = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if isinstance(content, bytes) and name != "checksums.json"
    }
    return {**files, "checksums.json": json.dumps(sums).encode()} if "checksums.json" in files else files


def _read_checkpoint(folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    checkpoint.training_state()
    load_tokenizer(checkpoint.section("tokenizer"), checkpoint.folder)


def _load(folder: Path) -> None:
    model = tzd.load(folder, engine="torch")
    if model.tokenizer is not None:
        Panel.of(model.tokenizer)
    logits = model.logits(np.full((1, min(4, model.denoiser.seq_len)), model.mask_id))
    assert logits.shape[-1] == model.denoiser.vocab_size


def _run_files() -> Mapping[str, Files]:
    checkpoint = checkpoint_files()
    run: Files = {"last": b"step-00000007\n", "best": b"step-00000007\n", "lock": b"process 1 on here\n"}
    run |= {"metrics.csv": b"step,loss\n7,1.5\n", "samples.txt": b"=== step 7, sample 1 of 1 ===\n    text\n\n"}
    run |= {f"step-00000007/{name}": content for name, content in checkpoint.items()}
    return {"run": run}


def _open_run(folder: Path) -> None:
    from tzd.loggers.csv import CsvLogger

    run = RunFolder(folder)
    read_checkpoint(folder)
    run.is_blank()
    run.steps()
    with run.lock():
        run.resolve("best")
        run.resolve("last")
        CsvLogger(folder, 7)
        run.prune([7])


def _single(name: str, *files: Path) -> Mapping[str, Files]:
    return {name: {path.name: path.read_bytes() for path in files}}


def _small_npz() -> Mapping[str, Files]:
    from tzd.checkpoint import write_npz

    with tempfile.TemporaryDirectory() as folder:
        config = TinyConfig(vocab_size=128, n_layer=1, n_head=1, n_embd=4, block_size=8)
        sections: dict[str, Any] = {
            "model": {"model_type": "tiny", **to_mapping(config)},
            "tokenizer": {"kind": "ascii", "vocab_size": 128},
            "diffusion": to_mapping(ObjectiveSettings()),
            "provenance": {},
        }
        shapes = {**SHAPES, "token_embedding.weight": (129, 4), "head.weight": (128, 4)}
        write_checkpoint(Path(folder, "c"), config=sections, weights=initial_weights(shapes, 0, "tiny"))
        write_npz(Path(folder, "n", "model.npz"), read_checkpoint(Path(folder, "c")))
        return {"ours": files_in(Path(folder, "n")), **_single("theirs", GOLDEN / "tiny" / "mlx_diffusion_model.npz")}


def _signed_beside(files: Files) -> Files:
    """The same with a digest that is right in the JSON beside the arrays."""
    try:
        said = json.loads(files["model.json"])  # type: ignore[arg-type]
        return {**files, "model.json": json.dumps(signed(said)).encode()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return files


def _read_npz(folder: Path) -> None:
    read_any(folder)


def _read_pt(folder: Path) -> None:
    read_any(folder, n_head=2)


def _smdm_files() -> Mapping[str, Files]:
    (golden,) = _single("g", GOLDEN / "smdm" / "config.json", GOLDEN / "smdm" / "mdm.safetensors").values()
    return {"plain": golden}


def _litgpt_files() -> Mapping[str, Files]:
    from dataclasses import asdict

    import tokenizers
    import torch
    import yaml

    from litgpt import GPT, Config

    config = Config(
        vocab_size=11,
        padded_vocab_size=16,
        n_layer=1,
        n_head=2,
        n_embd=8,
        block_size=12,
        rotary_percentage=1.0,
        name="x",
    )
    with tempfile.TemporaryDirectory() as folder:
        torch.save(GPT(config).state_dict(), Path(folder, "lit_model.pth"))
        Path(folder, "model_config.yaml").write_text(yaml.dump(asdict(config)))
        plain = files_in(Path(folder))
        words = tokenizers.models.WordLevel({word: i for i, word in enumerate("abcdefghij*")}, unk_token="*")
        tokenizers.Tokenizer(words).save(str(Path(folder, "tokenizer.json")))
        return {"litgpt": plain, "with its tokenizer": files_in(Path(folder))}


def _hub_files() -> Mapping[str, Files]:
    import hub_models

    with tempfile.TemporaryDirectory() as folder:
        return {"bert": files_in(hub_models.masked_folder(Path(folder, "bert")))}


def _load_hub(folder: Path) -> None:
    model = tzd.load(folder, engine="torch")
    model.logits(np.full((1, 4), model.mask_id))


READERS = (
    Reader(
        "checkpoint",
        lambda: {"c": checkpoint_files()},
        _read_checkpoint,
        160,
        {".safetensors": formats.safetensors},
        checked,
    ),
    Reader(
        "model (tzd.load)", lambda: {"c": checkpoint_files()}, _load, 60, {".safetensors": formats.safetensors}, checked
    ),
    Reader("run folder", _run_files, _open_run, 60),
    Reader(".npz weights", _small_npz, _read_npz, 90, {".npz": formats.npz}, _signed_beside),
    Reader(
        ".pt weights", lambda: _single("pt", GOLDEN / "tiny" / "diffusion_model.pt"), _read_pt, 60, {".pt": formats.pt}
    ),
    Reader(".safetensors (SMDM)", _smdm_files, _read_npz, 60, {".safetensors": formats.safetensors}),
    Reader("LitGPT folder", _litgpt_files, _read_npz, 40, {".pth": formats.pt}, heavy=True),
    Reader("model of the hub", _hub_files, _load_hub, 8, {".safetensors": formats.safetensors}, heavy=True),
)
