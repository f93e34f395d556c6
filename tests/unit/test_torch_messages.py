"""What is said of a network, a file or a setting that the PyTorch engine cannot use, word by word."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from networks import CONFIG, TIMED, canvas, initial
from refusals import told
from tzd.config import TinyConfig, TrainingSettings
from tzd.engines import formats
from tzd.engines.torch import hf_files, inference, trainer
from tzd.engines.torch import train as training
from tzd.engines.torch.checkpoint_io import TzdCheckpointIO
from tzd.engines.torch.denoiser import TorchDenoiser, build, load_denoiser
from tzd.engines.torch.hf import _loaded
from tzd.engines.torch.pt import read_arrays
from tzd.engines.torch.sharded import ShardedStrategy
from tzd.errors import InterruptedRunError

ANY: Any = SimpleNamespace()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def raising(error: Exception) -> Callable[..., Any]:
    """What does nothing but fail in that way."""

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


class Own(nn.Module):
    """A module that takes tokens alone."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(tokens % 11, 11).float()


class Other(TinyConfig):
    """An architecture that no engine has."""

    model_type = "other"


NETWORKS: list[tuple[Callable[[], Any], str]] = [
    (lambda: build(Other(vocab_size=3)), "the torch engine has no model_type 'other' (it has: tiny, smdm, litgpt)"),
    (
        lambda: load_denoiser(CONFIG, {}, context_len=0, where=Path("c"), network=ANY),
        "the torch engine computes with a torch.nn.Module, not with a SimpleNamespace",
    ),
    (
        lambda: TorchDenoiser(Own(), TIMED).forward(canvas(), t=np.zeros(3)),
        "Own.forward has no argument 't', which is needed here",
    ),
    (
        lambda: training._network(ANY, ANY, None),
        "engine=torch trains a torch.nn.Module, not a SimpleNamespace (denoiser=)",
    ),
    (
        lambda: training._compiles(
            Own(),
            SimpleNamespace(config=SimpleNamespace(training=TrainingSettings(compile=True))),  # type: ignore[arg-type]
            SimpleNamespace(strategy=ShardedStrategy()),  # type: ignore[arg-type]
        ),
        "training.compile=true with strategy=fsdp: leave it out, or set training.strategy=ddp",
    ),
    (
        lambda: trainer._precision(TrainingSettings(precision="16-mixed", accelerator="cpu")),
        "training.precision=16-mixed is for CUDA, not for cpu: use bf16-mixed or 32-true",
    ),
    (
        lambda: trainer._strategy(TrainingSettings(precision="16-mixed", strategy="fsdp")),
        "training.strategy=fsdp with precision=16-mixed: use bf16-mixed, which scales no loss",
    ),
]


@pytest.mark.parametrize(("call", "line"), NETWORKS, ids=[line[:60] for _, line in NETWORKS])
def test_a_network_or_a_setting_that_cannot_be_is_told_word_by_word(call: Callable[[], Any], line: str) -> None:
    assert told(call) == line


def test_a_network_for_sampling_is_trained_no_further() -> None:
    network = nn.Sequential(training.Packed.__new__(training.Packed))
    nn.Module.__init__(network[0])
    assert told(lambda: training._network(ANY, network, None)) == (
        "denoiser= is a network that was loaded for sampling, which cannot be trained: begin with its checkpoint"
        " instead (training.init_from)"
    )


def test_what_lightning_refuses_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.L, "Trainer", raising(ValueError("no such strategy\nand more")))
    assert told(lambda: trainer.make_trainer(TrainingSettings(accelerator="cpu", precision="32-true"))) == (
        "training.accelerator, devices, num_nodes, strategy or precision: no such strategy"
    )


def test_a_run_that_was_stopped_says_how_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    run = SimpleNamespace(path=Path("runs/a"), lock=nullcontext)
    stand_in = SimpleNamespace(world_size=1, is_global_zero=True)
    monkeypatch.setattr(training, "check_samplers", lambda config: None)
    monkeypatch.setattr(training, "make_trainer", lambda settings: stand_in)
    monkeypatch.setattr(training, "make_task", lambda *args, **options: ANY)
    monkeypatch.setattr(training, "_network", lambda *args: Own())
    monkeypatch.setattr(training, "DiffusionModule", lambda network, task: network)
    monkeypatch.setattr(training, "open_run", lambda task: run)
    monkeypatch.setattr(training, "_fit", lambda *args: (SimpleNamespace(step=7, leaving=True), None))
    with pytest.raises(InterruptedRunError) as stopped:
        training.train(SimpleNamespace(training=None), lambda *args: [], Own())  # type: ignore[arg-type]
    assert stopped.value.exit_code == 143 and str(stopped.value) == (
        "stopped and saved at step 7; to go on, repeat the command with training.resume=runs/a"
    )


def test_a_checkpoint_without_a_training_state_is_not_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = SimpleNamespace(training_state=lambda: None)
    monkeypatch.setattr("tzd.engines.torch.checkpoint_io.read_checkpoint", lambda path: bare)
    reader = TzdCheckpointIO(ANY, lambda value: value)
    assert told(lambda: reader.load_checkpoint("c")) == (
        "c holds a model but no training state: begin a new run with its weights (training.init_from)"
    )


def test_a_precision_that_the_processor_lacks_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert told(lambda: inference.prepare(initial(), CONFIG, "int8")) == (
        "precision=int8 needs a processor that multiplies 8-bit integers (AVX512-VNNI): take bf16 or 32"
    )


def test_a_file_of_pytorchs_that_cannot_be_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile("packed.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("data", bytes(10_000))
    assert told(lambda: read_arrays(Path("packed.pt"))) == (
        "packed.pt is packed, as PyTorch packs no file: save it again with torch.save"
    )
    with zipfile.ZipFile("torn.pt", "w") as plain:
        plain.writestr("data", b"0123456789")
    Path("torn.pt").write_bytes(Path("torn.pt").read_bytes().replace(b"0123456789", b"0123456780"))
    assert told(lambda: read_arrays(Path("torn.pt"))) == (
        "torn.pt is damaged: data is not what its checksum says; get the file again"
    )
    torch.save({"w": torch.zeros(1).expand(100_000)}, "wide.pt")
    size = Path("wide.pt").stat().st_size
    assert told(lambda: read_arrays(Path("wide.pt"))) == (
        f"wide.pt has {size} bytes and describes 400000 bytes of tensors: it repeats what it holds; save clones"
    )
    monkeypatch.setattr(formats, "import_module", raising(ModuleNotFoundError(name="torch")))
    assert told(lambda: formats.read_any("wide.pt")) == (
        "reading wide.pt needs PyTorch, which is not here: pip install torch"
    )


def test_a_hub_model_that_does_not_fit_is_told_word_by_word() -> None:
    full = SimpleNamespace(to=raising(torch.OutOfMemoryError("full")))
    config: Any = SimpleNamespace(name="owner/name")
    assert told(lambda: _loaded(full, config, {}, None, Path())) in (
        f"owner/name does not fit into the memory of {device}: take a smaller model"
        for device in ("cpu", "cuda", "mps")
    )


def test_a_hub_model_whose_files_disagree_is_told_word_by_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(lambda: hf_files._check_counts("m", {"num_layers": 9}, 3)) == (
        "m has 3 weights, and its config.json says num_layers=9: they do not belong together; take both from one place"
    )
    assert told(lambda: hf_files._refuse_kernels("m", {"attn_implementation": "a/b"})) == (
        "m computes with code of another repository (attn_implementation='a/b' in its config.json): leave that out of a"
        " copy of it"
    )
    huge = SimpleNamespace(from_config=lambda config: nn.Linear(1 << 12, 1 << 12))
    monkeypatch.setattr(hf_files, "quietly", nullcontext)
    assert told(lambda: hf_files._check_room("m", huge, ANY, [(3, 2)])) == (
        "m has 6 numbers in its weights, and its config.json tells of a network of 16781312: take both from one place"
    )
    monkeypatch.setattr(hf_files, "_major", lambda: 5)
    monkeypatch.setattr(hf_files, "_stored_shapes", raising(OSError("no header")))
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace())
    assert told(lambda: hf_files.library_network("m", Path(), {}, [])) == (
        "the transformers library cannot load m (no header); get its files again"
    )
