"""The files of Tiny Diffusion and of its MLX port, loaded as they are, against what those systems compute from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tzd
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.engines import ENGINES
from tzd.sampling import sampler, stream

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


class Stubborn:
    """Predicts [MASK] at every other position, and keeps the times that it was given."""

    def __init__(self) -> None:
        self.times: list[list[int]] = []
        self.inner = FunctionDenoiser(
            lambda x: np.where(np.arange(4) == np.arange(x.shape[1])[:, None] % 2, 9.0, 0.0) * np.ones((*x.shape, 1)),
            vocab_size=4,
            seq_len=6,
            mask_id=0,
            time_conditioned=True,
            time_steps=2,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def forward(self, tokens: np.ndarray, *, t: np.ndarray, rows: np.ndarray) -> Any:
        self.times.append(t.tolist())
        return self.inner.forward(tokens, rows=rows)


@pytest.mark.parametrize(("name", "settings"), [("top-k", {"k": 6}), ("threshold", {})])
def test_with_the_legacy_switch_time_is_the_steps_index_and_a_predicted_mask_stays_blank(
    name: str, settings: dict
) -> None:
    denoiser = Stubborn()
    *_, last = stream(denoiser, np.zeros((1, 6), int), sampler=sampler(name, **settings, legacy=True))
    assert last.tokens.tolist() == [[0, 1, 0, 1, 0, 1]]
    assert last.masked.tolist() == [[True, False] * 3]
    assert denoiser.times == [[0]] + [[1]] * 5  # the last of the embedding's rows from step 1 on
    *_, last = stream(Stubborn(), np.zeros((1, 6), int), sampler=sampler(name, **settings))
    assert not last.masked.any() and last.tokens.all()
