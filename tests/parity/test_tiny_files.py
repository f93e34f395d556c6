"""The files of Tiny Diffusion and of its MLX port, loaded as they are, against what those systems compute from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tzd
from tzd.engines import ENGINES

GOLDEN = Path(__file__).parent / "golden" / "tiny"
PORT, ORIGINAL = GOLDEN / "mlx_diffusion_model.npz", GOLDEN / "diffusion_model.pt"


def golden(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / f"{name}.npz", allow_pickle=False))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("file", "name"), [(PORT, "mlx_logits"), (ORIGINAL, "torch_logits")], ids=["npz", "pt"])
def test_a_file_gives_the_logits_of_its_own_system(file: Path, name: str, engine: str) -> None:
    pytest.importorskip("mlx.core" if engine == "mlx" else engine)
    expected = golden(name)
    model = tzd.load(file, engine=engine)
    logits = model.denoiser.xp.to_numpy(model.logits(expected["tokens"], t=expected["t"]))
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-4)
    assert (model.mask_id, model.denoiser.context_len, model.engine) == (0, 8, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "sampler", "settings"),
    [("topk3", "top-k", {"k": 3}), ("confidence09", "threshold", {"confidence_threshold": 0.9})],
)
def test_the_legacy_switch_gives_the_originals_text_token_for_token(
    name: str, sampler: str, settings: dict, engine: str
) -> None:
    pytest.importorskip("mlx.core" if engine == "mlx" else engine)
    expected = golden("torch_samples")
    model = tzd.load(ORIGINAL, engine=engine)
    request = {"prompt": expected["context"], "length": 56, "sampler": sampler, **settings}
    np.testing.assert_array_equal(tzd.sample(model, **request, legacy=True).tokens, expected[name])
    assert (tzd.sample(model, **request).tokens != expected[name]).any()  # its defects are not ours
