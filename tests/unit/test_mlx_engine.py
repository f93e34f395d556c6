"""An MLX module behind the denoiser protocol, on as many cores as there are."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from networks import CONFIG, TIMED, canvas, on, stirred, weights_of
from tzd.config import TinyConfig
from tzd.engines import best_engine, engine_module
from tzd.errors import CheckpointError, ConfigError, UserError

mx = pytest.importorskip("mlx.core")

from mlx import nn, optimizers  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402

from tzd.engines.mlx import streams  # noqa: E402
from tzd.engines.mlx.arrays import MlxArrays  # noqa: E402
from tzd.engines.mlx.denoiser import MlxDenoiser, build, load_denoiser, set_weights, weight_shapes  # noqa: E402
from tzd.engines.mlx.denoiser import weights_of as weights_of_mlx  # noqa: E402
from tzd.engines.mlx.tiny import Tiny, dropout  # noqa: E402

TABLED = replace(CONFIG, rotary_tables=True)


def network(config: TinyConfig = CONFIG) -> Tiny:
    """The stirred network's weights in an MLX module."""
    made = build(config)
    set_weights(made, weights_of(stirred(config)))
    return made


def logits(denoiser: Any, tokens: np.ndarray, **inputs: Any) -> np.ndarray:
    return np.array(denoiser.forward(tokens, **inputs)[0])


# --- weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, TIMED, TABLED, replace(CONFIG, mask_id=3)])
def test_weights_have_the_names_and_shapes_of_the_other_engine(config: TinyConfig) -> None:
    shapes = {name: value.shape for name, value in weights_of(stirred(config)).items()}
    assert weight_shapes(build(config)) == shapes
    parameters = dict(tree_flatten(build(config).parameters()))
    assert set(parameters) == set(shapes) - {"rotary.cos", "rotary.sin"}


def test_weights_come_back_as_they_were_set() -> None:
    given = weights_of(stirred(TABLED))
    kept = weights_of_mlx(network(TABLED))
    assert kept.keys() == given.keys()
    for name, value in kept.items():
        np.testing.assert_array_equal(np.array(value), given[name], err_msg=name)


def test_tables_that_came_with_the_weights_are_used_and_are_not_trained() -> None:
    tokens, plain = mx.array(canvas()), weights_of(stirred(TABLED))
    ours = network(TABLED)
    others = {name: value for name, value in plain.items() if "rotary" not in name}
    computed = build(CONFIG)
    set_weights(computed, others)
    assert np.abs(np.array(ours(tokens)) - np.array(computed(tokens))).max() > 1e-2

    def loss(model: Tiny) -> mx.array:
        return nn.losses.cross_entropy(model(tokens), mx.zeros(tokens.shape, mx.int32)).mean()

    optimizer = optimizers.AdamW(1e-2)
    before, gradients = nn.value_and_grad(ours, loss)(ours)
    assert not [name for name, _ in tree_flatten(gradients) if "rotary" in name or "_" in name.split(".")[-1]]
    optimizer.update(ours, gradients)
    mx.eval(ours, optimizer.state)
    assert loss(ours) < before
    for name, value in weights_of_mlx(ours).items():
        assert np.array_equal(np.array(value), plain[name]) == ("rotary" in name), name


def test_a_checkpoint_of_other_names_or_shapes_is_refused_by_name() -> None:
    weights = weights_of(stirred())

    def load(weights: dict[str, np.ndarray]) -> MlxDenoiser:
        return load_denoiser(CONFIG, weights, context_len=0, where=Path("here"))

    np.testing.assert_array_equal(logits(load(weights), canvas()), logits(MlxDenoiser(network(), CONFIG), canvas()))
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        load({name: value for name, value in weights.items() if name != "head.weight"})
    with pytest.raises(CheckpointError, match=r"rotary\.cos"):
        load({**weights, "rotary.cos": np.zeros((24, 4), np.float32)})
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        load({**weights, "head.weight": np.zeros((10, 16), np.float32)})


# --- behind the protocol ----------------------------------------------------------------------------------------


def test_the_denoiser_says_what_the_architecture_says() -> None:
    denoiser = MlxDenoiser(network(TIMED), TIMED, context_len=2)
    said = (denoiser.engine, denoiser.vocab_size, denoiser.mask_id, denoiser.seq_len, denoiser.context_len)
    assert said == ("mlx", 11, 11, 12, 2)
    assert denoiser.time_conditioned and denoiser.time_steps == 8 and denoiser.banned is None
    inside = replace(CONFIG, mask_id=0)
    np.testing.assert_array_equal(on("mlx", inside).banned, np.arange(11) == 0)


def test_logits_are_float32_also_where_the_weights_are_bfloat16() -> None:
    ours, tokens = network(), canvas()
    half, full = MlxDenoiser(ours, CONFIG, dtype=mx.bfloat16), MlxDenoiser(ours, CONFIG)
    assert half.forward(tokens)[0].dtype == full.forward(tokens)[0].dtype == mx.float32
    assert half.network.head.weight.dtype == mx.bfloat16 and ours.head.weight.dtype == mx.float32
    difference = np.abs(logits(half, tokens) - logits(full, tokens))
    assert 0 < difference.max() < 0.1 * np.abs(logits(full, tokens)).max()


def test_arrays_are_float32_whatever_they_come_from_and_reach_numpy_from_bfloat16() -> None:
    xp, host = MlxArrays(), np.array([[0.1, -np.inf, 3.0]])
    assert xp.asarray(host).dtype == mx.float32
    half = xp.asarray(host).astype(mx.bfloat16)
    assert xp.floats(half).dtype == mx.float32
    np.testing.assert_array_equal(xp.to_numpy(half), np.array([[0.10009765625, -np.inf, 3.0]], np.float32))


@pytest.mark.parametrize(
    "given, message",
    [
        ({"tokens": np.full((1, 4), 12)}, r"token 12 is outside 0..11 \(\[MASK\] is 11\)"),
        ({"tokens": np.zeros((1, 13), int)}, "13 tokens are longer than the model's window of 12"),
        ({"tokens": np.zeros((0, 4), int)}, "non-empty"),
        ({"t": np.array([0.5, 1.5, 0.1])}, r"a time lies in \[0, 1\]"),
        ({"t": np.array([0, 8, 1])}, "integers are rows of the time embedding, 0..7"),
        ({"rows": np.array([0, 36])}, r"rows must lie in 0..35, not in 0..36"),
        ({"rows": np.array([-1])}, r"rows must lie in 0..35, not in -1..-1"),
        ({"positions": np.full((3, 12), 12)}, r"positions must lie in 0..11, not in 12..12"),
        ({"positions": np.arange(12)}, r"positions must have the tokens' shape \(3, 12\), not \(12,\)"),
        ({"attention": np.ones((3, 11), bool)}, r"attention must be \(B, L\) or \(B, L, L\), not \(3, 11\)"),
    ],
)
def test_what_the_model_cannot_take_is_one_line(given: dict[str, np.ndarray], message: str) -> None:
    tokens = given.pop("tokens", canvas())
    with pytest.raises(UserError, match=message):
        on("mlx", TIMED).forward(tokens, **given)


def test_pads_and_tokens_that_attend_to_nobody_have_no_influence() -> None:
    denoiser, tokens = on("mlx"), canvas()
    attention = np.broadcast_to(np.arange(12) < np.array([[12], [7], [1]]), (3, 12))
    padded = logits(denoiser, tokens, attention=attention)
    np.testing.assert_allclose(padded[1, :7], logits(denoiser, tokens[1:2, :7])[0], atol=1e-5)
    np.testing.assert_allclose(padded[0], logits(denoiser, tokens)[0], atol=1e-5)
    square = np.ones((3, 12, 12), dtype=bool)
    square[:, 11] = square[:, :, 11] = False
    masked = logits(denoiser, tokens, attention=square)
    np.testing.assert_allclose(masked[:, :11], logits(denoiser, tokens[:, :11]), atol=1e-5)


class Plain(nn.Module):
    """A module of a user's own that takes tokens alone, and keeps what it was given."""

    def __init__(self, columns: int = 11) -> None:
        super().__init__()
        self.columns = columns
        self.weight = mx.zeros((2,))
        self._seen: list[tuple[int, ...]] = []

    def __call__(self, tokens: mx.array) -> mx.array:
        self._seen.append(tokens.shape)
        assert not self.training
        return (tokens[..., None] == mx.arange(self.columns)).astype(mx.float32)


def test_a_module_that_takes_tokens_alone_is_given_no_more_and_keeps_its_mode() -> None:
    tokens, own = canvas(), Plain()
    own.train()
    full = logits(MlxDenoiser(own, CONFIG), tokens)
    some = logits(MlxDenoiser(own, CONFIG), tokens, rows=np.array([35, 2]))
    np.testing.assert_array_equal(some, full[[2, 0], [11, 2]])
    assert own.training
    with pytest.raises(UserError, match=r"Plain\.__call__ has no argument 'attention'"):
        MlxDenoiser(own, CONFIG).forward(tokens, attention=np.ones((3, 12), dtype=bool))
    with pytest.raises(UserError, match=r"Plain returns logits of shape .*; the vocabulary has 11 tokens"):
        MlxDenoiser(Plain(columns=12), CONFIG).forward(tokens)
    assert own.training


def test_a_module_of_the_other_engine_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"the mlx engine computes with an mlx\.nn\.Module, not with a Tiny"):
        load_denoiser(CONFIG, {}, context_len=0, where=Path("here"), network=stirred())


# --- dropout ------------------------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_zeroes_its_share() -> None:
    x = mx.full((400, 400), 2.0)
    dropped = np.array(dropout(x, 0.3, mx.random.key(1)))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(2 / 0.7)}
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.005)
    assert dropped.mean() == pytest.approx(2, abs=0.02)


def test_the_key_decides_the_dropout_and_without_one_there_is_none() -> None:
    config = replace(CONFIG, dropout=0.5)
    ours, tokens = network(config), mx.array(canvas())
    clean = np.array(network()(tokens))
    np.testing.assert_array_equal(np.array(ours(tokens)), clean)
    one, again, other = (np.array(ours(tokens, key=mx.random.key(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-2 and np.abs(one - clean).max() > 1e-2
    without_rate = network()(tokens, key=mx.random.key(1))
    np.testing.assert_array_equal(np.array(without_rate), clean)


def test_every_layer_drops_something_else() -> None:
    ours = network(replace(CONFIG, dropout=0.5))
    seen: list[np.ndarray] = []
    original = mx.random.bernoulli
    try:
        mx.random.bernoulli = lambda p, shape, key: seen.append(np.array(key)) or original(p, shape, key=key)
        ours(mx.array(canvas()), key=mx.random.key(3))
    finally:
        mx.random.bernoulli = original
    assert len(seen) == 5  # the embedding, and two in each of two blocks
    assert len(np.unique(np.stack(seen), axis=0)) == 5


# --- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 7, 16])
def test_shares_are_contiguous_nearly_equal_and_no_more_than_cores_or_rows(
    monkeypatch: pytest.MonkeyPatch, cores: int, rows: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    shares = streams.split(rows)
    taken = [np.arange(rows)[part] for _, part in shares]
    assert np.concatenate(taken).tolist() == list(range(rows))
    assert len(shares) == min(cores, rows) or not streams._on_cpu()
    assert max(map(len, taken)) - min(map(len, taken)) <= 1
    assert len({str(stream) for stream, _ in shares}) == len(shares)
    assert [stream for stream, _ in streams.split(rows)] == [stream for stream, _ in shares]


def test_cores_are_those_that_the_environment_or_the_system_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert streams.cores() == 5
    for nothing in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert 1 <= streams.cores() < 1024


@pytest.mark.parametrize("rows", [None, np.array([35, 0, 17, 17, 12, 58, 3]), np.array([59]), np.zeros(0, int)])
def test_splitting_a_batch_changes_nothing_beyond_rounding(
    monkeypatch: pytest.MonkeyPatch, rows: np.ndarray | None
) -> None:
    denoiser, tokens = on("mlx", TIMED), canvas(rows=5)
    rng = np.random.default_rng(5)
    inputs = {
        "t": rng.random(5),
        "positions": rng.integers(0, 12, (5, 12)),
        "attention": (rng.random((5, 12, 12)) < 0.7) | np.eye(12, dtype=bool),
        "rows": rows,
    }
    whole = None
    for cores in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        split = logits(denoiser, tokens, **inputs)
        whole = split if whole is None else whole
        np.testing.assert_allclose(split, whole, rtol=0, atol=1e-5)
    assert whole is not None and whole.shape == ((5, 12, 11) if rows is None else (len(rows), 11))


def test_shares_of_which_nothing_is_wanted_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    own, tokens = Plain(), canvas(rows=5)
    some = logits(MlxDenoiser(own, CONFIG), tokens, rows=np.array([59, 24]))
    assert own._seen == [(3, 12)] or not streams._on_cpu()
    np.testing.assert_array_equal(some, np.eye(12)[tokens.ravel()[[59, 24]], :11])


def test_a_model_computes_in_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    denoiser, tokens, seen = on("mlx"), canvas(), []
    half = MlxDenoiser(denoiser.network, CONFIG, dtype=mx.bfloat16)
    thread = threading.Thread(target=lambda: seen.extend([logits(denoiser, tokens), logits(half, tokens)]))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(seen[0], logits(denoiser, tokens))
    np.testing.assert_array_equal(seen[1], logits(half, tokens))


THREADS = """
import threading
import mlx.core as mx
import numpy as np
from tzd.config import TinyConfig
from tzd.engines.mlx.denoiser import MlxDenoiser, build

config = TinyConfig(n_layer=1, n_head=2, n_embd=16, block_size=12, vocab_size=11)
denoiser = MlxDenoiser(build(config), config)
mx.eval(denoiser.network.parameters())
threads = [threading.Thread(target=lambda: denoiser.forward(np.zeros((4, 12), int))) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_a_process_whose_threads_have_computed_leaves_without_a_word() -> None:
    for _ in range(3):  # without the end of their streams two of three aborted
        done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


class Blas:
    """OpenBLAS as the process would find it."""

    threads = 7

    def openblas_get_num_threads(self) -> int:
        return self.threads

    def openblas_set_num_threads(self, count: int) -> None:
        self.threads = count


def test_blas_has_one_thread_for_each_of_several_shares_and_all_cores_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    blas = Blas()
    monkeypatch.setattr(streams, "_openblas", lambda: blas)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    for shares, threads in ((3, 1), (1, 4)):
        with pytest.raises(ZeroDivisionError), streams.blas_threads(shares):
            assert blas.threads == threads
            raise ZeroDivisionError
        assert blas.threads == 7
    monkeypatch.setattr(streams, "_openblas", lambda: None)
    with streams.blas_threads(3):
        assert blas.threads == 7


def test_the_hint_names_what_is_missing_and_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(streams, "_on_cpu", lambda: True)
    monkeypatch.setattr(streams, "_openblas", lambda: None)
    monkeypatch.setattr(streams, "_is_file", lambda path: False)
    usual = "/usr/lib/aarch64-linux-gnu/libopenblas.so.0"
    hint = streams.hint()
    assert hint is not None and "apt install libopenblas0-pthread) and start with LD_PRELOAD=" + usual in hint
    assert "\n" not in hint
    monkeypatch.setattr(streams, "_is_file", lambda path: path == "/usr/lib64/libopenblas.so.0")
    hint = streams.hint()
    assert hint is not None and hint.endswith("need be: start with LD_PRELOAD=/usr/lib64/libopenblas.so.0")
    monkeypatch.setattr(streams, "_openblas", Blas)
    assert streams.hint() is None
    monkeypatch.setattr(streams, "_openblas", lambda: None)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert streams.hint() is None


def test_openblas_is_found_where_the_process_was_started_with_it() -> None:
    found = hasattr(ctypes.CDLL(None), "openblas_set_num_threads")
    assert (streams._openblas() is not None) == found


# --- choosing an engine -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "system, machine, best",
    [("darwin", "arm64", "mlx"), ("darwin", "x86_64", "torch"), ("linux", "aarch64", "torch"), ("win32", "x", "torch")],
)
def test_the_best_engine_is_mlx_on_apple_silicon_alone(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, best: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert best_engine() == best
    monkeypatch.setattr("tzd.engines.find_spec", lambda name: None)
    assert best_engine() == "torch"


def test_an_unknown_engine_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown engine 'mxl' \(did you mean 'mlx'\?\)"):
        engine_module("mxl", "denoiser")


def test_a_missing_mlx_is_one_line_with_the_command_that_installs_it() -> None:
    code = "import sys; sys.modules['mlx'] = None; import tzd.engines; tzd.engines.engine_module('mlx', 'denoiser')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = run.stderr.splitlines()[-1]
    assert "engine=mlx needs the extra 'mlx': uv sync --extra mlx" in last
    assert "pip install 'tinyzero-diffusion[mlx]'" in last


def test_a_model_type_that_the_engine_lacks_is_named() -> None:
    class Other(TinyConfig):
        model_type = "other"

    with pytest.raises(ConfigError, match="the mlx engine has no model_type 'other'"):
        build(Other(vocab_size=3))
