"""What a single file of weights is read for, and refused with, word by word; no engine is needed."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from single_files import CONFIG, FILE, refusal, stored, theirs
from tzd.checkpoint import port
from tzd.checkpoint.single_file import assemble, read_npz
from tzd.config import TinyConfig
from tzd.errors import CheckpointError, ConfigError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- names and shapes ---------------------------------------------------------------------------------------------


def test_the_ports_arrays_have_these_shapes():
    block = {f"attn.{name}.weight": (8, 8) for name in ("c_q", "c_k", "c_v", "c_proj")}
    block |= {"mlp.c_fc.weight": (32, 8), "mlp.c_proj.weight": (8, 32)}
    ends = {"token_emb.weight": (129, 8), "time_emb.weight": (9, 8), "output_head.weight": (128, 8)}
    expected = ends | {f"blocks.{i}.{name}": shape for i in range(2) for name, shape in block.items()}
    beyond = replace(CONFIG, mask_id=128)
    assert port.shapes(beyond, tables=False) == expected
    assert port.shapes(beyond, tables=True) == expected | {"cos": (1, 12, 1, 2), "sin": (1, 12, 1, 2)}
    assert port.shapes(CONFIG, tables=False)["token_emb.weight"] == (128, 8)


def test_shapes_say_the_architecture():
    known = {"vocab_size": 128, "n_layer": 2, "n_embd": 8, "time_steps": 9, "intermediate_size": 32}
    shapes = port.shapes(CONFIG, tables=True)
    assert port.sizes(shapes, tables=True) == known | {"n_head": 2, "block_size": 6}
    bare = {name: shape for name, shape in shapes.items() if name not in ("cos", "sin")}
    assert port.sizes(bare, tables=False) == known


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cos": None}, "1 missing (cos)"),
        (
            {"blocks.2.attn.c_q.weight": (8, 8)},
            "5 missing (blocks.2.attn.c_k.weight, blocks.2.attn.c_v.weight, blocks.2.attn.c_proj.weight, ...)",
        ),
        ({"more": (3,), "and more": (4,)}, "2 unexpected (more, and more)"),
        ({"output_head.weight": (128,)}, "output_head.weight cannot be of the shape (128,)"),
        ({"blocks.1.mlp.c_fc.weight": (0, 8)}, "blocks.1.mlp.c_fc.weight cannot be of the shape (0, 8)"),
        ({"cos": (1, 12, 1, 3)}, "cos (1, 12, 1, 3) does not fit a width of 8, or has an odd number of rows"),
        ({"cos": (1, 13, 1, 2)}, "cos (1, 13, 1, 2) does not fit a width of 8, or has an odd number of rows"),
    ],
)
def test_shapes_of_something_else_are_refused_in_these_words(change, message):
    shapes = {n: s for n, s in {**port.shapes(CONFIG, tables=True), **change}.items() if s is not None}
    assert refusal(lambda: port.sizes(shapes, tables=True), ValueError) == message


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_file_of_the_ports_becomes_a_checkpoint_with_everything_that_is_known_of_it():
    read = read_npz(stored(), {"context_len": 2, "n_head": 2, "block_size": 6})
    arrays = theirs()
    assert (read.folder, read.file, read.checksums) == (Path(), FILE, {})
    assert read.config.keys() == {"format", "format_version", "model", "tokenizer", "diffusion", "provenance"}
    assert (read.config["format"], read.config["format_version"]) == ("tzd", 1)
    assert read.config["tokenizer"] == {"kind": "ascii", "vocab_size": 128}
    digest = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert read.config["provenance"] == {"source": "m.npz", "source_sha256": digest}
    model = dict(read.config["model"])
    assert model.pop("model_type") == "tiny"
    assert TinyConfig(**model) == CONFIG
    diffusion = read.config["diffusion"]
    assert (diffusion["time_sampling"], diffusion["context_len"], diffusion["name"]) == ("independent", 2, "pooled")
    assert read.weights.keys() == {
        *("token_embedding.weight", "time_embedding.weight", "head.weight"),
        *(f"blocks.{i}.{n}.weight" for i in (0, 1) for n in ("attention.qkv", "attention.out", "mlp.up", "mlp.down")),
    }
    qkv = [arrays[f"blocks.1.attn.c_{n}.weight"] for n in "qkv"]
    np.testing.assert_array_equal(read.weights["blocks.1.attention.qkv.weight"], np.concatenate(qkv))
    for ours, name in {
        "token_embedding.weight": "token_emb.weight",
        "time_embedding.weight": "time_emb.weight",
        "head.weight": "output_head.weight",
        "blocks.0.attention.out.weight": "blocks.0.attn.c_proj.weight",
        "blocks.0.mlp.up.weight": "blocks.0.mlp.c_fc.weight",
        "blocks.1.mlp.down.weight": "blocks.1.mlp.c_proj.weight",
    }.items():
        np.testing.assert_array_equal(read.weights[ours], arrays[name])
        assert read.weights[ours].dtype == np.float32


@pytest.mark.parametrize(("block_size", "context_len"), [(6, 0), (64, 0), (65, 64)])
def test_where_nothing_says_how_long_the_prefix_is_it_is_theirs_if_the_window_is_longer(block_size, context_len):
    read = read_npz(stored(theirs(replace(CONFIG, block_size=block_size))), {})
    assert read.config["diffusion"]["context_len"] == context_len


def test_tables_that_training_moved_are_kept():
    moved = theirs()
    moved["sin"] = moved["sin"] + np.float32(1e-3)
    read = read_npz(stored(moved), {})
    assert read.config["model"]["rotary_tables"] is True
    np.testing.assert_array_equal(read.weights["rotary.sin"], moved["sin"][0, :, 0])
    np.testing.assert_array_equal(read.weights["rotary.cos"], moved["cos"][0, :, 0])


def test_what_is_said_beside_is_heeded_where_shapes_say_nothing():
    said = {"sequence_len": 6, "mask_token_id": 5, "rms_norm_eps": 1e-6, "context_len": 4, "theirs": "x"}
    read = read_npz(stored(**said), {})
    model = read.config["model"]
    assert (model["mask_id"], model["norm_eps"], model["block_size"]) == (5, 1e-6, 6)
    assert read.config["diffusion"]["context_len"] == 4
    wide = {name: a for name, a in theirs().items() if name not in ("cos", "sin")}
    shapes = {name: array.shape for name, array in wide.items()}
    bare = assemble(FILE, shapes, lambda: wide, {"n_head": 4}, tables=False, norm_eps=0.5)
    model = bare.config["model"]
    assert (model["n_head"], model["block_size"], model["norm_eps"], model["mask_id"]) == (4, 6, 0.5, 5)
    assert model["rotary_tables"] is False
    Path("config.json").unlink()
    assert assemble(FILE, shapes, lambda: wide, {"n_head": 4}, tables=False).config["model"]["block_size"] == 256


ANOTHER = ": one of them is another model's"
OURS = {"format": "tzd", "format_version": 1}
SAID = [
    ({"n_layer": 3}, {}, f"m.npz has n_layer=2, but config.json says n_layer=3{ANOTHER}"),
    ({"n_head": 4}, {}, f"m.npz has n_head=2, but config.json says n_head=4{ANOTHER}"),
    (
        {"sequence_len": 7},
        {},
        f"m.npz has block_size=6, but config.json says sequence_len=7{ANOTHER}",
    ),
    (
        {"vocab_size": 100},
        {},
        f"m.npz has vocab_size=128, but config.json says vocab_size=100{ANOTHER}",
    ),
    (
        {"diffusion_steps": 128},
        {},
        f"m.npz has time_steps=9, but config.json says diffusion_steps=128{ANOTHER}",
    ),
    ({"mask_token_id": 129}, {}, "m.npz: model.mask_id must lie in 0..128, not 129"),
    ({"n_embd": "wide"}, {}, "config.json: n_embd cannot be 'wide'; it takes a whole number"),
    ({"rms_norm_eps": "small"}, {}, "config.json: rms_norm_eps cannot be 'small'; it takes a number"),
    ({}, {"n_head": 4}, f"m.npz has n_head=2, but you gave n_head=4{ANOTHER}"),
    ({}, {"block_size": 7}, f"m.npz has block_size=6, but you gave block_size=7{ANOTHER}"),
    ({}, {"context_len": 6}, "m.npz has a window of 6: context_len=6 cannot be"),
    ({}, {"context_len": -1}, "m.npz has a window of 6: context_len=-1 cannot be"),
    ({"context_len": 6}, {}, "m.npz has a window of 6: context_len=6 cannot be"),
    ({"format": "tzd", "format_version": 1}, {}, "config.json has no section 'model'"),
    (
        {"format": "tzd", "format_version": 2},
        {},
        "config.json has format 2, and this version of tzd reads up to 1: upgrade tzd",
    ),
    (
        {"format": "tzd", "format_version": True},
        {},
        "config.json does not describe a tzd checkpoint; 'tzd convert' reads other formats",
    ),
]


@pytest.mark.parametrize(("said", "given", "message"), SAID)
def test_a_file_that_is_told_of_wrongly_is_refused_in_these_words(said, given, message):
    assert refusal(lambda: read_npz(stored(**said), given), (CheckpointError, ConfigError)) == message


def test_a_file_of_other_tokens_is_refused_in_these_words():
    other = replace(CONFIG, vocab_size=127)
    assert refusal(lambda: read_npz(stored(theirs(other)), {})) == (
        "m.npz has 127 tokens, and nothing says which; known are the 128 of ASCII, and what a config.json of tzd"
        " describes"
    )
    bare = {name: array.shape for name, array in theirs().items() if name not in ("cos", "sin")}
    assert refusal(lambda: assemble(FILE, bare, dict, {}, tables=False)) == (
        "m.npz does not say how many attention heads it has: 'tzd convert m.npz NAME --n-head N' does, or \"n_head\" in"
        " config.json"
    )
    assert refusal(lambda: read_npz(stored({**theirs(), "time_emb.weight": np.zeros((9, 7), "f")}), {})) == (
        "m.npz does not fit together: 1 of another shape (time_emb.weight (9, 7) instead of (9, 8))"
    )
    assert refusal(lambda: read_npz(stored({"a": np.zeros(2, "f")}), {})).startswith(
        "m.npz holds no weights of Tiny Diffusion: 11 missing (token_emb.weight, time_emb.weight,"
    )
