"""The benchmark compares what can be compared."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from benchmarks.plain import Plain
from benchmarks.sizes import FLOP_PER_TOKEN, HEADS, LAYERS, LENGTH, PARAMETERS, VOCABULARY, WIDTH
from benchmarks.training import PLAIN, PRODUCTS, summary
from benchmarks.turns import in_turns

from tzd.config import RunConfig, TinyConfig
from tzd.engines.torch.tiny import Tiny

CONFIG = TinyConfig(vocab_size=VOCABULARY, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, block_size=LENGTH)


def test_the_plain_loop_trains_the_same_model() -> None:
    torch.manual_seed(0)
    plain, ours = Plain().eval(), Tiny(CONFIG).eval()
    theirs = dict(plain.named_parameters())
    weights = {}
    for name in ours.state_dict():
        if name.endswith("qkv.weight"):
            parts = [theirs[name.replace("qkv", part)] for part in "qkv"]
            weights[name] = torch.cat(parts)
        else:
            weights[name] = theirs[re.sub(r"mlp\.", "", name).replace("token_embedding", "embedding")]
    ours.load_state_dict(weights)
    tokens = torch.randint(VOCABULARY + 1, (1, LENGTH))
    with torch.no_grad():
        torch.testing.assert_close(plain(tokens), ours(tokens), atol=1e-4, rtol=0)


def test_the_sizes_are_those_of_the_defaults() -> None:
    default = RunConfig().model
    assert (default.n_layer, default.n_head, default.n_embd, default.block_size) == (LAYERS, HEADS, WIDTH, LENGTH)
    with torch.device("meta"):
        assert sum(p.numel() for p in Tiny(CONFIG).parameters()) == PARAMETERS
    assert pytest.approx(71e6, rel=0.01) == FLOP_PER_TOKEN


def test_ratios_are_taken_turn_by_turn_and_the_peak_is_that_of_the_products_type() -> None:
    said = {
        PRODUCTS: [{"float32": 1e11, "bfloat16": 3e11}, {"float32": 2e11, "bfloat16": 4e11}, {"peak_mib": 1.0}],
        PLAIN: [{"first_step": 3.0}, {"seconds": 2.0}, {"seconds": 8.0}, {"seconds": 2.0}, {"peak_mib": 200.0}],
        "ours": [
            {"first_step": 31.0, "bf16": True},
            *({"seconds": seconds} for seconds in (1.0, 2.0, 1.0)),
            {"peak_mib": 100.0},
        ],
    }
    result = summary(said, steps=1)["contenders"]
    assert result["ours"]["ratio"] == 2.0 and result[PLAIN]["ratio"] == 1.0
    assert result["ours"]["tokens_per_second"] == 4096
    assert result["ours"]["compile_seconds"] == 30.0
    assert result["ours"]["share_of_peak"] == pytest.approx(4096 * FLOP_PER_TOKEN / 4e11)
    assert result[PLAIN]["share_of_peak"] == pytest.approx(2048 * FLOP_PER_TOKEN / 2e11)
    assert (result["ours"]["memory_ratio"], result[PLAIN]["memory_ratio"]) == (0.5, 1.0)


def test_workers_take_turns_and_one_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text(
        "import sys, time\n"
        "from benchmarks.turns import serve\n"
        "def turn():\n"
        "    start = time.monotonic()\n"
        "    if sys.argv[1] == 'fails': raise ValueError('no luck')\n"
        "    return {'start': start, 'end': time.monotonic()}\n"
        "serve(turn, int(sys.argv[2]), ready=1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    said = in_turns({"a": ["toy", "a"], "b": ["toy", "b"]}, 2)
    assert [numbers.keys() for numbers in said["a"]] == [{"ready"}, {"start", "end"}, {"start", "end"}, {"peak_mib"}]
    turns = [said[name][number] for number in (1, 2) for name in "ab"]
    assert all(before["end"] <= after["start"] for before, after in pairwise(turns))
    with pytest.raises(SystemExit, match=r"(?s)the worker 'c' failed:.*no luck"):
        in_turns({"c": ["toy", "fails"]}, 1)
