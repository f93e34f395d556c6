"""The `smdm` denoiser on every engine: its mathematics, sizes, settings, first weights, training and files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import runs
import tzd
from promises import assert_promises_kept
from tzd.checkpoint.smdm import shapes
from tzd.config import ModelSettings, SmdmConfig, TrainingSettings
from tzd.config.smdm import SIZES
from tzd.configs import compose, options
from tzd.corpus.tokenizers.bpe import KIND as BPE
from tzd.diffusion.denoiser import Denoiser
from tzd.diffusion.rotary import float32_angles
from tzd.engines import ENGINES, engine_module
from tzd.errors import CheckpointError, ConfigError, UserError
from tzd.sampling import descriptions, sampler, stream
from tzd.sampling.presets import settings_of
from tzd.training.initial import initial_weights
from tzd.training.records import read_metrics

Weights = dict[str, np.ndarray]
CONFIG = SmdmConfig(vocab_size=11, n_layer=2, n_head=2, n_embd=16, block_size=12)
EVERYTHING = replace(
    CONFIG,
    n_head=4,
    n_query_groups=2,
    bias=True,
    norm_class_name="LayerNorm",
    mlp_class_name="GptNeoxMLP",
    rotary_percentage=0.5,
    parallel_residual=True,
    shared_attention_norm=True,
    padding_multiple=8,
    mask_id=16,
)
MODEL = {"model.model_type": "smdm", "training.optimizer": "adamw"}


def stirred(config: SmdmConfig, seed: int = 2) -> Weights:
    """Weights none of which is as it was."""
    rng = np.random.default_rng(seed)
    first = initial_weights(shapes(config), 1, "smdm")
    return {
        name: value + np.float32(0.3) * rng.standard_normal(value.shape, np.float32) for name, value in first.items()
    }


def on(engine: str, config: SmdmConfig = CONFIG, weights: Weights | None = None) -> Denoiser:
    load = engine_module(engine, "denoiser").load_denoiser
    return load(config, stirred(config) if weights is None else weights, context_len=0, where=Path("here"))


def logits_of(denoiser: Denoiser, tokens: np.ndarray, **inputs: np.ndarray) -> np.ndarray:
    return denoiser.xp.to_numpy(denoiser.forward(tokens, **inputs)[0])


def canvas(config: SmdmConfig = CONFIG, rows: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, config.vocab_size, (rows, 12))
    return np.where(rng.random(tokens.shape) < 0.3, config.mask_id, tokens)


# --- the mathematics ----------------------------------------------------------------------------------------------


def oracle(config: SmdmConfig, weights: Weights, tokens: np.ndarray) -> np.ndarray:
    """SMDM's encoder, one position and one head at a time, in float64."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def affine(name: str, x: np.ndarray) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        if config.norm_class_name == "LayerNorm":
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.norm_eps)
            return x * w[f"{name}.weight"] + w[f"{name}.bias"]
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps) * w[f"{name}.weight"]

    def rotated(x: np.ndarray, position: int) -> np.ndarray:
        x, half = x.copy(), config.rotary_width // 2
        for i in range(half):
            angle = position * config.rope_base ** (-2 * i / config.rotary_width)
            turned = (x[i] + 1j * x[half + i]) * np.exp(1j * angle)
            x[i], x[half + i] = turned.real, turned.imag
        return x

    def attention(name: str, x: np.ndarray) -> np.ndarray:
        qkv, size, per_group = affine(f"{name}.attn", x), config.head_size, config.n_head // config.groups
        mixed = []
        for head in range(config.n_head):
            group = head // per_group
            first = (group * (per_group + 2) + head % per_group) * size
            key = (group * (per_group + 2) + per_group) * size
            q = np.array([rotated(row[first : first + size], p) for p, row in enumerate(qkv)])
            k = np.array([rotated(row[key : key + size], p) for p, row in enumerate(qkv)])
            p = np.exp(q @ k.T / math.sqrt(size))
            mixed.append(p / p.sum(-1, keepdims=True) @ qkv[:, key + size : key + 2 * size])
        return affine(f"{name}.proj", np.concatenate(mixed, axis=-1))

    def mlp(name: str, x: np.ndarray) -> np.ndarray:
        if config.mlp_class_name == "LLaMAMLP":
            gate = affine(f"{name}.swiglu.w1", x)
            return affine(f"{name}.swiglu.w3", gate / (1 + np.exp(-gate)) * affine(f"{name}.swiglu.w2", x))
        x = affine(f"{name}.fc", x)
        return affine(f"{name}.proj", x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))

    logits = []
    for row in tokens:
        x = w["transformer.wte.weight"][row]
        for i in range(config.n_layer):
            name = f"transformer.h.{i}"
            first = norm(f"{name}.norm_1", x)
            mixed = x + attention(f"{name}.attn", first)
            if not config.shared_attention_norm:
                first = norm(f"{name}.norm_2", x if config.parallel_residual else mixed)
            x = mixed + mlp(f"{name}.mlp", first)
        logits.append(affine("lm_head", norm("transformer.ln_f", x))[:, : config.vocab_size])
    return np.array(logits)


@pytest.mark.parametrize("width", [2, 16, 64, 128])
def test_angles_of_far_positions_are_rounded_as_smdms(width: int) -> None:
    import torch

    frequency = 1.0 / (10000 ** (torch.arange(0, width, 2) / width))
    theirs = torch.outer(torch.arange(2048), frequency).numpy()
    np.testing.assert_allclose(float32_angles(2048, width, 10000.0), theirs, rtol=0, atol=1e-6)
    exact = np.outer(np.arange(2048), 10000.0 ** (-np.arange(0, width, 2) / width))
    assert width < 64 or np.abs(theirs - exact).max() > 5e-5


@st.composite
def models(draw: st.DrawFn) -> SmdmConfig:
    groups, queries, size = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.sampled_from([4, 8]))
    parallel = draw(st.booleans())
    return SmdmConfig(
        vocab_size=draw(st.integers(2, 20)),
        n_layer=draw(st.integers(1, 2)),
        n_head=groups * queries,
        n_query_groups=groups,
        n_embd=groups * queries * size,
        block_size=12,
        intermediate_size=draw(st.sampled_from([None, 1, 24])),
        bias=draw(st.booleans()),
        norm_class_name=draw(st.sampled_from(["RMSNorm", "LayerNorm"])),
        norm_eps=draw(st.sampled_from([1e-5, 1e-2])),
        mlp_class_name=draw(st.sampled_from(["LLaMAMLP", "GptNeoxMLP"])),
        rotary_percentage=draw(st.sampled_from([1.0, 0.5])),
        rope_base=draw(st.sampled_from([10000.0, 10.0])),
        parallel_residual=parallel,
        shared_attention_norm=parallel and draw(st.booleans()),
        padding_multiple=draw(st.sampled_from([1, 8])),
    )


@settings(max_examples=25, deadline=None)
@given(models(), st.integers(0, 1000))
def test_every_combination_computes_what_a_plain_one_computes(config: SmdmConfig, seed: int) -> None:
    weights, tokens = stirred(config, seed), canvas(config, rows=2, seed=seed)
    expected = oracle(config, weights, tokens)
    for engine in ENGINES:
        if engine == "mlx":
            pytest.importorskip("mlx.core")
        np.testing.assert_allclose(logits_of(on(engine, config, weights), tokens), expected, atol=1e-4, err_msg=engine)


@pytest.mark.parametrize("config", [CONFIG, EVERYTHING], ids=["plain", "everything"])
def test_a_late_token_moves_early_logits(engine: str, config: SmdmConfig) -> None:
    tokens = canvas(config, rows=1)
    changed = tokens.copy()
    changed[0, -1] = (changed[0, -1] + 1) % config.vocab_size
    denoiser = on(engine, config)
    moved = np.abs(logits_of(denoiser, changed) - logits_of(denoiser, tokens)).max(axis=(0, 2))
    assert (moved > 1e-4).all()


def test_pads_positions_and_rows_are_heeded(engine: str) -> None:
    denoiser, tokens = on(engine, EVERYTHING), canvas(EVERYTHING)
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


def test_attention_of_large_logits_is_finite_and_alike() -> None:
    pytest.importorskip("mlx.core")
    weights = {name: 30 * value if "attn.attn" in name else value for name, value in stirred(CONFIG).items()}
    one, other = (logits_of(on(engine, CONFIG, weights), canvas()) for engine in ENGINES)
    assert np.isfinite(other).all()
    np.testing.assert_allclose(other, one, atol=1e-2)


def test_the_gate_and_its_slope_are_those_of_silu_at_every_size() -> None:
    mx = pytest.importorskip("mlx.core")
    import torch

    from tzd.engines.mlx.smdm import silu

    points = np.concatenate([np.linspace(-60, 60, 997), [-1e4, -100, 0, 100, 1e4]]).astype(np.float32)
    theirs = torch.tensor(points, requires_grad=True)
    torch.nn.functional.silu(theirs).sum().backward()
    np.testing.assert_allclose(
        np.array(silu(mx.array(points))), torch.nn.functional.silu(theirs).detach(), atol=1e-6, rtol=1e-6
    )
    slope = np.array(mx.grad(lambda x: silu(x).sum())(mx.array(points)))
    np.testing.assert_allclose(slope, theirs.grad, atol=1e-6, rtol=1e-5)


def test_padding_behind_the_vocabulary_has_no_logits_and_mask_inside_it_is_banned(engine: str) -> None:
    padded = on(engine, EVERYTHING)
    assert (padded.vocab_size, padded.mask_id, padded.banned) == (11, 16, None)
    assert logits_of(padded, canvas(EVERYTHING)).shape == (3, 12, 11)
    inside = on(engine, replace(CONFIG, mask_id=4)).banned
    assert inside is not None and np.flatnonzero(inside).tolist() == [4]


@pytest.mark.parametrize("name", descriptions())
@pytest.mark.parametrize("config", [EVERYTHING, replace(CONFIG, mask_id=4)], ids=["everything", "mask inside"])
def test_every_sampler_keeps_its_promises(engine: str, name: str, config: SmdmConfig) -> None:
    tokens = np.random.default_rng(3).integers(5, config.vocab_size, (2, 20))
    tokens[:, 5:] = config.mask_id
    rules = sampler(name, **({"steps": 5} if "steps" in settings_of(name) else {}))
    frames = list(stream(on(engine, config), tokens, sampler=rules, seed=3))
    assert_promises_kept(frames, tokens, config.mask_id, rules)


# --- sizes and settings -------------------------------------------------------------------------------------------

# Millions of parameters beside embedding and head, as SMDM's pretrain/train_mdm.py has them.
MILLIONS = """6.294784 18.880896 33.563136 47.786688 65.54944 75.38752 85.21408 113.265408 141.581568 169.897728
179.856768 205.550464 231.24416 268.469248 302.027776 335.586304 471.90656 550.55744 571.001728 629.20832 666.168448
717.285888 761.335168 830.541312 943.796736 1027.677952 1233.213184 1476.487168 1677.826048 2121.39328"""


def test_the_published_sizes_have_their_numbers_of_parameters() -> None:
    counted = {}
    for name in SIZES:
        found = shapes(SmdmConfig(vocab_size=32000, **vars(SIZES[name])))
        assert found["transformer.wte.weight"][0] == 32001 and found["lm_head.weight"][0] == 32000
        inner = [shape for key, shape in found.items() if key not in ("transformer.wte.weight", "lm_head.weight")]
        counted[name] = sum(map(math.prod, inner)) / 1e6
    assert list(counted.values()) == [float(number) for number in MILLIONS.split()]
    assert list(counted) == [f"Diff_LLaMA_{round(value)}M" for value in counted.values()]


def test_every_published_size_is_a_preset() -> None:
    assert set(options()["model"]) >= {*SIZES, "smdm"}
    for name in ("Diff_LLaMA_75M", "Diff_LLaMA_2121M"):
        model = compose([f"model={name}"]).model
        assert model.name == name
        assert model.architecture(32000) == SmdmConfig(vocab_size=32000, **vars(SIZES[name]))


@pytest.mark.parametrize("config", [CONFIG, EVERYTHING], ids=["plain", "everything"])
def test_networks_have_the_names_and_shapes_of_smdms_files(engine: str, config: SmdmConfig) -> None:
    module = engine_module(engine, "denoiser")
    assert module.weight_shapes(module.build(config)) == shapes(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.bias=true"], r"model\.bias=True: model_type=tiny has no such setting; .*model_type=smdm"),
        (["model.n_query_groups=2"], r"model\.n_query_groups=2: model_type=tiny has no such setting"),
        (["model=smdm", "model.dropout=0.1"], r"model\.dropout=0\.1: model_type=smdm has no such setting"),
        (["model=smdm", "model.time_steps=8"], r"model\.time_steps=8: model_type=smdm has no such setting"),
        (["model=smdm", "model.norm_class_name=RMSNrm"], r"'RMSNrm' \(did you mean 'RMSNorm'"),
        (["model=smdm", "model.mlp_class_name=GLU"], r"unknown model\.mlp_class_name 'GLU'"),
        (["model=smdm", "model.n_query_groups=3"], r"n_query_groups=3 does not divide model\.n_head=8"),
        (["model=smdm", "model.n_head=7"], r"model\.n_head=7 does not divide"),
        (["model=smdm", "model.rotary_percentage=1.5"], r"must lie in \(0, 1\], not 1\.5"),
        (["model=smdm", "model.rotary_percentage=0.02"], r"is 1; rotary positions need an even width"),
        (["model=smdm", "model.shared_attention_norm=true"], r"needs model\.parallel_residual=true"),
        (["model=smdm", "model.padding_multiple=0"], r"model\.padding_multiple must be at least 1"),
        (["model.model_type=smdn"], r"'smdn' \(did you mean 'smdm'"),
    ],
)
def test_settings_that_cannot_be_are_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        compose(overrides)
    assert "\n" not in str(error.value)


def test_every_setting_reaches_the_architecture() -> None:
    told = {name: value for name, value in vars(EVERYTHING).items() if name not in ("vocab_size", "mask_id")}
    overrides = [f"model.{key}={value}" for key, value in told.items() if value is not None]
    config = compose(["model=smdm", "data.block_size=12", *overrides]).model.architecture(11)
    assert config == EVERYTHING


# --- training ----------------------------------------------------------------------------------------------------


def test_the_first_weights_follow_smdms_rule() -> None:
    config = replace(CONFIG, n_layer=4, n_embd=128, vocab_size=300, bias=True)
    first = initial_weights(shapes(config), 1, "smdm")
    for name, value in first.items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif value.ndim == 1:
            assert (value == 1).all(), name
        else:
            writes = name.endswith(("attn.proj.weight", "w3.weight"))
            deviation = 1 / math.sqrt(128) / 4 if writes else math.sqrt(2 / 5 / 128)
            assert value.std() == pytest.approx(deviation, rel=0.03), name
    plain = initial_weights(shapes(replace(config, mlp_class_name="GptNeoxMLP")), 1, "smdm")
    for part in ("fc", "proj"):
        assert plain[f"transformer.h.3.mlp.{part}.weight"].std() == pytest.approx(math.sqrt(2 / 5 / 128), rel=0.03)


def test_muon_takes_the_hidden_matrices_and_vectors_do_not_decay(engine: str) -> None:
    module = engine_module(engine, "denoiser")
    network = module.build(EVERYTHING)
    every = shapes(EVERYTHING)
    if engine == "torch":
        from tzd.engines.torch.optim import split_parameters

        named = {id(p): name for name, p in network.named_parameters()}
        hidden, outer, vectors = ({named[id(p)] for p in part} for part in split_parameters(network))
    else:
        from tzd.engines.mlx.optim import make_groups, split_parameters

        hidden, outer, vectors = map(set, split_parameters(network, every))
        settings_ = ModelSettings(model_type="smdm"), TrainingSettings(weight_decay=0.3)
        groups = make_groups(list(hidden), list(outer), list(vectors), model=settings_[0], training=settings_[1])
        assert [getattr(group.optimizer, "weight_decay", None) for group in groups][1:] == [0.3, 0.0]
    assert outer == {"lm_head.weight", "transformer.wte.weight"}
    assert vectors == {name for name, shape in every.items() if len(shape) == 1}
    assert hidden == every.keys() - outer - vectors


def losses(folder: Path, engine: str, changes: dict[str, Any]) -> np.ndarray:
    """Losses of ten steps, in which the bound falls."""
    run = runs.train(folder, {**MODEL, "training.max_steps": 10, **changes}, engine=engine)
    loss, bound = (
        column[~np.isnan(column)] for column in map(read_metrics(run.path).get, ("loss", "val_nats_per_token"))
    )
    assert len(loss) == 10 and bound[-1] < bound[0] - 0.1
    return loss


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "model.n_head": 4,
            "model.n_query_groups": 2,
            "model.bias": True,
            "model.norm_class_name": "LayerNorm",
            "model.mlp_class_name": "GptNeoxMLP",
            "model.rotary_percentage": 0.5,
            "model.parallel_residual": True,
            "model.padding_multiple": 16,
        },
    ],
    ids=["plain", "everything"],
)
def test_two_engines_lose_alike_over_ten_steps(changes: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    torch, mlx = (losses(tmp_path / engine, engine, changes) for engine in ENGINES)
    np.testing.assert_allclose(mlx, torch, rtol=1e-4)


@pytest.mark.parametrize("change", [{"training.compile": True}, {"training.precision": "bf16-mixed"}])
def test_a_compiled_and_a_half_precise_run_of_mlx_lose_as_a_plain_one(change: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    plain, other = (losses(tmp_path / str(len(c)), "mlx", {"training.compile": False, **c}) for c in ({}, change))
    np.testing.assert_allclose(other, plain, rtol=1e-5 if "training.compile" in change else 2e-2)
    assert (other == plain).all() != ("training.precision" in change)


def test_muon_in_half_precision_learns_on_torch(tmp_path: Path) -> None:
    losses(tmp_path, "torch", {"training.optimizer": "muon", "training.precision": "bf16-mixed"})


def test_a_run_resumes_and_its_checkpoint_serves_both_engines(engine: str, tmp_path: Path) -> None:
    other = next(name for name in ENGINES if name != engine)
    pytest.importorskip("mlx.core")
    steady = {**MODEL, "training.lr_schedule": "constant"}
    runs.train(tmp_path, {**steady, "training.max_steps": 3}, engine=engine)
    run = runs.train(tmp_path, {**steady, "training.max_steps": 6, "training.resume": True}, engine=engine)
    runs.assert_same_weights(run, runs.train(tmp_path / "whole", steady, engine=engine))
    one, two = (tzd.load(run.path, engine=name) for name in (engine, other))
    assert isinstance(one.config, SmdmConfig)
    tokens = one.encode("apple banana cherry")[None]
    np.testing.assert_allclose(np.asarray(one.logits(tokens)), np.asarray(two.logits(tokens)), atol=1e-4)
    assert len(tzd.sample(one, length=10, prompt="apple ", steps=4).text[0]) == 16


def test_a_single_file_cannot_hold_it_and_says_so_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds models of model_type=tiny, and this one is smdm"):
        runs.train(tmp_path, {**MODEL, "tokenizer.name": "ascii", "training.export_to": str(tmp_path / "a.npz")})
    run = runs.train(tmp_path, {**MODEL, "tokenizer.name": "ascii"})
    with pytest.raises(UserError, match=r"holds models of model_type=tiny, and this one is smdm"):
        tzd.convert(run.path, tmp_path / "a.npz")
    assert not list(tmp_path.glob("a.*"))


# --- released files ----------------------------------------------------------------------------------------------


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., Path]:
    """Writes weights and a config as SMDM releases them."""

    def write(config: SmdmConfig = CONFIG, weights: Weights | None = None, **said: Any) -> Path:
        save_file(stirred(config) if weights is None else weights, tmp_path / "mdm.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"n_head": config.n_head, "block_size": 12, **said}))
        return tmp_path / "mdm.safetensors"

    return write


@pytest.mark.parametrize("as_folder", [True, False], ids=["folder", "file"])
def test_a_released_file_is_read_for_what_its_shapes_and_its_config_say(
    engine: str, as_folder: bool, release: Callable[..., Path]
) -> None:
    said = {"rotary_percentage": 0.5, "parallel_residual": True, "vocab_size": 11, "padding_multiple": 8}
    file = release(EVERYTHING, **said)
    model = tzd.load(file.parent if as_folder else file, engine=engine)
    assert model.config == replace(EVERYTHING, intermediate_size=64, padding_multiple=16)
    expected = logits_of(on(engine, EVERYTHING), canvas(EVERYTHING))
    np.testing.assert_array_equal(np.asarray(model.logits(canvas(EVERYTHING))), expected)


def test_a_conversion_holds_the_same_weights(release: Callable[..., Path], tmp_path: Path) -> None:
    weights = stirred(CONFIG)
    folder = tzd.convert(release(), tmp_path / "ours")
    model = tzd.load(folder, engine="torch")
    assert isinstance(model.config, SmdmConfig) and model.config.n_head == 2 and model.tokenizer is None
    for name, value in runs.load_file(folder / "model.safetensors").items():
        np.testing.assert_array_equal(value, weights[name])
    with pytest.raises(UserError, match=r"put its tokenizer\.json beside"):
        tzd.sample(model, prompt="text")
    assert tzd.sample(model, prompt=[[1, 2]], length=4, steps=2).text == []


def test_a_run_begins_with_released_weights_where_the_vocabulary_fits(
    engine: str, release: Callable[..., Path], tmp_path: Path
) -> None:
    start = {"training.init_from": str(release(replace(CONFIG, vocab_size=128, block_size=24), block_size=24))}
    run = runs.train(tmp_path / "run", {**MODEL, "tokenizer.name": "ascii", **start}, engine=engine)
    assert isinstance(tzd.load(run.path, engine=engine).config, SmdmConfig)
    with pytest.raises(
        ConfigError,
        match=(
            "has 128 tokens, and this run's tokenizer 15: set "
            "tokenizer to the one that it was trained with "
            r"\(training\.init_from\)"
        ),
    ):
        runs.train(tmp_path / "run", {**MODEL, "tokenizer.name": "char", **start}, engine=engine)


def test_a_tokenizer_beside_the_weights_is_theirs(release: Callable[..., Path], tmp_path: Path) -> None:
    corpus = tzd_corpus(tmp_path)
    tokenizer = BPE.make(compose(["tokenizer=bpe", "tokenizer.vocab_size=260"]).tokenizer, corpus)
    for name, content in tokenizer.files().items():
        (tmp_path / name).write_bytes(content)
    model = tzd.load(release(replace(CONFIG, vocab_size=264)), engine="torch")
    assert model.decode(model.encode("apple")) == "apple"
    assert tzd.load(tzd.convert(tmp_path, tmp_path / "ours"), engine="torch").decode(model.encode("pie")) == "pie"
    with pytest.raises(
        CheckpointError, match=(r"has 11 tokens, and the tokenizer\.json beside it 260: " "it is another model's")
    ):
        tzd.load(release())


def tzd_corpus(folder: Path) -> Any:
    from tzd.corpus import open_corpus

    (folder / "text.txt").write_text(runs.TEXT)
    return open_corpus("text", path=str(folder / "text.txt"), data_dir=None, progress=False)


def test_a_file_of_a_published_size_needs_no_config(tmp_path: Path) -> None:
    config = replace(CONFIG, n_layer=6, n_head=4, n_embd=256, intermediate_size=1024)
    save_file(initial_weights(shapes(config), 1, "smdm"), tmp_path / "mdm-6M.safetensors")
    found = tzd.load(tmp_path, engine="torch").config
    assert isinstance(found, SmdmConfig)
    assert (found.n_head, found.groups, found.block_size, found.rotary_percentage) == (4, 4, 2048, 1.0)


def test_bfloat16_and_float16_files_are_read(tmp_path: Path, release: Callable[..., Path]) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    file = release()
    for dtype in (torch.bfloat16, torch.float16):
        halves = {name: torch.from_numpy(value).to(dtype) for name, value in stirred(CONFIG).items()}
        save(halves, file)
        model = tzd.load(file, engine="torch")
        expected = on("torch", CONFIG, {name: value.float().numpy() for name, value in halves.items()})
        np.testing.assert_array_equal(np.asarray(model.logits(canvas())), logits_of(expected, canvas()))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"n_head": None}, r"does not say how many attention heads it has"),
        ({"n_head": 3}, r"n_head=3"),
        ({"n_layer": 3}, r"has n_layer=2, but .*config\.json says n_layer=3"),
        ({"_norm_class": "LayerNorm"}, r"has norm_class_name=RMSNorm, but .* says _norm_class=LayerNorm"),
        ({"vocab_size": 99}, r"has vocab_size=11, but .* says vocab_size=99"),
        ({"condense_ratio": 2}, r"condense_ratio=2, and only models with 1"),
        ({"sliding_window": 5}, r"says sliding_window, which no smdm model has"),
        ({"rotary_percentage": "all"}, r"rotary_percentage cannot be 'all'"),
        ({"mask_token_id": 99}, r"model\.mask_id must lie in 0\.\.11, not 99"),
        ({"rotary_dtype": "float8"}, r"unknown model\.rotary_dtype 'float8'"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(
    said: dict[str, Any], message: str, release: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=message) as error:
        tzd.load(release(**said))
    assert "\n" not in str(error.value)


def test_weights_that_are_no_smdms_are_one_line(release: Callable[..., Path], tmp_path: Path) -> None:
    weights = stirred(CONFIG)
    cases: list[tuple[Weights, str]] = [
        ({"a": np.zeros((2, 2), np.float32)}, r"holds no weights of SMDM: there is no matrix lm_head\.weight"),
        (
            {k: v for k, v in weights.items() if "h.1.norm_1" not in k},
            r"1 missing \(transformer\.h\.1\.norm_1\.weight\)",
        ),
        ({**weights, "extra": weights["transformer.ln_f.weight"]}, r"1 unexpected \(extra\)"),
        ({**weights, "lm_head.weight": np.zeros((11, 16), np.int32)}, r"lm_head\.weight as I32; weights are floating"),
    ]
    for wrong, message in cases:
        with pytest.raises(CheckpointError, match=message) as error:
            tzd.load(release(weights=wrong))
        assert "\n" not in str(error.value)
    file = release()
    for content in (b"", b"x" * 100, file.read_bytes()[:-10]):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"mdm\.safetensors cannot be read: .*; get the file again"):
            tzd.load(file)
    with pytest.raises(CheckpointError, match=r"you gave n_head=4 for .*config\.json says n_head=2"):
        tzd.convert(release(), tmp_path / "ours", n_head=4)
    assert not (tmp_path / "ours").exists()
