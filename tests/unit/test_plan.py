from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import tzd
from runs import TEXT, config_in, train
from tzd.cli import main
from tzd.cli.plan import measured_rate
from tzd.config import Architecture, RunConfig, model_config, run_config
from tzd.diffusion.objective import HEAD_ON_MASKED_FROM
from tzd.engines.torch.denoiser import NETWORKS, build
from tzd.engines.torch.optim import make_optimizer
from tzd.engines.torch.shapes import parameter_shapes
from tzd.training.costs import Blocks, activation_bytes, count_parameters, muon_flop, training_flop
from tzd.training.plan import Plan, count_devices, head_share, make_plan
from tzd.training.records import read_rows

SIZE = {"vocab_size": 100, "n_layer": 3, "n_head": 4, "n_embd": 128, "block_size": 64}
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {"model_type": "tiny"},
    "timed": {"model_type": "tiny", "time_steps": 8},
    "values": {"model_type": "tiny", "value_residual": True},
    "smdm": {"model_type": "smdm"},
    "grouped": {"model_type": "smdm", "n_query_groups": 2, "bias": True},
    "neox": {"model_type": "smdm", "mlp_class_name": "GptNeoxMLP", "norm_class_name": "LayerNorm", "bias": True},
    "litgpt": {"model_type": "litgpt"},
    "mixture": {
        "model_type": "litgpt",
        "mlp_class_name": "LLaMAMoE",
        "n_expert": 4,
        "n_expert_per_token": 2,
        "moe_intermediate_size": 128,
    },
}
ORDINARY = [name for name in MODELS if name not in ("timed", "mixture")]
TOKENS = 2 * SIZE["block_size"]


def model(name: str, **changes: Any) -> Architecture:
    settings = {**SIZE, **MODELS[name], **changes}
    if settings["model_type"] == "litgpt":
        pytest.importorskip("litgpt")
    if settings["model_type"] not in NETWORKS:
        pytest.skip("this engine has no such model type")
    return model_config(settings)


def plan_of(changes: dict[str, Any] | None = None, vocab: int = 66, steps: int = 10) -> Plan:
    values: dict[str, Any] = {"model": {"n_layer": 2, "n_head": 2, "n_embd": 64, "block_size": 32}}
    values |= {"data": {"batch_size": 4, "block_size": 32}, "training": {"precision": "32-true"}}
    for key, value in (changes or {}).items():
        group, _, name = key.partition(".")
        values.setdefault(group, {})[name] = value
    config = run_config(values)
    architecture = config.model.architecture(vocab)
    return make_plan(config, architecture, parameter_shapes(architecture), steps)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_network(name: str):
    architecture = model(name)
    network = build(architecture)
    assert parameter_shapes(architecture) == {n: tuple(p.shape) for n, p in network.named_parameters()}
    parameters = count_parameters(parameter_shapes(architecture), architecture)
    assert parameters.total == sum(p.numel() for p in network.parameters())
    embeddings = [m for m in network.modules() if isinstance(m, torch.nn.Embedding)]
    assert parameters.embedding == sum(m.weight.numel() for m in embeddings)
    assert parameters.head == 100 * 128


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_operations_of_a_step_are_those_that_torch_counts(name: str, share: float):
    architecture = model(name)
    network = build(architecture)
    tokens = torch.zeros(2, SIZE["block_size"], dtype=torch.int64)
    rows = torch.arange(round(share * TOKENS)) if share < 1 else None
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(tokens, rows=rows).sum().backward()
    parameters = count_parameters(parameter_shapes(architecture), architecture)
    predicted = TOKENS * training_flop(parameters, architecture, SIZE["block_size"], share)
    assert predicted == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_a_token_is_multiplied_with_its_experts_only():
    architecture = model("mixture")
    parameters = count_parameters(parameter_shapes(architecture), architecture)
    experts = SIZE["n_layer"] * 4 * 3 * 128 * 128
    assert parameters.matrices - parameters.active == experts / 2


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", ORDINARY)
def test_activations_are_within_a_sixth_of_what_is_kept(name: str, mixed: bool):
    architecture = model(name, n_layer=8)
    network = build(architecture)
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    tokens = torch.zeros(5, SIZE["block_size"], dtype=torch.int64)  # 320: no width of a matrix
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=mixed),
    ):
        out = network(tokens)
    matrices = {tuple(p.shape) for p in network.parameters()} | {tuple(p.t().shape) for p in network.parameters()}
    measured = sum(x.untyped_storage().nbytes() for x in kept.values() if tuple(x.shape) not in matrices)
    predicted = activation_bytes(architecture, tokens.numel(), 2 if mixed else 4, 4)
    assert predicted == pytest.approx(measured, rel=1 / 6)
    assert out.shape[-1] == 100


def test_without_biases_grouping_or_gates_a_layer_keeps_what_the_paper_says():
    # arXiv:2205.05198, eq. 1: 34 bytes per token and width at 16 bits; dropout's masks take 2 of them. Ours keeps the
    # matrix of queries, keys and values beside the rotated ones (4 more), and what was normalised once for each norm
    # with weights; LayerNorm is not such a one
    blocks = Blocks.of(model("neox"))
    assert blocks.mlp == 2 * 4 * SIZE["n_embd"]
    one = activation_bytes(model("neox", n_layer=1), 1, 2, 2)
    two = activation_bytes(model("neox", n_layer=2), 1, 2, 2)
    assert (two - one) / SIZE["n_embd"] == 34 - 2 + 4


def test_muons_operations_are_counted_by_hand():
    assert muon_flop({"blocks.0.w": (4, 6), "head.weight": (9, 9), "v": (3,)}) == 5 * (4 * 16 * 6 + 2 * 64)


def test_the_optimizers_moments_are_those_that_it_keeps():
    for name in ("adamw", "muon"):
        config = run_config({"model": {"n_layer": 2, "n_head": 2, "n_embd": 64}, "training": {"optimizer": name}})
        network = build(config.model.architecture(66))
        optimizer = make_optimizer(network, config.model, config.training)
        sum(p.sum() for p in network.parameters()).backward()
        optimizer.step()
        kept = [v for state in optimizer.state.values() for v in state.values() if torch.is_tensor(v) and v.ndim]
        plan = plan_of({"training.optimizer": name})
        assert plan.memory["one process"].optimizer == sum(4 * v.numel() for v in kept)


def test_strategies_share_out_what_they_say():
    settings = {"training.devices": 4, "training.ema_decay": 0.9, "training.optimizer": "adamw"}
    one, ddp, fsdp = plan_of(settings).memory.values()
    total = plan_of().parameters.total * 4
    assert (one.weights, one.gradients, one.optimizer, one.average) == (total, total, 2 * total, total)
    assert (ddp.weights, ddp.gradients, ddp.optimizer) == (total, 2 * total, 2 * total)
    assert (fsdp.weights, fsdp.gradients, fsdp.optimizer, fsdp.average) == (total / 4, total / 4, total / 2, total / 4)
    assert one.activations == ddp.activations == fsdp.activations
    assert one.peak < ddp.peak


def test_steps_and_devices_multiply():
    settings = {"training.devices": "0,1", "training.num_nodes": 2, "training.gradient_accumulation_steps": 3}
    plan = plan_of(settings | {"training.optimizer": "adamw"}, steps=7)
    assert (plan.devices, plan.tokens_per_step, plan.tokens) == (4, 4 * 32 * 3 * 4, 7 * 4 * 32 * 3 * 4)
    assert plan.flop == pytest.approx(plan.flop_per_token * plan.tokens)
    assert plan.hours(plan.flop / 3600) == pytest.approx(1 / 4)
    assert count_devices(RunConfig().training) == 1


@pytest.mark.parametrize(
    ("settings", "vocab", "share"),
    [
        ({}, 66, 1.0),
        ({}, 32000, 0.5 + 1 / 32),
        ({"context_len": 128}, 32000, 0.25 + 1 / 32),
        ({"schedule": "cosine"}, 32000, 1 - 2 / math.pi + 1 / 32),
        ({"schedule": "cosine", "name": "exact_k"}, 32000, 0.5 + 1 / 32),
    ],
)
def test_the_head_runs_where_tokens_are_masked(settings: dict[str, Any], vocab: int, share: float):
    config = run_config({"objective": settings})
    assert head_share(config, config.model.architecture(vocab)) == pytest.approx(share, abs=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux says what a process held at most")
def test_the_peak_is_within_a_third_of_what_a_process_takes():
    sizes = ["256 4 32-true 66 16 128 tiny adamw", "256 6 bf16-mixed 32000 8 256 smdm adamw"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
    script = Path(__file__).parents[1] / "peak_memory.py"
    result = subprocess.run(
        [sys.executable, str(script), *sizes], env=environment, capture_output=True, text=True, check=True
    )
    for size, line in zip(sizes, result.stdout.splitlines(), strict=True):
        measured, predicted = map(int, line.split())
        assert 0.67 < predicted / measured < 1.33, size


@pytest.mark.parametrize(
    ("model_type", "heads", "length", "vocab"),
    [("tiny", 2, 64, 66), ("tiny", 8, 128, 66), ("tiny", 2, 64, 3000), ("smdm", 2, 64, 3000)],
)
def test_the_peak_on_mlx_is_within_a_third_of_what_it_takes(
    model_type: str, heads: int, length: int, vocab: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mx = pytest.importorskip("mlx.core")
    from tzd.engines.mlx.learner import Learner

    peaks, step, before = [], Learner.step, mx.get_active_memory()

    def watched(self: Learner, index: int, *args: Any, **kwargs: Any) -> Any:
        mx.reset_peak_memory()
        result = step(self, index, *args, **kwargs)
        peaks.append(mx.get_peak_memory() - before)
        return result

    monkeypatch.setattr(Learner, "step", watched)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (tmp_path / "text.txt").write_text("".join(chr(0x4E00 + i % vocab) for i in range(3 * vocab + 2000)))
    changes = {"n_layer": 2, "n_head": heads, "n_embd": 64, "block_size": length, "model_type": model_type}
    config = config_in(
        tmp_path,
        {
            **{f"model.{name}": value for name, value in changes.items()},
            **{"data.batch_size": 2048 // length, "data.block_size": length, "engine.name": "mlx"},
            **{"training.optimizer": "adamw", "training.max_steps": 2, "training.eval_interval": 2},
            "training.val_windows": 1,
        },
    )
    tzd.train(config)
    model = config.model.architecture(vocab)
    planned = make_plan(config, model, parameter_shapes(model), 2).memory["one process"].peak
    assert planned == pytest.approx(max(peaks), rel=1 / 3)


def test_a_checkpoint_takes_what_was_planned(tmp_path: Path):
    run = train(tmp_path, {"model.n_embd": 96, "training.ema_decay": 0.5, "training.max_steps": 3})
    files = [file for file in run.path.glob("step-*/*") if file.suffix == ".safetensors"]
    config = config_in(tmp_path, {"model.n_embd": 96, "training.ema_decay": 0.5})
    architecture = config.model.architecture(16)
    plan = make_plan(config, architecture, parameter_shapes(architecture), 3)
    taken = sum(file.stat().st_size for file in files) / len(list(run.path.glob("step-*")))
    assert plan.checkpoint_bytes == pytest.approx(taken, rel=0.1)


def test_a_measured_rate_foretells_a_run(tmp_path: Path):
    changes = {"model.n_layer": 2, "model.n_embd": 128, "data.block_size": 24, "training.compile": False}
    config = config_in(tmp_path, changes)
    architecture = config.model.architecture(16)
    plan = make_plan(config, architecture, parameter_shapes(architecture), 12)
    rate = measured_rate(config, plan)
    run = train(tmp_path, {**changes, "training.max_steps": 12})
    seconds = float(read_rows(run.path / "metrics.csv")[-1]["seconds"])
    assert 0.1 < 3600 * plan.hours(rate) / seconds < 3  # other programs may slow down either of them
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "text.txt"]


def test_the_command_prints_a_plan_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    own = ["data=text", "data.path=text.txt", "model=tiny_cpu", "data.block_size=24"]
    assert main(["plan", *own, "devices=2", "strategy=fsdp", "--tflops", "1", "--mfu", "0.5", "--json"]) == 0
    out = capsys.readouterr().out
    assert "2 devices" in out and "FSDP" in out and "hours at 500GFLOP/s a device" in out
    plan = json.loads(out.splitlines()[-1])
    assert plan["tokens_per_step"] == 2 * 16 * 24
    assert plan["hours"] == pytest.approx(plan["flop"] / 1e12 / 3600)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocab-size", "100"], "without a corpus nothing says how long an epoch is: set training.max_steps"),
        (["--vocab-size", "0"], "--vocab-size must be at least 1, not 0"),
        (["--tflops", "0"], "--tflops must be positive, not 0.0"),
        (["--mfu", "2"], "--mfu must lie in (0, 1], not 2.0"),
        (["--tflops", "1", "--measure"], "--tflops says how fast a device is, and --measure finds out"),
        (["--vocab-size", "9", "training.max_steps=1", "--measure"], "--measure trains on the corpus"),
        (["--vocab-size", "9", "training.max_steps=1", "devices=all"], "training.devices=all: a plan takes a number"),
        (["--vocab-size", "9", "training.max_steps=1", "devices=-1"], "training.devices=-1: a plan takes a number"),
        (["devises=2"], "unknown setting 'devises'"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tzd: {message}") and error.count("\n") == 1


@pytest.mark.parametrize("page", ["README.md", "docs/scaling.md"])
def test_pages_say_from_which_vocabulary_on_the_head_runs_at_masked_positions(page: str):
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    assert re.findall(r"from ([\d,]+) tokens (?:of vocabulary )?on", text) == [f"{HEAD_ON_MASKED_FROM:,}"]


def test_block_diffusion_runs_the_network_on_both_halves():
    settings = {"objective.name": "block", "objective.block_len": 16}
    plain, blocks = plan_of(), plan_of(settings)
    parameters = plain.parameters
    assert blocks.tokens_per_step == plain.tokens_per_step
    attention = plain.flop_per_token - 6.0 * (parameters.active + parameters.head)
    expected = 2 * (6.0 * (parameters.active + parameters.head * blocks.head_share) + 2 * attention)
    assert blocks.flop_per_token == pytest.approx(expected)
    assert blocks.head_share == pytest.approx(17 / 64 + 1 / 32)
    one = plan_of({"objective.name": "block", "objective.block_len": 1})
    assert one.head_share == 0.5
    assert blocks.memory["one process"].activations == 2 * plain.memory["one process"].activations


def test_a_plan_is_composed_from_the_folders_that_a_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\nmodel:\n  n_layer: 3\n")
    given = ["--config-name", "mine", "--vocab-size", "60", "training.max_steps=3", "--json"]
    assert main(["plan", "--config-dir", str(tmp_path), *given]) == 0
    total = json.loads(capsys.readouterr().out.splitlines()[-1])["parameters"]["total"]
    three = run_config({"model": {"n_layer": 3, "n_head": 8, "n_embd": 512}}).model.architecture(60)
    assert total == count_parameters(parameter_shapes(three), three).total
    assert main(["plan", "--config-dir", str(tmp_path / "none"), *given]) == 2
