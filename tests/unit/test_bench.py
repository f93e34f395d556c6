"""What `tzd bench` compares can be compared, and its figures are what they are called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benches import CELL, MACHINE, SAMPLING, TRAINING
from tzd.bench import corpus, machine, peaks, sampling, startup, training
from tzd.bench.ours_training import TurnsLogger, alphabet, settings
from tzd.bench.plain_torch import Plain
from tzd.bench.plain_torch_sampling import write
from tzd.bench.products import parameters, products, training_flop_per_token
from tzd.bench.sizes import SIZES, Cell
from tzd.bench.turns import Worker, WorkerError, in_turns, started
from tzd.bench.weights import plainly_named, weights, write_model
from tzd.config import RunConfig, run_config
from tzd.config.model import model_config
from tzd.engines import engine_module
from tzd.engines.inputs import PRECISIONS
from tzd.engines.torch.shapes import parameter_shapes
from tzd.training.costs import count_parameters, training_flop
from tzd.training.task import make_task

SMALL = {
    "tiny": {"model_type": "tiny", "n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 5, "block_size": 8},
    "smdm": {"model_type": "smdm", "n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 5, "block_size": 8},
}


@pytest.fixture(params=SMALL)
def model(request: pytest.FixtureRequest):
    return model_config(SMALL[request.param])


def tokens_of(model) -> np.ndarray:
    return np.random.default_rng(1).integers(0, model.vocab_size + 1, (2, 8))


def ours(engine: str, model) -> np.ndarray:
    load = engine_module(engine, "denoiser").load_denoiser
    denoiser = load(model, weights(model), context_len=0, where=Path("here"))
    return denoiser.xp.to_numpy(denoiser.forward(tokens_of(model))[0])


def test_the_plain_loop_trains_and_samples_the_same_model(model) -> None:
    plain = Plain(model)
    named = plainly_named(model, weights(model))
    plain.load_state_dict({name: torch.tensor(value) for name, value in named.items()})
    with torch.no_grad():
        logits = plain(torch.tensor(tokens_of(model))).numpy()
    np.testing.assert_allclose(logits, ours("torch", model), atol=1e-4, rtol=0)


def test_the_plain_loop_on_mlx_trains_and_samples_the_same_model(model) -> None:
    mx = pytest.importorskip("mlx.core")
    from tzd.bench.plain_mlx import Plain

    plain = Plain(model)
    plain.load_weights([(name, mx.array(value)) for name, value in plainly_named(model, weights(model)).items()])
    np.testing.assert_allclose(np.array(plain(mx.array(tokens_of(model)))), ours("mlx", model), atol=1e-4, rtol=0)


def test_the_plain_samplers_reveal_in_256_passes_and_leave_no_blank() -> None:
    blanks = []

    def likes_token_3(tokens):
        blanks.append(int((tokens == 5).sum()))
        return 100 * torch.nn.functional.one_hot(torch.full(tokens.shape, 3), 5).float()

    assert (write(likes_token_3, (4, 64), 5, 256) == 3).all()
    assert len(blanks) == 256 and blanks[0] == 256 and blanks[128] == pytest.approx(128, abs=40)
    mx = pytest.importorskip("mlx.core")
    from tzd.bench.plain_mlx_sampling import write as write_on_mlx

    logits = mx.where(mx.arange(5) == 3, 100.0, mx.zeros((4, 64, 5)))
    assert (np.array(write_on_mlx(lambda tokens: logits, (4, 64), 5, 256)) == 3).all()


def test_neither_the_plain_sampler_on_mlx_nor_who_starts_it_imports_our_engine() -> None:
    pytest.importorskip("mlx.core")
    code = "import sys, tzd.bench.sampling, tzd.bench.plain_mlx_sampling; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tzd.engines.mlx.streams" not in run.stdout.split()  # it has MLX walk graphs otherwise, workers too


def test_the_sizes_are_those_of_the_defaults_and_of_their_names() -> None:
    default = RunConfig().model.architecture(66)
    assert default == CELL.model
    assert [round(parameters(Cell("torch", size, 66, 1, 256).model) / 1e5) / 10 for size in SIZES] == [
        0.8,
        10.7,
        70.9,
        113.3,
    ]
    assert SIZES["71M"]["n_embd"] == 768 and Cell.parse(CELL.argument) == CELL


def test_operations_are_those_that_one_counts_by_hand() -> None:
    model = model_config(SMALL["tiny"])
    blocks = 2 * (16 * 48 + 16 * 16 + 2 * 16 * 64)  # weights of two layers
    attention = 2 * 2 * 2 * 16 * 8  # per token and layer: two products with 8 keys of 16 numbers, 2 operations each
    flop = sum(p.flop for p in products(model, 3, 8))
    assert flop == 3 * 8 * (2 * blocks + attention + 2 * 16 * 5)
    assert training_flop_per_token(model, 8) == 3 * (2 * blocks + attention + 16 * 5)
    assert training_flop_per_token(CELL.model, 256) == pytest.approx(70.86e6, rel=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_operations_and_parameters_are_those_of_tzd_plan(size: str) -> None:
    model = Cell("torch", size, 4096, 1, 256).model
    counted = count_parameters(parameter_shapes(model), model)
    assert training_flop_per_token(model, 256) == pytest.approx(training_flop(counted, model, 256, 0.5))
    assert parameters(model) == counted.total - counted.vectors


def test_products_that_are_timed_alone_are_all_products_of_a_pass_whether_cut_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Counting:
        flop, largest = 0.0, 0

        def random(self, shape, dtype):
            return np.zeros(shape, np.float32)

        def laid_out(self, b):
            return b

        def multiply(self, a, b):
            self.flop += 2 * a.size * b.shape[-2]
            self.largest = max(self.largest, a.size)
            return a @ b.swapaxes(-1, -2)

        def wait(self, x): ...

    wanted = products(model_config(SMALL["smdm"]), 3, 8)
    for held in (2**26, 200):
        monkeypatch.setattr(peaks, "_HELD", held)
        on = Counting()
        peaks.alone(on, wanted, "float32")()
        assert on.flop == 4 * sum(p.flop for p in wanted)  # one run to warm up, three that count
        assert on.largest <= held


def test_a_precision_is_compared_with_products_of_its_own_type(monkeypatch: pytest.MonkeyPatch) -> None:
    for half in (True, False):
        monkeypatch.setattr(machine, "computes_in_bfloat16", lambda engine, half=half: half)
        found = [machine.dtype_of(precision, "torch") for precision in PRECISIONS]
        assert found == ["bfloat16" if half else "float32", "float32", "bfloat16", "bfloat16", "bfloat16"]
        assert machine.dtype_of("auto", "mlx") == "float32"  # it samples so on a GPU, too


def test_what_takes_long_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, runs in (([1.0, 5.0, 2.0, 3.0], 4), ([60.0], 1)):
        clock = iter([moment for took in seconds for moment in (0.0, took)])
        monkeypatch.setattr(peaks, "time", SimpleNamespace(perf_counter=lambda clock=clock: next(clock)))
        ran: list[bool] = []
        assert peaks.median_seconds(lambda ran=ran: ran.append(True), 3) == (3.0 if runs == 4 else 60.0)
        assert len(ran) == runs


def test_a_matrix_that_is_laid_out_gives_the_same_products() -> None:
    on = peaks.OnTorch()
    a, b = (on.random((64, 64), "float32") for _ in range(2))
    expected = a.double() @ b.double().mT
    for way in (b, on.laid_out(b)):
        torch.testing.assert_close(on.multiply(a, way).double(), expected, rtol=1e-4, atol=1e-4)


def test_a_processor_for_which_onednn_has_no_bfloat16_multiplies_it_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    on = peaks.OnTorch("cpu")
    for dtype in on.dtypes:
        b = on.random((8, 8), dtype)
        assert (on.laid_out(b) is b) == (dtype == "bfloat16" or not torch.backends.mkldnn.is_available())


def test_the_triad_is_what_its_bytes_are_counted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    on = peaks.OnTorch()
    on.stream = 3000
    monkeypatch.setattr(peaks, "median_seconds", lambda run: run() or 2.0)
    assert peaks.bandwidth(on)() == 3 * 4 * 3000 / 2.0


def test_the_memory_that_mlx_is_held_to_on_a_processor_is_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlx.core")
    on = peaks.OnMlx()
    if on.dtypes != ("float32",):
        pytest.skip("MLX computes on a GPU here")
    asked: list[str | None] = []
    wide = SimpleNamespace(triad=lambda: None)
    monkeypatch.setattr(peaks, "OnTorch", lambda device=None: asked.append(device) or wide)
    on.triad()
    assert asked == ["cpu"] and on.stream == 2**25


def test_ratios_are_taken_turn_by_turn_and_the_peak_is_that_of_the_products_type() -> None:
    result = training.summary(CELL, TRAINING, steps=1)
    flop = training_flop_per_token(CELL.model, 256)
    row, plain = result["contenders"]["tzd, AdamW"], result["contenders"][training.PLAIN]
    assert result["peaks"] == {"float32": 2e11, "bfloat16": 4e11, "bandwidth": 5e10}
    assert row["ratio"] == 5.0 and plain["ratio"] == 1.0
    assert row["tokens_per_second"] == 4096 and row["compile_seconds"] == 30.0
    assert row["mfu"] == pytest.approx(4096 * flop / 4e11) and row["dtype"] == "bfloat16"
    assert plain["mfu"] == pytest.approx((2048 + 512) / 2 * flop / 2e11) and plain["dtype"] == "float32"
    assert (row["memory_ratio"], plain["memory_ratio"]) == (0.5, 1.0)


def test_a_batch_is_compared_with_single_texts_and_a_pass_with_its_own_products() -> None:
    result = sampling.summary(CELL, SAMPLING)
    row, plain = result["contenders"]["tzd, auto"], result["contenders"][sampling.PLAIN]
    assert (row["nfe"], plain["nfe"]) == (32, 256)
    assert row["characters_per_second"] == pytest.approx(16 * 256 / (32 * 0.2))
    assert plain["turns"] == pytest.approx([256 / (256 * 0.1), 256 / (256 * 0.2)])
    assert row["ratio"] == pytest.approx(np.median([640 / 10, 640 / 5]))
    assert row["over_products"] == pytest.approx(np.median([0.1 / 0.05, 0.3 / 0.1]))
    assert row["over_peak"] == pytest.approx(0.2 / (result["flop_per_pass"] / 4e11))
    assert plain["over_peak"] == pytest.approx(0.15 / (result["flop_per_pass"] / 16 / 2e11))
    assert plain["over_products"] is None  # those timed are a batch's


def test_the_first_frame_is_the_first_thing_that_can_be_read_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; assert sys.stdout.isatty(); print(end='\\x1b[?25l\\r\\n', flush=True); input(); print('frame')"
    written: list[bytes] = []
    read = startup._read

    def reading(terminal: int) -> bytes:
        written.append(read(terminal))
        os.write(terminal, b"go on\n")
        return written[-1]

    monkeypatch.setattr(startup, "time", SimpleNamespace(perf_counter=lambda: len(written)))
    monkeypatch.setattr(startup, "_read", reading)
    reads = startup._to_first_frame([sys.executable, "-c", code])
    assert reads > 1 and b"\x1b[?25l" in written[0] and written[reads - 1].strip()
    with pytest.raises(WorkerError, match="'tzd sample, to its first frame' failed: exit code 1"):
        startup._to_first_frame([sys.executable, "-c", "raise SystemExit('no luck')"])
    with pytest.raises(WorkerError, match=r"-c 'raise SystemExit\(3\)'' failed: exit code 3"):
        startup._to_the_end([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize("vocab", [66, 4096, 32000])
def test_ours_is_trained_on_as_many_tokens_as_the_cell_says(vocab: int, tmp_path: Path) -> None:
    cell = Cell("torch", "0.8M", vocab, 2, 16)
    assert len(set(alphabet(vocab))) == vocab and alphabet(vocab).isprintable()
    config = run_config(settings(cell, "muon", 3, 2, tmp_path))
    task = make_task(config)
    assert task.model == cell.model and task.total_steps == 9
    assert config.training.optimizer == "muon" and config.data.batch_size == 2


def test_a_turn_of_ours_is_the_steps_between_two_rows_of_metrics(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 30.0, 30.0, 31.0, 35.0, 37.0, 37.0, 38.0, 39.0])
    monkeypatch.setattr("tzd.bench.ours_training.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    heard = []
    monkeypatch.setattr("tzd.bench.ours_training.hear", lambda: heard.append(True))
    logger = TurnsLogger(steps=4, bf16=True)
    for record in ({"step": 1, "loss": 4.0}, {"step": 4, "loss": 3.0}, {"step": 8, "loss": 3.0}, {"val": 1.0}):
        logger.log(record)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said == [{"first_step": 30.0, "bf16": True}, {"seconds": 2.0}] and len(heard) == 2


def test_workers_say_what_the_summary_reads(tmp_path: Path) -> None:
    cell = Cell("torch", "0.8M", 9, 2, 8)
    folder = str(write_model(tmp_path / "model", cell.model))
    said = in_turns(
        {
            "plain": ["tzd.bench.plain_torch_sampling", cell.argument, "2"],
            "ours": ["tzd.bench.ours_sampling", cell.argument, folder, "32", "4"],
        },
        1,
    )
    assert said["ours"][1].keys() == {"seconds", "nfe", "pass_seconds"}
    assert said["ours"][1]["nfe"] == 4 and said["ours"][0]["bf16"] is False
    result = sampling.summary(cell, {sampling.MACHINE: MACHINE[:3], sampling.PLAIN: said["plain"], "tzd": said["ours"]})
    assert result["contenders"]["tzd"]["characters_per_second"] > 0


def test_workers_take_turns_and_one_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text(
        "import os, signal, sys, time\n"
        "from tzd.bench.turns import serve\n"
        "from tzd.errors import UserError\n"
        "print('libraries print, too')\n"
        "def turn():\n"
        "    start = time.monotonic()\n"
        "    if sys.argv[1] == 'fails': raise ValueError('no luck\\nadvice')\n"
        "    if sys.argv[1] == 'refuses': raise UserError('not here')\n"
        "    if sys.argv[1] == 'killed': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return {'start': start, 'end': time.monotonic()}\n"
        "serve(turn, int(sys.argv[2]), ready=1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = in_turns({"a": ["toy", "a"], "b": ["toy", "b"]}, 2)
    assert [numbers.keys() for numbers in said["a"]] == [{"ready"}, {"start", "end"}, {"start", "end"}, {"peak_mib"}]
    turns = [said[name][number] for number in (1, 2) for name in "ab"]
    assert all(before["end"] <= after["start"] for before, after in pairwise(turns))
    with pytest.raises(WorkerError, match=r"^'c' failed: ValueError: no luck$"):
        in_turns({"c": ["toy", "fails"]}, 1)
    with pytest.raises(WorkerError, match=r"^'c' failed: not here$"):
        in_turns({"c": ["toy", "refuses"]}, 1)
    with pytest.raises(WorkerError, match=r"^'d' failed: killed by signal 9, perhaps for its memory$"):
        in_turns({"d": ["toy", "killed"]}, 1)


def test_workers_have_the_variables_that_they_are_given(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text("import os\nfrom tzd.bench.turns import say\nsay(toy=float(os.environ['TOY']))\n")
    given = {**os.environ, "TOY": "7", "PYTHONPATH": str(tmp_path)}
    with Worker("toy", ["toy"], given) as worker:
        assert worker.listen() == {"toy": 7}


def test_a_worker_that_dies_between_its_turns_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text("from tzd.bench.turns import say\nsay(ready=1)\nraise MemoryError('too small')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        pytest.raises(WorkerError, match=r"^'toy' failed: MemoryError: too small$"),
        Worker("toy", ["toy"], None) as toy,
    ):
        toy.listen()
        toy._process.wait()
        toy.turn()


def test_nothing_goes_on_and_nothing_stays_where_one_fails_or_the_command_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "busy.py").write_text(
        "import os, sys, tempfile, time\n"
        "from tzd.bench.turns import hear, say\n"
        "say(pid=os.getpid(), file=tempfile.mkstemp()[1])\n"
        "hear()\n"
        "if sys.argv[1] == 'fails': raise ValueError\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    heard: list[dict] = []
    listen = Worker.listen

    def listening(worker: Worker):
        if len(heard) == 2 and worker.name == "interrupted":
            raise KeyboardInterrupt
        heard.append(dict(listen(worker)))
        return heard[-1]

    monkeypatch.setattr(Worker, "listen", listening)
    for name, error in (("fails", WorkerError), ("interrupted", KeyboardInterrupt)):
        heard.clear()
        with pytest.raises(error):
            in_turns({name: ["busy", name], "other": ["busy", "other"]}, 1)
        assert len(heard) == 2 and not any(Path(said["file"]).parent.exists() for said in heard)
        for said in heard:
            with pytest.raises(ProcessLookupError):
                os.kill(said["pid"], 0)


def test_a_corpus_is_built_no_further_when_the_command_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    def starting(command, **options):
        return started([sys.executable, "-c", "import time; time.sleep(600)"], **options)

    monkeypatch.setattr(corpus, "started", starting)
    monkeypatch.setattr(corpus, "time", SimpleNamespace(perf_counter=lambda: 0.0, sleep=interrupted))
    monkeypatch.setattr(corpus, "_family", lambda pid: begun.append(pid) or [])
    with pytest.raises(KeyboardInterrupt):
        corpus._watched(["anything"])
    with pytest.raises(ProcessLookupError):
        os.kill(begun[0], 0)
