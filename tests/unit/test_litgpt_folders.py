"""What a folder of LitGPT's is read for, and refused with, word by word, where no engine is needed to tell."""

import hashlib
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

from tzd.checkpoint import litgpt
from tzd.config import LitgptConfig, ModelSettings
from tzd.errors import CheckpointError

QWEN = {
    "name": "Qwen2.5-0.5B",
    **{"n_layer": 2, "n_head": 4, "n_query_groups": 2, "n_embd": 16, "intermediate_size": 24, "block_size": 64},
    **{"vocab_size": 250, "padding_multiple": 16, "norm_class_name": "RMSNorm", "mlp_class_name": "LLaMAMLP"},
    **{"bias": False, "attn_bias": True, "rotary_percentage": 1.0, "parallel_residual": False},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if find_spec("litgpt") is None:
        pytest.skip("LitGPT is not installed")
    monkeypatch.chdir(tmp_path)
    return Path()


def describe(folder, **said):
    (folder / "model_config.yaml").write_text(yaml.safe_dump({**QWEN, **said}))
    return folder / "lit_model.pth"


def tokens(folder, count):
    """A tokenizer of so many words."""
    words = {f"w{i}": i for i in range(count)}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model, "added_tokens": []}))


@pytest.mark.parametrize(
    ("said", "given", "found"),
    [
        ({}, {}, (250, 256, 256, 64)),
        ({"padded_vocab_size": 304}, {"block_size": 17}, (250, 304, 304, 17)),
        ({"vocab_size": 256}, {"n_head": 4, "context_len": 5}, (256, 256, 256, 64)),
        ({"sliding_window_size": 16, "sliding_window_indices": [1, 0]}, {}, (250, 256, 256, 16)),
        ({"sliding_window_size": 16}, {"block_size": 16}, (250, 256, 256, 16)),
        ({"sliding_window_size": 90}, {}, (250, 256, 256, 64)),
    ],
    ids=str,
)
def test_a_config_of_litgpts_says_the_rows_and_the_window(said, given, found, folder: Path):
    config, tokenizer = litgpt.read_architecture(describe(folder, **said), given)
    assert (config.vocab_size, config.padded_vocab_size, config.mask_id, config.block_size) == found
    assert (config.n_layer, config.n_head, config.n_embd, config.attn_bias) == (2, 4, 16, True)
    assert tokenizer == {}


def test_a_tokenizer_says_how_many_rows_are_tokens(folder: Path):
    tokens(folder, 30)
    config, tokenizer = litgpt.read_architecture(describe(folder), {})
    assert (config.vocab_size, config.padded_vocab_size, config.mask_id) == (30, 256, 256)
    assert (tokenizer["vocab_size"], config.padding_multiple) == (30, 256)
    tokens(folder, 256)
    assert litgpt.read_architecture(describe(folder), {})[0].padding_multiple == 1


CONFIGS = [
    ({"n_embd": "wide"}, {}, "model_config.yaml: n_embd cannot be 'wide'; it takes a whole number"),
    ({"n_layr": 2}, {}, "model_config.yaml says n_layr, which LitGPT has not (did you mean 'n_layer'?)"),
    ({"padding_multiple": 0}, {}, "model_config.yaml: padding_multiple must be at least 1, not 0"),
    ({"padded_vocab_size": 0}, {}, "model_config.yaml: padded_vocab_size must be at least 1, not 0"),
    ({"vocab_size": 0}, {}, "model_config.yaml: vocab_size must be at least 1, not 0"),
    ({"block_size": None}, {}, "model_config.yaml: block_size cannot be None; it takes a whole number"),
    (
        {"mlp_class_name": "GPT"},
        {},
        "model_config.yaml: unknown model.mlp_class_name 'GPT' (known: GemmaMLP, GptNeoxMLP, LLaMAMLP, LLaMAMoE)",
    ),
    (
        {"tokens": 257},
        {},
        "model_config.yaml: padded_vocab_size=256 is less than the 257 tokens of tokenizer.json beside it",
    ),
    ({}, {"block_size": 65}, "you gave block_size=65 for lit_model.pth, but model_config.yaml allows 64 at most"),
    ({}, {"n_head": 3}, "you gave n_head=3 for lit_model.pth, but model_config.yaml says n_head=4"),
    ({}, {"context_len": 64}, "lit_model.pth has a window of 64: context_len=64 cannot be"),
    ({}, {"context_len": -1}, "lit_model.pth has a window of 64: context_len=-1 cannot be"),
    ({}, {"block_size": 9, "context_len": 9}, "lit_model.pth has a window of 9: context_len=9 cannot be"),
    ({"vocab_size": "many"}, {}, "model_config.yaml: vocab_size cannot be 'many'; it takes a whole number"),
    (
        {"sliding_window_size": 16},
        {"block_size": 17},
        "you gave block_size=17 for lit_model.pth, but model_config.yaml allows 16 at most",
    ),
]


@pytest.mark.parametrize(("said", "given", "message"), CONFIGS)
def test_a_config_of_litgpts_that_cannot_be_is_refused_in_these_words(said, given, message, folder: Path):
    if "tokens" in said:
        tokens(folder, said["tokens"])
    file = describe(folder, **{name: value for name, value in said.items() if name != "tokens"})
    with pytest.raises(CheckpointError) as error:
        litgpt.read_architecture(file, given)
    assert str(error.value) == message


def test_a_config_that_is_none_is_refused_in_these_words(folder: Path):
    file = folder / "model_config.yaml"
    for text, message in {
        "3": "model_config.yaml is damaged: it holds no settings; get the file again",
        "3: a": "model_config.yaml is damaged: it holds no settings; get the file again",
    }.items():
        file.write_text(text)
        with pytest.raises(CheckpointError) as error:
            litgpt.read_architecture(folder / "lit_model.pth", {})
        assert str(error.value) == message
    file.write_text("a: [")
    with pytest.raises(CheckpointError, match=r"^model_config\.yaml cannot be read: .*; get the file again$"):
        litgpt.read_architecture(folder / "lit_model.pth", {})
    file.unlink()
    (folder / "mine").mkdir()
    with pytest.raises(CheckpointError) as error:
        litgpt.read_architecture(folder / "mine" / "lit_model.pth", {})
    assert str(error.value) == (
        "mine has no model_config.yaml beside lit_model.pth, and is not named for a model of LitGPT's registry: copy"
        " that file from where the weights are from"
    )
    named, _ = litgpt.read_architecture(folder / "pythia-14m" / "lit_model.pth", {"block_size": 9})
    assert (named.n_layer, named.n_embd, named.block_size, named.mask_id) == (6, 128, 9, 50304)


@pytest.mark.parametrize(
    ("name", "where", "message"),
    [
        (
            "a/b",
            None,
            "checkpoints/a/b (model.pretrained_model_name, model.checkpoint_dir): litgpt download a/b puts one there",
        ),
        (
            "a/b",
            "x/a/b",
            "x/a/b (model.pretrained_model_name, model.checkpoint_dir): litgpt download a/b --checkpoint_dir x puts one"
            " there",
        ),
        (
            None,
            "x",
            "x (model.checkpoint_dir): give the folder that holds it, which for litgpt download OWNER/NAME is"
            " checkpoints/OWNER/NAME",
        ),
    ],
)
def test_weights_that_are_not_there_are_missed_in_these_words(name, where, message, folder: Path):
    given = {"pretrained_model_name": name, "checkpoint_dir": where}
    settings = ModelSettings(model_type="litgpt", **{key: value for key, value in given.items() if value})
    with pytest.raises(CheckpointError) as error:
        litgpt.pretrained_folder(settings)
    assert str(error.value) == f"there is no lit_model.pth in {message}"
    place = Path(message.split()[0])
    place.mkdir(parents=True)
    (place / "lit_model.pth").touch()
    assert litgpt.pretrained_folder(settings) == place
    assert litgpt.pretrained_folder(ModelSettings(model_type="litgpt")) is None


def test_the_row_of_mask_is_the_mean_of_the_tokens_rows(folder: Path):
    file = folder / "lit_model.pth"
    file.write_bytes(b"weights")
    config = LitgptConfig(vocab_size=3, padding_multiple=4, n_embd=2, n_head=1, n_layer=1, mask_id=4)
    rows = np.array([[1, 2], [3, 4], [5, 9], [100, 100]], np.float32)
    shapes = {litgpt.EMBEDDING: (5, 2), "lm_head.weight": (4, 2)}
    weights = {litgpt.EMBEDDING: rows, "lm_head.weight": rows + 1}
    read = litgpt.assemble(file, dict(weights), shapes, config=config, tokenizer={"kind": "bpe"}, context_len=2)
    np.testing.assert_array_equal(read.weights[litgpt.EMBEDDING], [*rows, np.float32([3, 5])])
    assert read.weights[litgpt.EMBEDDING].dtype == np.float32
    np.testing.assert_array_equal(read.weights["lm_head.weight"], rows + 1)
    assert (read.folder, read.file) == (folder, file)
    assert read.config["tokenizer"] == {"kind": "bpe"}
    assert (read.config["format"], read.config["format_version"]) == ("tzd", 1)
    assert read.config["model"]["model_type"] == "litgpt" and read.config["model"]["n_embd"] == 2
    assert (read.config["diffusion"]["name"], read.config["diffusion"]["context_len"]) == ("nelbo", 2)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert read.config["provenance"] == {"source": "lit_model.pth", "source_sha256": digest}
    inside = replace(config, mask_id=3)
    kept = litgpt.assemble(file, dict(weights), shapes, config=inside, tokenizer={})
    np.testing.assert_array_equal(kept.weights[litgpt.EMBEDDING], rows)
    assert kept.config["diffusion"]["context_len"] == 0
    with pytest.raises(CheckpointError) as error:
        litgpt.assemble(file, {litgpt.EMBEDDING: rows}, shapes, config=config, tokenizer={})
    assert str(error.value) == (
        "lit_model.pth does not fit the model that model_config.yaml describes: 1 missing (lm_head.weight)"
    )
