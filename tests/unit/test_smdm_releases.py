"""What a release of SMDM's is read for, and refused with, word by word, where no engine is needed to tell."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tzd.checkpoint import smdm
from tzd.config.smdm import SmdmConfig
from tzd.errors import CheckpointError, ConfigError

CONFIG = SmdmConfig(
    vocab_size=11, n_layer=2, n_head=4, n_query_groups=2, n_embd=16, block_size=12, intermediate_size=24
)
PLAIN = replace(
    CONFIG, n_query_groups=4, mlp_class_name="GptNeoxMLP", norm_class_name="LayerNorm", bias=True, n_layer=1
)


def numbers(shapes):
    return {
        name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + index
        for index, (name, shape) in enumerate(shapes.items())
    }


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights as SMDM releases them, in the folder in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return release()


def release(config=CONFIG, **said):
    save_file(numbers(smdm.shapes(config)), "m.safetensors")
    Path("config.json").write_text(json.dumps({"n_head": config.n_head, "block_size": 12, **said}))
    return Path("m.safetensors")


def test_the_matrices_of_an_architecture_have_these_shapes():
    block = {
        "attn.attn.weight": (32, 16),
        "attn.proj.weight": (16, 16),
        "mlp.swiglu.w1.weight": (24, 16),
        "mlp.swiglu.w2.weight": (24, 16),
        "mlp.swiglu.w3.weight": (16, 24),
        "norm_1.weight": (16,),
        "norm_2.weight": (16,),
    }
    ends = {"lm_head.weight": (11, 16), "transformer.wte.weight": (12, 16), "transformer.ln_f.weight": (16,)}
    layers = {f"transformer.h.{i}.{name}": shape for i in range(2) for name, shape in block.items()}
    assert smdm.shapes(CONFIG) == ends | layers
    plain = {
        "attn.attn.weight": (48, 16),
        "attn.attn.bias": (48,),
        "attn.proj.weight": (16, 16),
        "attn.proj.bias": (16,),
        "mlp.fc.weight": (24, 16),
        "mlp.fc.bias": (24,),
        "mlp.proj.weight": (16, 24),
        "mlp.proj.bias": (16,),
        "norm_1.weight": (16,),
        "norm_1.bias": (16,),
    }
    shared = replace(PLAIN, parallel_residual=True, shared_attention_norm=True)
    expected = ends | {"transformer.ln_f.bias": (16,)} | {f"transformer.h.0.{n}": s for n, s in plain.items()}
    assert smdm.shapes(shared) == expected
    unbiased = replace(shared, bias=False)
    assert smdm.shapes(unbiased).keys() == {n for n in expected if not n.endswith(("attn.bias", "j.bias", "fc.bias"))}


def test_a_release_becomes_a_checkpoint_with_everything_that_is_known_of_it(file: Path):
    read = smdm.read_smdm(file, {"context_len": 3, "n_head": 4})
    assert (read.folder, read.file, read.checksums) == (Path(), file, {})
    assert read.config.keys() == {"format", "format_version", "model", "tokenizer", "diffusion", "provenance"}
    assert (read.config["format"], read.config["format_version"], read.config["tokenizer"]) == ("tzd", 1, {})
    assert read.config["model"]["model_type"] == "smdm"
    assert SmdmConfig(**{k: v for k, v in read.config["model"].items() if k != "model_type"}) == CONFIG
    diffusion = read.config["diffusion"]
    assert (diffusion["name"], diffusion["time_sampling"], diffusion["context_len"]) == ("nelbo_t", "independent", 3)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert read.config["provenance"] == {"source": "m.safetensors", "source_sha256": digest}
    for name, array in numbers(smdm.shapes(CONFIG)).items():
        np.testing.assert_array_equal(read.weights[name], array)
        assert read.weights[name].dtype == np.float32
    assert smdm.read_smdm(file, {}).config["diffusion"]["context_len"] == 0


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, {}),
        ({"vocab_size": 9, "mask_token_id": 2}, {"vocab_size": 9, "padding_multiple": 11, "mask_id": 2}),
        ({"_norm_class": "FusedRMSNorm", "norm_eps": 1e-6, "bias": False}, {"norm_eps": 1e-6}),
        (
            {"rotary_percentage": 0.5, "rotary_dtype": "bfloat16"},
            {"rotary_percentage": 0.5, "rotary_dtype": "bfloat16"},
        ),
        ({"parallel_residual": True, "org": "a", "name": "b", "source": "c"}, {"parallel_residual": True}),
        ({"padding_multiple": 64, "condense_ratio": 1, "n_layer": None}, {}),
        ({"n_query_groups": 2, "intermediate_size": 24, "n_embd": 16, "_mlp_class": "LLaMAMLP"}, {}),
    ],
    ids=str,
)
def test_what_a_config_says_beside_is_heeded(said, found, file: Path):
    model = smdm.read_smdm(release(**said), {}).config["model"]
    assert SmdmConfig(**{k: v for k, v in model.items() if k != "model_type"}) == replace(CONFIG, **found)


@pytest.mark.parametrize("shared", [False, True])
def test_names_and_shapes_say_what_no_config_does(shared, file: Path):
    for bias in (True, False):
        config = replace(PLAIN, bias=bias, parallel_residual=shared, shared_attention_norm=shared)
        model = smdm.read_smdm(release(config, parallel_residual=shared), {}).config["model"]
        assert SmdmConfig(**{k: v for k, v in model.items() if k != "model_type"}) == config


def test_the_config_of_the_files_own_name_comes_first(file: Path):
    Path("m.json").write_text(json.dumps({"n_head": 8, "block_size": 7}))
    assert (
        smdm.read_smdm(file, {}).config["model"]["n_head"],
        smdm.read_smdm(file, {}).config["model"]["block_size"],
    ) == (8, 7)


def test_halves_are_read_as_the_numbers_that_they_are(file: Path):
    arrays = numbers(smdm.shapes(CONFIG))
    save_file({name: array.astype(np.float16) for name, array in arrays.items()}, file)
    read = smdm.read_smdm(file, {}).weights
    assert all((read[name] == array.astype(np.float16)).all() for name, array in arrays.items())
    header, data, at = {}, b"", 0
    for name, array in arrays.items():  # bfloat16 is the upper half of a float32
        part = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": [at, at + len(part)]}
        data, at = data + part, at + len(part)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    read = smdm.read_smdm(file, {}).weights
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], (array.view(np.uint32) >> 16 << 16).view(np.float32))


SAID = [
    (
        {"n_head": None},
        {},
        "m.safetensors is of no published size and does not say how many attention heads it has: "
        '"n_head" in config.json does',
    ),
    ({"n_head": 3}, {}, "m.safetensors has 32 rows of queries, keys and values, which n_head=3 cannot have"),
    ({"n_layer": 3}, {}, "m.safetensors has n_layer=2, but config.json says n_layer=3: one of them is another model's"),
    (
        {"_norm_class": "LayerNorm"},
        {},
        "m.safetensors has norm_class_name=RMSNorm, but config.json says _norm_class=LayerNorm: one of "
        "them is another model's",
    ),
    (
        {"vocab_size": 99},
        {},
        "m.safetensors has vocab_size=11, but config.json says vocab_size=99: one of them is another model's",
    ),
    (
        {"padded_vocab_size": 12},
        {},
        "m.safetensors has padded_vocab_size=11, but config.json says padded_vocab_size=12: one of them "
        "is another model's",
    ),
    ({"condense_ratio": 2}, {}, "config.json says condense_ratio=2, and only models with 1 can be read"),
    (
        {"sliding_window": 5},
        {},
        "config.json says sliding_window, which no smdm model has (known: _mlp_class, _norm_class, bias,"
        " block_size, intermediate_size, mask_token_id, n_embd, n_head, n_layer, n_query_groups, "
        "norm_eps, padded_vocab_size, parallel_residual, rotary_dtype, rotary_percentage, "
        "shared_attention_norm, vocab_size)",
    ),
    ({"n_layr": 5}, {}, "config.json says n_layr, which no smdm model has (did you mean 'n_layer'?)"),
    ({"rotary_percentage": "all"}, {}, "config.json: rotary_percentage cannot be 'all'; it takes a number"),
    ({"mask_token_id": 99}, {}, "m.safetensors: model.mask_id must lie in 0..11, not 99"),
    ({"rotary_dtype": "float8"}, {}, "m.safetensors: unknown model.rotary_dtype 'float8' (did you mean 'float32'?)"),
    ({}, {"n_head": 2}, "you gave n_head=2 for m.safetensors, but config.json says n_head=4"),
    ({}, {"context_len": 12}, "m.safetensors has a window of 12: context_len=12 cannot be"),
    ({}, {"context_len": -1}, "m.safetensors has a window of 12: context_len=-1 cannot be"),
    (
        {"n_query_groups": 4},
        {},
        "m.safetensors has n_query_groups=2, but config.json says n_query_groups=4: one of them is another model's",
    ),
    (
        {"_mlp_class": "GptNeoxMLP"},
        {},
        "m.safetensors has mlp_class_name=LLaMAMLP, but config.json says _mlp_class=GptNeoxMLP: one of "
        "them is another model's",
    ),
    (
        {"bias": True},
        {},
        "m.safetensors has bias=False, but config.json says bias=True: one of them is another model's",
    ),
    (
        {"shared_attention_norm": True},
        {},
        "m.safetensors has shared_attention_norm=False, but config.json says shared_attention_norm=True:"
        " one of them is another model's",
    ),
    (
        {"n_head": 16},
        {},
        "m.safetensors: model.rotary_percentage=1.0 of a head of width 1 is 1; rotary positions need an even width",
    ),
]


@pytest.mark.parametrize(("said", "given", "message"), SAID)
def test_a_release_that_contradicts_itself_is_refused_in_these_words(said, given, message, file: Path):
    with pytest.raises((CheckpointError, ConfigError)) as error:
        smdm.read_smdm(release(**said), given)
    assert str(error.value) == message


FILE = "m.safetensors"
NONE = f"{FILE} holds no weights of SMDM: there is no matrix "
APART = f"{FILE} does not fit together: 1 "
WRONG = {
    "lm_head.weight": NONE + "lm_head.weight",
    "transformer.wte.weight": NONE + "transformer.wte.weight",
    "transformer.h.0.attn.attn.weight": NONE + "transformer.h.0.attn.attn.weight",
    "transformer.h.0.mlp.swiglu.w1.weight": NONE + "transformer.h.0.mlp.fc.weight",
    "transformer.h.1.norm_1.weight": APART + "missing (transformer.h.1.norm_1.weight)",
    "transformer.ln_f.weight as 17": APART + "of another shape (transformer.ln_f.weight (17,) instead of (16,))",
    "transformer.wte.weight as a vector": NONE + "transformer.wte.weight",
    "transformer.wte.weight as nothing": NONE + "transformer.wte.weight",
    "lm_head.weight as whole numbers": f"{FILE} holds lm_head.weight as I32; weights are floating-point numbers",
    "extra as 3x4": APART + "unexpected (extra)",
    **{
        f"transformer.h.0.attn.attn.weight as {rows}x16": f"{FILE} has {rows} rows of queries, keys and values, which"
        " n_head=4 cannot have"
        for rows in (33, 16)
    },
    "transformer.h.0.mlp.swiglu.w3.weight as 16x23": APART
    + "of another shape (transformer.h.0.mlp.swiglu.w3.weight (16, 23) instead of (16, 24))",
}


@pytest.mark.parametrize("change", WRONG)
def test_weights_that_are_none_of_smdms_are_refused_in_these_words(change, file: Path):
    save_file(changed(change), file)
    with pytest.raises(CheckpointError) as error:
        smdm.read_smdm(file, {})
    assert str(error.value) == WRONG[change]


def changed(change):
    """The weights without a name, or with another array in its place."""
    weights = numbers(smdm.shapes(CONFIG))
    name, _, what = change.partition(" as ")
    if not what:
        del weights[name]
    elif what == "a vector":
        weights[name] = np.zeros(16, np.float32)
    elif what == "nothing":
        weights[name] = np.zeros((0, 16), np.float32)
    elif what == "whole numbers":
        weights[name] = np.zeros((11, 16), np.int32)
    else:
        weights[name] = np.zeros([int(n) for n in what.split("x")], np.float32)
    return weights


def test_a_file_that_is_none_is_refused_with_the_librarys_reason(file: Path):
    file.write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match=r"^m\.safetensors cannot be read: .*[Hh]eader.*; get the file again$"):
        smdm.read_smdm(file, {})
