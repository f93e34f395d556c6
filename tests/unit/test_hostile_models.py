"""Folders of models from anybody, as LitGPT and the hub have them: little that would become much, and code."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import tzd
from tzd.checkpoint.litgpt import LIT_MODEL, MODEL_CONFIG, read_architecture
from tzd.engines.formats import read_any
from tzd.engines.torch.hf_files import library_network, weight_files
from tzd.errors import CheckpointError, TzdError, UserError
from tzd.hub import repository

pytest.importorskip("litgpt")
pytest.importorskip("transformers")

SMALL = {
    "rotary_percentage": 1.0,
    "vocab_size": 11,
    "padded_vocab_size": 16,
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 8,
    "block_size": 12,
}


def refusal(read: Callable[[], Any], kind: type[TzdError] = CheckpointError) -> str:
    """The one line, which took no memory."""
    import litgpt.config  # noqa: F401  # what readers import takes room of its own
    import transformers  # noqa: F401

    tracemalloc.start()
    try:
        with pytest.raises(kind) as error:
            read()
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()
    assert str(error.value).isprintable() and len(str(error.value)) < 2000
    return str(error.value)


# --- LitGPT -------------------------------------------------------------------------------------------------------


@pytest.fixture
def litgpt(tmp_path: Path) -> Path:
    import torch

    folder = tmp_path / "lit"
    folder.mkdir()
    torch.save({"lm_head.weight": torch.zeros(16, 8)}, folder / LIT_MODEL)
    (folder / MODEL_CONFIG).write_text(yaml.dump(SMALL))
    return folder


@pytest.mark.parametrize(
    "content",
    [
        b"!!python/object/apply:os.system ['touch sprung']",
        b"name: !!python/name:os.system",
        b"n_layer: !!python/object/new:os.system ['touch sprung']",
    ],
)
def test_a_description_of_litgpts_runs_nothing(content: bytes, litgpt: Path) -> None:
    (litgpt / MODEL_CONFIG).write_bytes(content)
    line = refusal(lambda: read_architecture(litgpt / LIT_MODEL, {}))
    assert f"{litgpt / MODEL_CONFIG} cannot be read: could not determine a constructor for the tag" in line
    assert not Path("sprung").exists()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_description_of_litgpts_that_refers_to_itself_without_end_is_refused(encoding: str, litgpt: Path) -> None:
    lines = ["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)), "hf_config: *a39"]
    (litgpt / MODEL_CONFIG).write_bytes("\n".join(lines).encode(encoding))
    line = refusal(lambda: read_architecture(litgpt / LIT_MODEL, {}))
    assert (
        "what it refers to (*NAME) written out, it has more than 262144 characters" in line
        if encoding == "utf-8"
        else "codec can't decode" in line
    )


def test_what_a_description_holds_is_quoted_shortly(litgpt: Path) -> None:
    (litgpt / MODEL_CONFIG).write_text(yaml.dump({**SMALL, "rope_adjustments": ["x" * 9000]}))
    assert "rope_adjustments" in refusal(lambda: read_architecture(litgpt / LIT_MODEL, {}))


@pytest.mark.parametrize("changes", [{"n_layer": 10**9}, {"padded_vocab_size": 10**12}, {"block_size": 10**12},
                                     {"intermediate_size": 10**12}, {"n_embd": 10**6}])  # fmt: skip
def test_no_network_of_litgpts_is_laid_out_that_the_weights_cannot_fill(changes: dict[str, int], litgpt: Path) -> None:
    (litgpt / MODEL_CONFIG).write_text(yaml.dump({**SMALL, **changes}))
    line = refusal(lambda: read_any(litgpt))
    assert str(litgpt) in line and ("numbers are too few" in line or "is larger than any model's" in line)


@pytest.mark.parametrize("key", ["rope_condense_ratio", "attention_scores_scalar", "n_query_groups", "head_size"])
def test_a_number_that_no_model_has_is_refused_by_its_name(key: str, litgpt: Path) -> None:
    (litgpt / MODEL_CONFIG).write_text(yaml.dump({**SMALL, key: 2**64}))
    line = refusal(lambda: read_architecture(litgpt / LIT_MODEL, {}))
    assert line.endswith(f"model.{key}=18446744073709551616 is larger than any model's")


@pytest.mark.parametrize("factor", [2**64, -1, True, float("inf")])
def test_a_factor_of_the_rotation_that_no_model_has_is_refused(factor: float, litgpt: Path) -> None:
    said = {**SMALL, "rope_adjustments": {"factor": factor}}
    (litgpt / MODEL_CONFIG).write_text(yaml.dump(said))
    assert "must be a positive factor" in refusal(lambda: read_architecture(litgpt / LIT_MODEL, {}))


# --- the hub ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import hub_models

    folder = hub_models.masked_folder(tmp_path_factory.mktemp("hub") / "bert")
    tzd.load(folder)  # as it is, it is read
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 10**9}, "its config.json says num_hidden_layers=1000000000"),
        ({"num_labels": 10**9}, "its config.json says num_labels=1000000000"),
        ({"vocab_size": 10**9}, "tells of a network of"),
        ({"max_position_embeddings": 10**9}, "tells of a network of"),
        ({"intermediate_size": 10**9}, "tells of a network of"),
        ({"type_vocab_size": 10**12}, "tells of a network of"),
    ],
)
def test_no_network_of_the_hub_is_made_that_the_weights_cannot_fill(
    changes: dict[str, int], said: str, hub: Path
) -> None:
    described = {**json.loads((hub / "config.json").read_text()), **changes}
    folder = hub.with_name("other")
    folder.mkdir(exist_ok=True)
    for file in hub.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "config.json").write_text(json.dumps(described))
    assert said in refusal(lambda: library_network(str(folder), folder, described, weight_files(folder)))


@pytest.mark.parametrize(
    "asked",
    [
        {"_attn_implementation": "somebody/kernel"},
        {"attn_implementation": "paged|somebody/kernel:f"},
        {"text_config": {"_attn_implementation": "somebody/kernel"}},
        {"_experts_implementation": {"": "somebody/kernel"}},
    ],
)
def test_a_model_of_the_hub_does_not_choose_whose_code_computes_it(asked: dict[str, Any], hub: Path) -> None:
    described = {**json.loads((hub / "config.json").read_text()), **asked}
    line = refusal(lambda: library_network("it", hub, described, weight_files(hub)), UserError)
    assert line.startswith("it computes with code of another repository (") and "somebody/kernel" in line


@pytest.mark.parametrize("name", ["../../other.safetensors", "/etc/passwd", "a/b", ".."])
def test_an_index_of_the_hub_names_files_of_its_folder_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert f"names '{name}', which is not a file of this folder" in refusal(lambda: weight_files(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["http://127.0.0.1:9/x", "https://x/y", "//host/share", "../x", "x/../y/z", "a/b?c", "a b/c", "a@b/c", "file:///etc",
     "a/b\n", "x:80/y", "\N{CYRILLIC SMALL LETTER A}/b c", "~/none"],
)  # fmt: skip
def test_what_is_no_name_of_the_hub_is_asked_of_no_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    with pytest.raises(UserError, match=r"^there is no folder .*; give one that exists, or a repository of the hub"):
        repository(name)
