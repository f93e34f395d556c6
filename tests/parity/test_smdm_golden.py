"""The `smdm` denoiser against what SMDM, LLaDA and Fast-dLLM compute from the same weights."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tzd
from tzd import Model

GOLDEN = Path(__file__).parent / "golden" / "smdm"
CASES = json.loads((GOLDEN / "samples.json").read_text())


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A folder as SMDM's weights come in: the file and its config."""
    for name in ("mdm.safetensors", "config.json"):
        (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())
    return tmp_path


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        return dict(file)


def load(path: Path, engine: str) -> Model:
    return tzd.load(path, engine=engine)


def test_released_weights_reproduce_smdms_logits(engine: str, released: Path) -> None:
    golden = arrays("logits.npz")
    logits = np.asarray(load(released, engine).logits(golden["tokens"]))
    np.testing.assert_allclose(logits, golden["logits_rope_f32"], rtol=0, atol=1e-4)
    assert np.abs(logits - golden["logits_rope_bf16"]).max() > 0.1


def test_rotary_tables_in_bfloat16_are_a_switch(engine: str, released: Path) -> None:
    config = json.loads((released / "config.json").read_text())
    (released / "config.json").write_text(json.dumps({**config, "rotary_dtype": "bfloat16"}))
    golden = arrays("logits.npz")
    logits = np.asarray(load(released, engine).logits(golden["tokens"]))
    np.testing.assert_allclose(logits, golden["logits_rope_bf16"], rtol=0, atol=1e-4)


def rounds_alike(engine: str) -> bool:
    """Whether this computes as the machine did that made the golden files."""
    import torch

    if hasattr(ctypes.CDLL(None), "openblas_set_num_threads"):  # preloaded, and then it serves PyTorch too
        return False
    return engine == "torch" and torch.backends.cpu.get_cpu_capability() == "AVX512" and not torch.cuda.is_available()


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_greedy_samples_are_lladas_and_fast_dllms_token_for_token(case: dict[str, Any], engine: str) -> None:
    golden = arrays("samples.npz")
    prompt, expected = (golden[f"{case['case']}_{what}"] for what in ("prompt", "out"))
    if not prompt.size and not rounds_alike(engine):
        pytest.skip("where nothing is given every blank looks the same, and the last bit says which comes first")
    names = ("steps", "cfg_scale", "confidence_threshold")
    settings = {name: case[name] for name in names if name in case}
    out = tzd.sample(
        load(GOLDEN / "mdm.safetensors", engine),
        prompt=prompt,
        length=case["gen_length"],
        block_len=case["block_length"],
        sampler="llada",
        temperature=0,
        **settings,
    )
    np.testing.assert_array_equal(out.tokens, expected)
    assert out.nfe == case.get("nfe", case.get("steps", 0) * (2 if case.get("cfg_scale") else 1))
