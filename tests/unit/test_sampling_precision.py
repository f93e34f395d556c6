"""Networks made ready for sampling: the same numbers in another layout, in fewer bits, some rows at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tzd
from networks import CONFIG, RESIDUAL, TIMED, canvas, checkpoint, logits_of, stirred, weights_of
from tzd.config import SmdmConfig, TinyConfig
from tzd.engines.torch.denoiser import TorchDenoiser, build, load_denoiser
from tzd.engines.torch.inference import bfloat16_is_native
from tzd.engines.torch.packed import Packed, Quantised
from tzd.errors import UserError

ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN here")
VNNI = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this processor does not multiply 8-bit integers")
WITHIN = [("32", 1e-5), ("bf16", 0.02), pytest.param("int8", 0.06, marks=VNNI)]
SMDM = SmdmConfig(vocab_size=11, padding_multiple=8, n_layer=2, n_head=4, n_embd=32, block_size=12)
MANY = 200  # rows of 12 tokens: several parts


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzd.engines.torch.denoiser.best_device", lambda: torch.device("cpu"))


def network_of(config: TinyConfig | SmdmConfig) -> nn.Module:
    torch.manual_seed(0)
    return stirred(config) if isinstance(config, TinyConfig) else build(config)


def ready(precision: str, config: TinyConfig | SmdmConfig = CONFIG) -> TorchDenoiser:
    weights = weights_of(network_of(config))
    return load_denoiser(config, weights, context_len=0, where=Path("here"), precision=precision)


# --- linear layers ------------------------------------------------------------------------------------------------


@ONEDNN
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (0, 24)])
def test_a_packed_layer_computes_what_it_was_made_of(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(24, 10, bias=bias), torch.randn(shape)
    with torch.inference_mode():
        expected = linear(x)
        torch.testing.assert_close(Packed(linear, torch.float32)(x), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(Packed(linear, torch.float32, 6)(x), expected[..., :6], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(Packed(linear, torch.float32)(x, "relu"), expected.relu(), atol=1e-6, rtol=1e-5)
        across = torch.randn(24, 7).T  # not in one piece
        torch.testing.assert_close(Packed(linear, torch.float32)(across), linear(across), atol=1e-6, rtol=1e-5)
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return
        half = Packed(linear, torch.bfloat16)(x)
    assert half.dtype == torch.bfloat16 and half.shape == expected.shape
    torch.testing.assert_close(half.float(), expected, atol=0.03, rtol=0.03)


@VNNI
def test_eight_bits_hold_whole_numbers_up_to_127_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, x = (torch.randint(-127, 128, shape, generator=generator).float() for shape in ((9, 16), (3, 5, 16)))
    matrix[:, 0], x[..., 0] = 127, -127  # the largest of each row
    linear = nn.Linear(16, 9)
    linear.weight.data = matrix * torch.rand(9, 1, generator=generator)  # a scale for each row,
    x = x * torch.rand(3, 5, 1, generator=generator)  # and for each token
    with torch.inference_mode():
        for activation, expected in (("none", linear(x)), ("relu", linear(x).relu())):
            found = Quantised(linear, torch.float32)(x, activation)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)  # of sums up to 2e5


@VNNI
def test_eight_bits_round_to_half_a_step_and_hold_zeros_and_no_rows_at_all() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(16, 9, bias=False), torch.eye(16)
    with torch.inference_mode():
        error = (Quantised(linear, torch.float32)(x).T - linear.weight).abs()
        assert (error <= linear.weight.abs().amax(1, keepdim=True) / 254 * 1.001).all() and error.max() > 0
        assert Quantised(linear, torch.float32)(torch.zeros(2, 16)).eq(0).all()
        assert Quantised(linear, torch.bfloat16)(torch.zeros(3, 0, 16)).shape == (3, 0, 9)


# --- whole networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, TIMED, RESIDUAL, replace(CONFIG, rotary_tables=True)])
@pytest.mark.parametrize("precision, share", WITHIN)
def test_a_network_made_ready_computes_the_same_within_its_precision(
    config: TinyConfig, precision: str, share: float
) -> None:
    tokens, rng = canvas(MANY), np.random.default_rng(0)
    denoiser, rows = ready(precision, config), rng.permutation(tokens.size)[:500]
    positions = np.broadcast_to(np.arange(12)[::-1], tokens.shape)
    for given in ({}, {"rows": rows}, {"positions": positions}, {"attention": np.tri(12, dtype=bool)[None]}):
        exact, found = logits_of(stirred(config), tokens, config, **given), denoiser.forward(tokens, **given)[0]
        assert found.dtype == torch.float32
        assert np.linalg.norm(found.numpy() - exact) < share * np.linalg.norm(exact)


@pytest.mark.parametrize("precision, share", WITHIN)
def test_smdm_made_ready_computes_the_same_without_its_padding(precision: str, share: float) -> None:
    exact = logits_of(network_of(SMDM), canvas(), SMDM)
    found = ready(precision, SMDM).forward(canvas())[0].numpy()
    assert np.linalg.norm(found - exact) < share * np.linalg.norm(exact)


@ONEDNN
@pytest.mark.parametrize("precision, share", WITHIN[:2])
def test_queries_and_keys_of_any_length_let_no_power_of_2_overflow(precision: str, share: float) -> None:
    config = replace(CONFIG, n_head=1, n_embd=512)  # scores up to ±33 bits
    network = stirred(config)
    for block in network.blocks:
        block.attention.qkv.weight.data[:1024].mul_(1e4)
        block.attention.qkv.weight.data[512:1024] = block.attention.qkv.weight.data[:512]  # the same: they align
    denoiser = load_denoiser(config, weights_of(network), context_len=0, where=Path("here"), precision=precision)
    exact, found = logits_of(network, canvas(), config), denoiser.forward(canvas())[0].numpy()
    assert np.linalg.norm(found - exact) < share * np.linalg.norm(exact)


@ONEDNN
def test_what_follows_the_last_attention_runs_at_the_wanted_rows_filled_up_to_32() -> None:
    seen: list[tuple[int, ...]] = []
    denoiser = ready("32")
    for block in denoiser.network.blocks:
        block.down.register_forward_hook(lambda module, given, result: seen.append(tuple(result.shape[:-1])))
    for wanted in (5, 33):
        denoiser.forward(canvas(), rows=np.arange(wanted))
    assert seen == [(3, 12), (32,), (3, 12), (64,)]


@ONEDNN
@pytest.mark.parametrize("config", [CONFIG, SMDM], ids=["tiny", "smdm"])
@pytest.mark.parametrize("missing", ["oneDNN", "its bfloat16"])
def test_without_the_processors_kernels_plain_products_give_the_same(
    monkeypatch: pytest.MonkeyPatch, config: TinyConfig | SmdmConfig, missing: str
) -> None:
    expected = {name: ready(name, config).forward(canvas())[0].numpy() for name in ("32", "bf16")}
    if missing == "oneDNN":
        monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
        with pytest.raises(UserError, match="precision=int8 needs a processor"):
            ready("int8", config)
    else:
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    for name, share in (("32", 1e-5), ("bf16", 0.02)):
        denoiser = ready(name, config)
        packed = any(isinstance(layer, Packed) for layer in denoiser.network.modules())
        assert packed == (missing == "its bfloat16" and name == "32")
        found = denoiser.forward(canvas())[0].numpy()
        assert np.linalg.norm(found - expected[name]) < share * np.linalg.norm(expected[name])


# --- some rows at a time --------------------------------------------------------------------------------------------


def test_a_row_is_computed_alike_whatever_rows_come_with_it() -> None:
    tokens, denoiser = canvas(MANY), ready("32")
    whole = denoiser.forward(tokens)[0].numpy()
    np.testing.assert_array_equal(denoiser.forward(tokens[:85])[0], whole[:85])
    np.testing.assert_array_equal(denoiser.forward(tokens[85:])[0], whole[85:])
    rows = np.array([MANY * 12 - 1, 3, 1100, 3, 0])  # of several parts, in any order, twice, and not of all parts
    np.testing.assert_array_equal(denoiser.forward(tokens, rows=rows)[0], whole.reshape(-1, 11)[rows])
    assert denoiser.forward(tokens, rows=rows[:0])[0].shape == (0, 11)
    with pytest.raises(IndexError):
        denoiser.forward(tokens, rows=np.array([MANY * 12]))


def test_a_cache_is_filled_for_all_rows_also_where_nothing_is_wanted() -> None:
    tokens, denoiser = canvas(MANY), ready("32")
    positions, some = np.broadcast_to(np.arange(12), tokens.shape), np.arange(2, MANY, 3)
    cache = denoiser.empty_cache(MANY, 12)
    denoiser.forward(tokens, positions=positions, rows=np.array([0]), cache=cache.at(np.arange(MANY)))
    found = denoiser.forward(tokens[some, :4], positions=positions[some, :4], cache=cache.at(some))[0]
    np.testing.assert_allclose(found, logits_of(stirred(), tokens)[some, :4], atol=1e-5)


MEMORY = """
import numpy as np
from pathlib import Path
from networks import stirred, weights_of
from tzd.config import TinyConfig
from tzd.engines.torch.denoiser import load_denoiser

def peak():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

config = TinyConfig(vocab_size=11, n_layer=1, n_head=4, n_embd=64, block_size=512)
denoiser = load_denoiser(config, weights_of(stirred(config)), context_len=0, where=Path("here"), precision="PRECISION")
rows = np.arange(0, 64 * 512, 32)
denoiser.forward(np.full((2, 512), 11))
before = peak()
denoiser.forward(np.full((64, 512), 11), rows=rows)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much a process held at most")
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_pass_over_64_rows_holds_little_more_than_one_over_2(precision: str) -> None:
    program = MEMORY.replace("PRECISION", precision)
    tests = Path(__file__).parents[1]
    alone = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=tests, env=alone, capture_output=True, text=True, check=True
    )
    assert float(told.stdout) < 24  # MiB; of all rows at once, queries, keys and values are 24, scores in bfloat16 128


# --- what is asked for ----------------------------------------------------------------------------------------------


@VNNI
def test_matrices_take_the_memory_of_their_precision() -> None:
    def size(precision: str) -> int:
        layer = ready(precision, replace(CONFIG, n_embd=64)).network.blocks[0].up
        return layer.weight.nbytes if precision == "int8" else torch.ops.mkldnn._nbytes(layer.weight)

    assert [size(precision) for precision in ("32", "bf16", "int8")] == [4 * 256 * 64, 2 * 256 * 64, 256 * 64]


def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {True: "bf16", False: "32"}
    for native in (True, False):
        monkeypatch.setattr("tzd.engines.torch.denoiser.bfloat16_is_native", lambda device, native=native: native)
        np.testing.assert_array_equal(
            ready("auto").forward(canvas())[0].numpy(), ready(named[native]).forward(canvas())[0].numpy()
        )
    assert not bfloat16_is_native(torch.device("meta"))


def test_precisions_that_cannot_be_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "model", replace(CONFIG, vocab_size=128))
    with pytest.raises(
        UserError, match=r"^the torch engine has no precision=int4: take engine=mlx, or precision=int8$"
    ):
        tzd.load(folder, engine="torch", precision="int4")
    with pytest.raises(UserError, match="precision=int8 is for networks of tzd's own model types: take bf16"):
        load_denoiser(
            CONFIG, weights_of(stirred()), context_len=0, where=folder, network=build(CONFIG), precision="int8"
        )
    monkeypatch.setattr("torch.cpu._is_vnni_supported", lambda: False)
    with pytest.raises(
        UserError, match=r"int8 needs a processor that multiplies 8-bit integers \(AVX512-VNNI\): take bf16"
    ):
        ready("int8")


def test_a_module_of_ones_own_keeps_its_weights_in_float32() -> None:
    network = build(CONFIG)
    denoiser = load_denoiser(
        CONFIG, weights_of(stirred()), context_len=0, where=Path("here"), network=network, precision="bf16"
    )
    assert denoiser.network is network and type(network.blocks[0].mlp.up) is nn.Linear
    assert network.head.weight.dtype == torch.float32
    exact = logits_of(stirred(), canvas())
    assert 0 < np.abs(denoiser.forward(canvas())[0].numpy() - exact).max() < 0.1 * np.abs(exact).max()
