"""The `litgpt` denoiser: LitGPT's own GPT without its causal mask, its registry, and its folders of weights."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
import tzd
from promises import assert_promises_kept
from tzd.checkpoint.litgpt import EMBEDDING, pretrained_folder
from tzd.config import LitgptConfig, ModelSettings, TokenizerSettings
from tzd.config import litgpt_library as library
from tzd.configs import compose
from tzd.corpus import Corpus
from tzd.corpus.tokenizers.bpe import KIND as BPE
from tzd.diffusion.denoiser import Denoiser
from tzd.engines import engine_module
from tzd.errors import CheckpointError, ConfigError, MissingExtraError
from tzd.sampling import descriptions, sampler, stream
from tzd.sampling.presets import settings_of
from tzd.training.initial import initial_weights
from tzd.training.records import read_metrics

pytest.importorskip("litgpt")
import torch
import yaml

from litgpt import GPT, Config
from tzd.engines.torch.denoiser import TorchDenoiser, load_denoiser, set_weights
from tzd.engines.torch.litgpt import Litgpt, library_config, shapes

CONFIG = LitgptConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=12)
GEMMA = replace(
    CONFIG,
    n_head=4,
    n_query_groups=2,
    head_size=8,
    mlp_class_name="GemmaMLP",
    norm_unit_offset=True,
    norm_qk=True,
    post_attention_norm=True,
    post_mlp_norm=True,
    attention_logit_softcapping=2.0,
    final_logit_softcapping=3.0,
    scale_embeddings=True,
    rope_local_base_freq=100.0,
    rope_indices=(1, 0),
    padding_multiple=8,
    mask_id=16,
)
PHI = replace(
    CONFIG,
    norm_class_name="LayerNorm",
    mlp_class_name="GptNeoxMLP",
    bias=True,
    lm_head_bias=True,
    rotary_percentage=0.5,
    parallel_residual=True,
    shared_attention_norm=True,
    padding_multiple=8,
    mask_id=16,
    shift_logits=True,
)
MIXTURE = replace(CONFIG, mlp_class_name="LLaMAMoE", n_expert=4, n_expert_per_token=2, moe_intermediate_size=8)
CONFIGS = pytest.mark.parametrize("config", [CONFIG, GEMMA, PHI, MIXTURE], ids=["plain", "gemma", "phi", "mixture"])
MODEL = {"model.model_type": "litgpt", "training.optimizer": "adamw"}


def stirred(config: LitgptConfig, seed: int = 2) -> Litgpt:
    """A network none of whose weights is as it was."""
    network, generator = Litgpt(config).eval(), torch.Generator().manual_seed(seed)
    set_weights(network, initial_weights(shapes(config), 1, "litgpt"))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return network.requires_grad_(False)


def causal(network: Litgpt) -> GPT:
    """LitGPT's own GPT with the same weights, but for the row of [MASK], which it has not."""
    gpt = GPT(library_config(network.config)).eval()
    weights = network.state_dict()
    rows = network.config.padded_vocab_size
    gpt.load_state_dict({**weights, "transformer.wte.weight": weights["transformer.wte.weight"][:rows]})
    return gpt.requires_grad_(False)


def lower(length: int) -> torch.Tensor:
    """(1, L, L) who attends to whom in a causal model."""
    return torch.ones(1, length, length, dtype=torch.bool).tril()


def on(config: LitgptConfig) -> TorchDenoiser:
    return TorchDenoiser(stirred(config), config)


def logits_of(denoiser: Denoiser, tokens: np.ndarray, **inputs: np.ndarray) -> np.ndarray:
    return denoiser.xp.to_numpy(denoiser.forward(tokens, **inputs)[0])


def canvas(config: LitgptConfig = CONFIG, rows: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, config.vocab_size, (rows, 12))
    return np.where(rng.random(tokens.shape) < 0.3, config.mask_id, tokens)


# --- the mathematics ----------------------------------------------------------------------------------------------


def shrunken(name: str) -> LitgptConfig:
    """A model of the registry with all its peculiarities, two or six narrow layers, and few experts."""
    said = library.named(name)
    groups, heads = said.get("n_query_groups"), said.get("n_head", 32)
    further: dict[str, Any] = {"head_size": 16}
    if said.get("n_expert"):
        further |= {"n_expert": 4, "n_expert_per_token": 2}
    if said.get("moe_intermediate_size"):
        further["moe_intermediate_size"] = 8
    config = ModelSettings(
        model_type="litgpt",
        config_name=name,
        n_layer=6 if said.get("rope_indices") else 2,
        n_head=4,
        n_query_groups=4 if groups in (None, heads) else min(groups, 2),
        n_embd=32,
        intermediate_size=24,
        block_size=12,
        litgpt=further,
    ).architecture(11)
    assert isinstance(config, LitgptConfig)
    return config


def test_every_model_of_litgpts_registry_is_its_own_but_for_seeing_late_tokens() -> None:
    tokens = torch.tensor(np.random.default_rng(1).integers(0, 11, (2, 12)))
    late = tokens.clone()
    late[:, -1] = (late[:, -1] + 1) % 11
    everyone = torch.ones(1, 12, 12, dtype=torch.bool)
    distinct = {repr(config): (name, config) for name in library.names() for config in [shrunken(name)]}
    assert len(library.names()) >= 200 and len(distinct) >= 30
    for name, config in distinct.values():
        network = stirred(config)
        free = network(tokens)
        assert ((network(late) - free).abs().amax((0, 2)) > 1e-6).all(), name
        torch.testing.assert_close(network(tokens, attention=everyone), free, atol=1e-5, rtol=0, msg=name)
        theirs = causal(network)(tokens)
        torch.testing.assert_close(network(tokens, attention=lower(12)), theirs, atol=1e-4, rtol=0, msg=name)


@CONFIGS
def test_pads_positions_and_rows_are_heeded(config: LitgptConfig) -> None:
    config = replace(config, shift_logits=False)
    denoiser, tokens = on(config), canvas(config)
    full = logits_of(denoiser, tokens)
    rows = np.array([35, 0, 17, 17])
    np.testing.assert_allclose(logits_of(denoiser, tokens, rows=rows), full.reshape(36, -1)[rows], atol=1e-5)
    pads = np.broadcast_to(np.arange(12) < np.array([[12], [7], [1]]), (3, 12))
    padded = logits_of(denoiser, tokens, attention=pads)
    np.testing.assert_allclose(padded[0], full[0], atol=1e-5)
    np.testing.assert_allclose(padded[1, :7], logits_of(denoiser, tokens[1:2, :7])[0], atol=1e-5)
    order = np.random.default_rng(1).permutation(12)
    shuffled = logits_of(denoiser, tokens[:, order], positions=np.broadcast_to(order, (3, 12)))
    np.testing.assert_allclose(shuffled, full[:, order], atol=2e-5)
    alone = np.ones((3, 12, 12), dtype=bool)
    alone[:, 11] = alone[:, :, 11] = False
    nobody = logits_of(denoiser, tokens, attention=alone)
    np.testing.assert_allclose(nobody[:, :11], logits_of(denoiser, tokens[:, :11]), atol=1e-5)
    assert np.isfinite(nobody).all()


def test_shifted_logits_are_those_of_the_position_before() -> None:
    shifted, plain = on(PHI), on(replace(PHI, shift_logits=False))
    ours, raw = logits_of(shifted, canvas(PHI)), logits_of(plain, canvas(PHI))
    np.testing.assert_allclose(ours[:, 1:], raw[:, :-1], atol=1e-6)
    np.testing.assert_allclose(ours[:, 0], raw[:, 0], atol=1e-6)
    rows = np.array([13, 12, 5])
    np.testing.assert_allclose(logits_of(shifted, canvas(PHI), rows=rows), ours.reshape(36, -1)[rows], atol=1e-5)


def test_padding_behind_the_vocabulary_has_no_logits_and_mask_inside_it_is_banned() -> None:
    padded = on(GEMMA)
    assert (padded.vocab_size, padded.mask_id, padded.banned) == (11, 16, None)
    assert padded.network.transformer.wte.weight.shape == (17, 16)
    assert logits_of(padded, canvas(GEMMA)).shape == (3, 12, 11)
    inside = on(replace(CONFIG, mask_id=4))
    assert inside.banned is not None and np.flatnonzero(inside.banned).tolist() == [4]
    assert inside.network.transformer.wte.weight.shape == (11, 16)


@pytest.mark.parametrize("name", descriptions())
def test_every_sampler_keeps_its_promises(name: str) -> None:
    tokens = np.random.default_rng(3).integers(0, 11, (2, 20))
    tokens[:, 5:] = GEMMA.mask_id
    rules = sampler(name, **({"steps": 5} if "steps" in settings_of(name) else {}))
    assert_promises_kept(list(stream(on(GEMMA), tokens, sampler=rules, seed=3)), tokens, GEMMA.mask_id, rules)


@pytest.mark.parametrize(
    "precision, share",
    [
        ("32", 1e-5),
        ("bf16", 0.03),
        pytest.param(
            "int8", 0.1, marks=pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="no AVX512-VNNI")
        ),
    ],
)
@CONFIGS
def test_a_network_made_ready_for_sampling_computes_the_same_within_its_precision(
    config: LitgptConfig, precision: str, share: float
) -> None:
    weights = {name: value.numpy() for name, value in stirred(config).state_dict().items()}
    ready = load_denoiser(config, weights, context_len=0, where=Path("here"), precision=precision)
    one = canvas(config, 1)[:, :1]  # of which some experts see nothing
    for tokens in (canvas(config), one):
        exact, found = logits_of(on(config), tokens), logits_of(ready, tokens)
        assert found.shape == exact.shape
        apart = np.linalg.norm(found - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
        assert np.median(apart) < share  # rounding sends single tokens to other experts


# --- settings -----------------------------------------------------------------------------------------------------


def test_windows_that_slide_are_refused_where_they_would_and_taken_where_they_do_not() -> None:
    said = {name: library.complete(library.named(name), name) for name in library.names()}
    windows = {name: window for name in said if (window := library.sliding_window(said[name])) is not None}
    assert len(windows) == 17 and windows["Gemma-3-1b-it"] == 512 and windows["Mistral-7B-v0.1"] == 4096
    for name, fields in said.items():
        longest = windows.get(name, 2**20)
        assert library.settings(fields, longest, name)["block_size"] == longest
        if name in windows:
            with pytest.raises(ConfigError, match=rf"{name} attends within {longest} tokens, .* set data\.block_size"):
                library.settings(fields, longest + 1, name)


def test_the_registry_is_read_without_torch() -> None:
    code = "import sys; from tzd.config.litgpt_library import names; names(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_names_of_litgpt_and_of_the_hub_are_known_and_what_is_set_beside_them_counts() -> None:
    model = ["model=litgpt", "model.config_name=EleutherAI/pythia-14m", "data.block_size=64"]
    config = compose([*model, "model.n_layer=3", "+model.litgpt.norm_qk=true"]).model.architecture(65)
    pythia = LitgptConfig(vocab_size=65, n_layer=3, n_head=4, n_embd=128, block_size=64, bias=True, norm_qk=True)
    pythia = replace(pythia, norm_class_name="LayerNorm", mlp_class_name="GptNeoxMLP", parallel_residual=True)
    assert config == replace(pythia, rotary_percentage=0.25)
    assert compose(["model=litgpt"]).model.architecture(11) == LitgptConfig(vocab_size=11)


def test_a_named_architecture_owes_nothing_to_another_types_preset_and_all_to_what_is_set_beside() -> None:
    preset = "Diff_LLaMA_6M"
    named = [f"model={preset}", "model.model_type=litgpt", "model.config_name=pythia-14m"]
    own = ["model=litgpt", "model.config_name=pythia-14m"]
    same = [f"model.n_layer={compose([f'model={preset}']).model.n_layer}", 'model.n_embd="${calc:32*4}"']
    for beside in ([], same):
        expected = compose([*own, *beside]).model.architecture(65)
        assert compose([*named, *beside]).model.architecture(65) == expected
    wider = 'model.intermediate_size="${calc:${model.n_embd}*3}"'
    model = compose([f"model={preset}", "model.model_type=litgpt", wider]).model
    assert model.intermediate_size == 3 * model.n_embd
    given = compose([f"model={preset}", "model.model_type=litgpt", "model.checkpoint_dir=x", *same]).model
    assert (given.n_layer, given.n_head, given.intermediate_size) == (int(same[0].partition("=")[2]), None, None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.config_name=pythia-14"], r"LitGPT has no model\.config_name 'pythia-14' \(did you mean 'pythia-14m'"),
        (["model.config_name=x"], r"no model\.config_name 'x' \(its \d+ names are those of `litgpt download list`"),
        (["model.config_name=Gemma-2-2b", "data.block_size=4097"], r"Gemma-2-2b attends within 4096 tokens"),
        (["model.dropout=0.1"], r"model\.dropout=0\.1: model_type=litgpt has no such setting"),
        (["model.norm_class_name=RMSNrm"], r"'RMSNrm' \(did you mean 'RMSNorm'"),
        (["model.mlp_class_name=GPT"], r"unknown model\.mlp_class_name 'GPT'"),
        (["model.mlp_class_name=LLaMAMoE"], r"LLaMAMoE needs model\.n_expert_per_token in 1\.\.n_expert, not 0 of 0"),
        (["+model.litgpt.n_expert=3"], r"need model\.mlp_class_name=LLaMAMoE"),
        (["+model.litgpt.n_layer=3"], r"model\.litgpt\.n_layer has a key of its own: set model\.n_layer"),
        (["+model.litgpt.vocab_size=3"], r"model\.litgpt\.vocab_size: the tokenizer says it"),
        (["+model.litgpt.norm_qkk=true"], r"unknown setting 'model\.norm_qkk' \(did you mean 'norm_qk'"),
        (["+model.litgpt.rope_adjustments={factor: -1}"], r"rope_adjustments must be a positive factor"),
        (["+model.litgpt.rope_indices=[1,0]"], r"rope_indices and model\.rope_local_base_freq go together"),
        (["model.n_query_groups=3"], r"n_query_groups=3 does not divide model\.n_head=8"),
        (["model.rotary_percentage=0.02"], r"is 1; rotary positions need an even width"),
        (["model.shared_attention_norm=true"], r"needs model\.parallel_residual=true"),
        (["model.config_name=pythia-14m", "model.checkpoint_dir=x"], r"the architecture of given weights is theirs"),
        (["model.checkpoint_dir=x", "training.init_from=y"], r"init_from=y and x .*: a run begins with one of them"),
        (["model.model_type=smdm", "model.config_name=x"], r"model\.config_name=x needs model\.model_type=litgpt"),
    ],
)
def test_settings_that_cannot_be_are_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        compose(["model=litgpt", *overrides])
    assert "\n" not in str(error.value)


def test_without_litgpt_there_is_a_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    library._library.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"model_type=litgpt needs the extra 'litgpt': uv sync --extra litgpt"):
        ModelSettings(model_type="litgpt", config_name="pythia-14m")
    monkeypatch.setitem(sys.modules, "litgpt.model", None)
    with pytest.raises(MissingExtraError, match=r"needs the extra 'litgpt'"):
        Litgpt(CONFIG)


def test_mlx_refuses_it_in_a_line() -> None:
    pytest.importorskip("mlx.core")
    with pytest.raises(ConfigError, match=(r"the mlx engine has no model_type 'litgpt' \(it has: tiny, " r"smdm\)")):
        engine_module("mlx", "denoiser").build(CONFIG)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pretrained_model_name": "a/b"}, r"in checkpoints/a/b .*: litgpt download a/b puts one there"),
        ({"pretrained_model_name": "a/b", "checkpoint_dir": "x/a/b"}, r"in x/a/b .*: .* a/b --checkpoint_dir x puts"),
        ({"pretrained_model_name": "a/b", "checkpoint_dir": "x"}, r"in x/a/b .*: .* a/b --checkpoint_dir x puts"),
        (
            {"checkpoint_dir": "x"},
            (
                r"there is no lit_model\.pth in x \(model\.checkpoint_dir\): give "
                "the folder that holds it, which for litgpt download OWNER/NAME is "
                "checkpoints/OWNER/NAME"
            ),
        ),
    ],
)
def test_weights_that_are_not_there_are_a_line_that_says_what_puts_them_there(
    settings: dict[str, str], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        pretrained_folder(ModelSettings(model_type="litgpt", **settings))  # type: ignore[arg-type]


# --- training -----------------------------------------------------------------------------------------------------


def test_the_first_weights_follow_litgpts_rule() -> None:
    config = replace(MIXTURE, n_layer=4, n_embd=128, vocab_size=300, attn_bias=True, moe_intermediate_size=256)
    first = initial_weights(shapes(config), 1, "litgpt")
    assert sum("experts" in name for name in first) == 4 * 4 * 3
    for name, value in first.items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif value.ndim == 1:
            assert (value == 1).all(), name
        else:
            deviation = 1 / math.sqrt(128) / 4 if name.endswith("proj.weight") else math.sqrt(2 / 5 / 128)
            assert value.std() == pytest.approx(deviation, rel=0.1), name


@pytest.mark.parametrize(
    "changes",
    [
        {"training.ema_decay": 0.9},
        {"model.config_name": "pythia-14m", "training.optimizer": "muon", "training.precision": "bf16-mixed"},
        {"model.config_name": "Mixtral-8x7B-v0.1", "model.litgpt": {"n_expert": 3}, "model.n_query_groups": 1},
    ],
    ids=["average", "muon and half precision", "mixture"],
)
def test_ten_steps_lower_the_bound(changes: dict[str, Any], tmp_path: Path) -> None:
    run = runs.train(tmp_path, {**MODEL, "training.max_steps": 10, "model.intermediate_size": 32, **changes})
    bound = read_metrics(run.path)["val_nats_per_token"]
    bound = bound[~np.isnan(bound)]
    assert bound[-1] < bound[0] - 0.1


def test_a_run_resumes_and_its_checkpoint_samples_and_is_scored(tmp_path: Path) -> None:
    steady = {**MODEL, "training.lr_schedule": "constant"}
    runs.train(tmp_path, {**steady, "training.max_steps": 3})
    run = runs.train(tmp_path, {**steady, "training.max_steps": 6, "training.resume": True})
    runs.assert_same_weights(run, runs.train(tmp_path / "whole", steady))
    model = tzd.load(run.path, engine="torch")
    assert isinstance(model.config, LitgptConfig) and model.config.n_layer == 1
    assert runs.weights(run).keys() == shapes(model.config).keys() >= {"transformer.h.0.attn.qkv.weight"}
    assert len(tzd.sample(model, length=10, prompt="apple ", steps=4).text[0]) == 16
    assert 0 < tzd.nelbo(model, "apple banana cherry", draws=2).nats_per_token < 5


# --- LitGPT's folders ---------------------------------------------------------------------------------------------

QWEN = {"n_layer": 2, "n_head": 4, "n_query_groups": 2, "n_embd": 16, "intermediate_size": 24, "block_size": 64}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return BPE.make(TokenizerSettings("bpe", vocab_size=270), Corpus.from_text("text", runs.TEXT))


@pytest.fixture
def release(tmp_path: Path, tokenizer: Any) -> Callable[..., Path]:
    """Writes a folder as LitGPT does: a small Qwen2.5, of whose 304 rows the tokenizer has 270, LitGPT's count 260."""

    def write(name: str = "Qwen2.5-0.5B", *, tokens: bool = True, **changes: Any) -> Path:
        folder = tmp_path / "checkpoints" / "Qwen" / name
        folder.mkdir(parents=True, exist_ok=True)
        config = Config.from_name(name, **{**QWEN, "vocab_size": 260, "padded_vocab_size": 304, **changes})
        torch.manual_seed(0)
        torch.save(GPT(config).state_dict(), folder / "lit_model.pth")
        (folder / "model_config.yaml").write_text(yaml.dump(asdict(config)))
        if tokens:
            for file, content in tokenizer.files().items():
                (folder / file).write_bytes(content)
        return folder

    return write


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "lit_model.pth", weights_only=True)


def test_a_folder_of_litgpts_is_read_with_its_tokenizer_and_a_row_for_mask(release: Callable[..., Path]) -> None:
    folder = release()
    model, theirs = tzd.load(folder), GPT(Config.from_file(folder / "model_config.yaml"))
    theirs.load_state_dict(state(folder))
    assert isinstance(model.config, LitgptConfig)
    assert (model.config.vocab_size, model.mask_id, model.config.block_size) == (270, 304, 64)
    tokens = model.encode("apple banana")[None]
    ours = logits_of(model.denoiser, tokens, attention=lower(tokens.shape[1]).numpy())
    with torch.no_grad():
        np.testing.assert_allclose(ours, theirs(torch.tensor(tokens).long())[..., :270].numpy(), atol=1e-5)
    weights = runs.load_file(tzd.convert(folder, folder.parent / "ours") / "model.safetensors")
    rows = state(folder)["transformer.wte.weight"].numpy()
    np.testing.assert_array_equal(weights[EMBEDDING][:304], rows)
    np.testing.assert_allclose(weights[EMBEDDING][304], rows[:270].mean(axis=0), atol=1e-7)
    assert all((weights[key] == value.numpy()).all() for key, value in state(folder).items() if key != EMBEDDING)


def test_without_a_tokenizer_the_vocabulary_is_litgpts_count(release: Callable[..., Path]) -> None:
    model = tzd.load(release(tokens=False) / "lit_model.pth")
    assert model.tokenizer is None and model.denoiser.vocab_size == 260


def test_half_precision_litgpts_training_and_a_folder_named_for_a_model_are_read(release: Callable[..., Path]) -> None:
    folder = release("pythia-14m", n_layer=6, n_embd=128, n_head=4, n_query_groups=4, intermediate_size=512)
    halves = {name: value.bfloat16() for name, value in state(folder).items()}
    rows = torch.zeros(50304 - 304, 128)
    for name in ("lm_head.weight", "transformer.wte.weight"):
        halves[name] = torch.cat((halves[name], rows.bfloat16()))
    torch.save({"model": halves, "step": 3}, folder / "lit_model.pth")
    (folder / "model_config.yaml").unlink()
    model = tzd.load(folder)
    assert isinstance(model.config, LitgptConfig) and model.config.block_size == 512 and model.mask_id == 50304
    shutil.rmtree(folder)


def test_a_window_that_slides_bounds_the_models_own(release: Callable[..., Path]) -> None:
    folder = release(sliding_window_size=16)
    assert tzd.load(folder).config.block_size == 16  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match=r"you gave block_size=17 .* allows 16 at most"):
        tzd.convert(folder, folder / "ours", block_size=17)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_embd": "wide"}, r"model_config\.yaml: n_embd cannot be 'wide'; it takes a whole number"),
        ({"n_layer": 3}, r"lit_model\.pth does not fit .*: 8 missing \(transformer\.h\.2\.norm_1\.weight, "),
        ({"n_embd": 32, "head_size": None}, r"does not fit the model .*of another shape \(lm_head\.weight \(304, 16\)"),
        ({"attn_bias": False}, r"2 unexpected \(transformer\.h\.0\.attn\.qkv\.bias"),
        ({"mlp_class_name": "GPT"}, r"unknown model\.mlp_class_name 'GPT'"),
        ({"norm_class_name": "Linear"}, r"unknown model\.norm_class_name 'Linear'"),
        ({"latent_attention": {"q_lora_rank": 4}}, r"says latent_attention=.*cannot be had here"),
        ({"n_layr": 2}, r"model_config\.yaml says n_layr, which LitGPT has not \(did you mean 'n_layer'"),
        ({"padded_vocab_size": 264}, r"padded_vocab_size=264 is less than the 270 tokens of tokenizer\.json"),
        ({"padding_multiple": 0}, r"padding_multiple must be at least 1, not 0"),
        ({"block_size": None}, r"block_size cannot be None"),
        ({"sliding_window_size": "wide"}, r"sliding_window_size='wide' cannot be"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(
    change: dict[str, Any], message: str, release: Callable[..., Path]
) -> None:
    file = release() / "model_config.yaml"
    file.write_text(yaml.dump({**yaml.safe_load(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=message) as error:
        tzd.load(file.parent)
    assert "\n" not in str(error.value)


def test_nothing_in_a_folder_can_run(release: Callable[..., Path], tmp_path: Path) -> None:
    folder = release()
    for text in ("!!python/object/apply:os.mkdir [ran]", "a: [", "3", ""):
        (folder / "model_config.yaml").write_text(text)
        with pytest.raises(CheckpointError, match=r"model_config\.yaml (cannot be read|is damaged)") as error:
            tzd.load(folder)
        assert "\n" not in str(error.value)
    (folder / "model_config.yaml").unlink()
    nameless = folder.rename(tmp_path / "nameless")
    with pytest.raises(CheckpointError, match=r"has no model_config\.yaml .* is not named for a model"):
        tzd.load(nameless)
    release()
    for content in (b"", b"x" * 100):
        (folder / "lit_model.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"lit_model\.pth cannot be read|lit_model\.pth holds"):
            tzd.load(folder)


def test_an_autoregressive_model_becomes_a_diffusion_model(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/from-autoregressive.md on a small Qwen2.5, from the hub's format on; only the download is left out."""
    transformers = pytest.importorskip("transformers")
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

    from litgpt import config as litgpt_config

    known = litgpt_config.name_to_config
    small = {**known["Qwen2.5-0.5B"], **QWEN, "name": "Qwen2.5-tiny", "vocab_size": 260, "padded_vocab_size": 304}
    monkeypatch.setitem(known, "Qwen2.5-tiny", small)
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(runs.TEXT)
    folder = Path("checkpoints/Qwen/Qwen2.5-tiny")
    shape = {"vocab_size": 304, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    qwen = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**shape, tie_word_embeddings=True, rope_theta=1e6))
    qwen.save_pretrained(folder)
    for file, content in tokenizer.files().items():
        (folder / file).write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    convert_hf_checkpoint(checkpoint_dir=folder, model_name="Qwen2.5-tiny")

    model = tzd.load(folder)
    tokens = np.random.default_rng(0).integers(0, 270, (2, 12))
    with torch.no_grad():
        theirs = qwen.eval()(torch.tensor(tokens)).logits[..., :270].numpy()
    np.testing.assert_allclose(logits_of(model.denoiser, tokens, attention=lower(12).numpy()), theirs, atol=1e-5)

    recipe = ["model=litgpt", "model.pretrained_model_name=Qwen/Qwen2.5-tiny", "tokenizer=hf", "data=text"]
    recipe += [f"tokenizer.pretrained_model_name_or_path={folder}", "data.path=text.txt", "data.block_size=32"]
    recipe += ["objective=nelbo", "training.optimizer=adamw", "model.lr=1e-2", "training.warmup_steps=2"]
    recipe += ["training.max_steps=12", "training.eval_interval=12", "training.val_windows=8", "data.batch_size=4"]
    recipe += ["training.val_generation_freq=0", "training.accelerator=cpu", "training.precision=32-true"]
    for shift in (False, True):
        best = tzd.train([*recipe, f"model.shift_logits={shift}", f"logger.name=shift-{shift}"])
        assert best is not None
        bound = read_metrics(best.parent)["val_nats_per_token"]
        assert bound[~np.isnan(bound)][-1] < bound[~np.isnan(bound)][0] - 0.1
        trained = tzd.load(best)
        assert isinstance(trained.config, LitgptConfig) and trained.config.block_size == 32
        assert trained.config.shift_logits is shift
        assert len(tzd.sample(trained, prompt="apple", length=8, steps=4).text) == 1
    with pytest.raises(
        ConfigError,
        match=(
            r"checkpoints/Qwen/Qwen2\.5-tiny/lit_model\.pth has "
            r"n_layer=2, not model\.n_layer=3: leave it out "
            r"\(model=litgpt does\)"
        ),
    ):
        tzd.train([*recipe, "model.n_layer=3"])
    with pytest.raises(ConfigError, match=r"data\.block_size=65 is longer than the window of .*, 64"):
        tzd.train([*recipe, "data.block_size=65"])
    with pytest.raises(
        CheckpointError,
        match=(
            r"there is no lit_model\.pth in checkpoints/a/b "
            r"\(model\.pretrained_model_name, "
            r"model\.checkpoint_dir\): litgpt download a/b puts one "
            "there"
        ),
    ):
        tzd.train([*recipe, "model.pretrained_model_name=a/b"])
    with pytest.raises(
        ConfigError,
        match=(
            r"checkpoints/Qwen/Qwen2\.5-tiny/lit_model\.pth has another "
            "tokenizer than this run, whose tokens would mean other "
            "things to it: set tokenizer and data as they were "
            r"\(training\.init_from\)"
        ),
    ):
        tzd.train([*recipe, "tokenizer=char", "tokenizer.pretrained_model_name_or_path=null"])
