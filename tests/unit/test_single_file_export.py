"""What a model is written as that becomes a single file, and what cannot, word by word; no engine is needed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from single_files import CONFIG, FILE, refusal, theirs
from tzd.checkpoint import Checkpoint, check_export, port, write_npz
from tzd.checkpoint.single_file import read_npz
from tzd.config import ObjectiveSettings, SmdmConfig, TokenizerSettings
from tzd.corpus import Corpus, make_tokenizer
from tzd.errors import UserError
from tzd.mapping import to_mapping


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tokenizer_of(kind):
    return make_tokenizer(TokenizerSettings(kind), Corpus.from_text("text", "abc" * 100))


def checkpoint(config, weights, kind="ascii", **diffusion):
    sections = {
        "format": "tzd",
        "format_version": 1,
        "model": {"model_type": config.model_type, **to_mapping(config)},
        "tokenizer": tokenizer_of(kind).describe(),
        "diffusion": to_mapping(ObjectiveSettings(**diffusion)),
        "provenance": {"corpus": "text", "step": 7},
    }
    return Checkpoint(Path("from"), sections, weights)


def ours(config):
    """Weights of ours, as they are stored."""
    stored_as = replace(config, time_steps=config.time_steps or 128)
    _, weights = port.from_port(theirs(stored_as), stored_as)
    return {name: array for name, array in weights.items() if config.time_steps or "time" not in name}


def test_what_is_written_says_how_the_port_reads_it_and_comes_back():
    said = write_npz(FILE, checkpoint(CONFIG, ours(CONFIG), context_len=2))
    assert said == (
        "Tiny Diffusion's MLX port reads it with DiffusionConfig(sequence_len=6, vocab_size=128, mask_token_id=0,"
        " n_layer=2, n_head=2, n_embd=8, diffusion_steps=9, context_len=2)"
    )
    assert sorted(path.name for path in Path().iterdir()) == ["m.json", "m.npz"]
    with np.load(FILE) as written:
        for name, array in theirs().items():
            np.testing.assert_array_equal(written[name], array)
    read = read_npz(FILE, {})
    assert read.config["diffusion"] == to_mapping(ObjectiveSettings(context_len=2))
    assert read.config["tokenizer"] == {"kind": "ascii", "vocab_size": 128}
    assert (read.config["provenance"]["corpus"], read.config["provenance"]["step"]) == ("text", 7)
    for name, array in ours(CONFIG).items():
        np.testing.assert_array_equal(read.weights[name], array)
    described = json.loads(Path("m.json").read_bytes())
    assert (described["format"], described["format_version"]) == ("tzd", 1)
    assert described["model"] == {"model_type": "tiny", **to_mapping(CONFIG)}


def test_a_model_without_time_gets_an_embedding_of_zeros_and_mask_takes_the_place_of_nul():
    config = replace(CONFIG, time_steps=0, mask_id=128)
    weights = ours(config)
    stored_config, arrays = port.as_stored(weights, config, ascii_text=True)
    assert (stored_config.time_steps, stored_config.mask_id) == (128, 0)
    assert arrays["time_embedding.weight"].shape == (128, 8) and not arrays["time_embedding.weight"].any()
    rows = weights["token_embedding.weight"]
    np.testing.assert_array_equal(arrays["token_embedding.weight"], np.concatenate([rows[128:], rows[1:128]]))
    kept, same = port.as_stored(weights, config, ascii_text=False)
    assert kept.mask_id == 128
    np.testing.assert_array_equal(same["token_embedding.weight"], rows)
    assert port.as_stored(ours(CONFIG), CONFIG, ascii_text=True)[0] == CONFIG


@pytest.mark.parametrize(
    ("changes", "kind", "end"),
    [
        (
            {"mask_id": 128},
            "byte",
            " cannot read it, tzd can: it has 257 embeddings for a head of 256, as [MASK] is no token of its tokenizer",
        ),
        ({"intermediate_size": 24}, "ascii", " cannot read it, tzd can: its MLP is 24 wide, not 4 · 8"),
        ({"norm_eps": 1e-6}, "ascii", "diffusion_steps=9, context_len=0), but computes with an epsilon of 1e-05"),
    ],
)
def test_who_cannot_read_the_file_as_it_is_meant_is_told(changes, kind, end):
    config = replace(CONFIG, **changes)
    if kind == "byte":
        config = replace(config, vocab_size=256, mask_id=256)
    said = write_npz(FILE, checkpoint(config, ours(config), kind))
    assert said.startswith("Tiny Diffusion's MLX port") and said.endswith(end)


def test_what_cannot_be_written_is_refused_in_these_words():
    ascii_text = tokenizer_of("ascii")
    assert refusal(lambda: check_export(Path("m.pt"), ascii_text), UserError) == (
        "cannot write m.pt: a single file is a .npz file; give it that ending"
    )
    assert refusal(lambda: check_export(FILE, tokenizer_of("char")), UserError) == (
        "cannot write m.npz: a 'char' tokenizer needs a file of its own, and a .npz file is a single one; write a"
        " checkpoint folder, or train with tokenizer=ascii or byte"
    )
    smdm = SmdmConfig(vocab_size=11, n_layer=1, n_head=1, n_embd=8, block_size=6)
    assert refusal(lambda: check_export(FILE, ascii_text, smdm), UserError) == (
        "cannot write m.npz: a .npz holds models of model_type=tiny, and this one is smdm"
    )
    assert refusal(lambda: check_export(FILE, ascii_text, replace(CONFIG, value_residual=True)), UserError) == (
        "cannot write m.npz: a .npz has no place for model.value_residual=true, which this model has"
    )
    Path("m.json").mkdir()
    assert refusal(lambda: check_export(FILE, ascii_text), UserError) == (
        "cannot write m.json: it is a folder; choose another name"
    )
    Path("file").touch()
    into = Path("file/m.npz")
    assert refusal(lambda: check_export(into, ascii_text), UserError) == (
        f"cannot write file/m.npz: {Path('file').absolute()} is no folder that you may write to; choose another place"
    )
    check_export(Path("new/folder/n.npz"), ascii_text, CONFIG)
    short = ours(CONFIG)
    del short["head.weight"]
    assert refusal(lambda: write_npz(Path("n.npz"), checkpoint(CONFIG, short))) == (
        "from cannot be written as n.npz: 1 missing (head.weight)"
    )
    assert not Path("n.npz").exists()
