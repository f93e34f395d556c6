"""Single files: what Tiny Diffusion and its MLX port write is read, what is written they can read."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import runs
import tzd
from networks import stirred, weights_of
from tzd.checkpoint import Checkpoint, check_export, read_checkpoint, write_checkpoint, write_npz
from tzd.checkpoint.layout import sha256, signed
from tzd.config import ObjectiveSettings, TinyConfig, TokenizerSettings
from tzd.corpus import Corpus, make_tokenizer
from tzd.engines.formats import read_any
from tzd.errors import CheckpointError, TzdError, UserError
from tzd.mapping import to_mapping

GOLDEN = Path(__file__).parents[1] / "parity" / "golden" / "tiny"
PORT, ORIGINAL, THEIRS = GOLDEN / "mlx_diffusion_model.npz", GOLDEN / "diffusion_model.pt", GOLDEN / "config.json"
ASCII = TinyConfig(vocab_size=128, n_layer=2, n_head=2, n_embd=16, block_size=12)


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    return dict(np.load(file, allow_pickle=False))


def checkpoint(folder: Path, config: TinyConfig = ASCII, kind: str = "ascii", context_len: int = 0) -> Checkpoint:
    """A stirred model of ours, written and read."""
    tokenizer = make_tokenizer(TokenizerSettings(kind), Corpus.from_text("text", "abc" * 100))
    described = {
        "model": {"model_type": "tiny", **to_mapping(config)},
        "tokenizer": tokenizer.describe(),
        "diffusion": to_mapping(ObjectiveSettings(context_len=context_len)),
        "provenance": {"corpus": "text", "step": 7},
    }
    write_checkpoint(folder, config=described, weights=weights_of(stirred(config)), files=tokenizer.files())
    return read_checkpoint(folder)


def logits(model: tzd.Model, tokens: np.ndarray) -> np.ndarray:
    return model.denoiser.xp.to_numpy(model.logits(tokens))


def refusal(action: Callable[[], Any], kind: type[TzdError] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- .npz in ----------------------------------------------------------------------------------------------------


def test_sizes_come_from_the_shapes_and_the_rest_from_the_config_beside() -> None:
    read = read_any(PORT)
    assert read.section("model") == {
        "model_type": "tiny",
        **to_mapping(
            TinyConfig(128, mask_id=0, n_layer=2, n_head=2, n_embd=32, block_size=64, time_steps=16, rotary_tables=True)
        ),
    }
    assert read.section("diffusion")["context_len"] == 8
    assert read.section("tokenizer") == {"kind": "ascii", "vocab_size": 128}
    assert read.section("provenance") == {"source": PORT.name, "source_sha256": sha256(PORT)}


def test_trained_tables_are_kept_and_computed_ones_are_not(tmp_path: Path) -> None:
    theirs, read = arrays_of(PORT), read_any(PORT)
    for name in ("cos", "sin"):
        np.testing.assert_array_equal(read.weights[f"rotary.{name}"], theirs[name].reshape(128, 8))
    network = tzd.load(PORT, engine="torch").denoiser.network
    assert not {name for name, _ in network.named_parameters() if "rotary" in name}

    write_npz(tmp_path / "ours.npz", checkpoint(tmp_path / "c"))
    again = read_any(tmp_path / "ours.npz")
    assert not again.section("model")["rotary_tables"] and "rotary.cos" not in again.weights
    changed = arrays_of(tmp_path / "ours.npz")
    changed["sin"][0, 3, 0, 1] = np.nextafter(changed["sin"][0, 3, 0, 1], np.float32(2))
    np.savez(tmp_path / "ours.npz", **changed)
    assert read_any(tmp_path / "ours.npz").section("model")["rotary_tables"]


def test_without_a_config_the_context_is_64_where_the_window_is_longer(tmp_path: Path) -> None:
    for block_size, context_len in ((64, 0), (65, 64)):
        file = tmp_path / f"{block_size}.npz"
        write_npz(file, checkpoint(tmp_path / str(block_size), replace(ASCII, block_size=block_size)))
        file.with_suffix(".json").unlink()
        assert read_any(file).section("diffusion")["context_len"] == context_len
        assert read_any(file, context_len=5).section("diffusion")["context_len"] == 5


def test_the_config_of_the_files_own_name_comes_before_config_json(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(PORT.read_bytes())
    (tmp_path / "config.json").write_text('{"n_head": 99}')
    assert f"{tmp_path / 'config.json'} says n_head=99" in refusal(lambda: read_any(file))
    (tmp_path / "a.json").write_text('{"context_len": 3, "rms_norm_eps": 0.5, "source": "here"}')
    assert read_any(file).section("diffusion")["context_len"] == 3
    assert read_any(file).section("model")["norm_eps"] == 0.5


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"sequence_len": 32}, "has block_size=64, but CONFIG says sequence_len=32"),
        ({"vocab_size": 95}, "has vocab_size=128, but CONFIG says vocab_size=95"),
        ({"n_layer": 3}, "has n_layer=2, but CONFIG says n_layer=3"),
        ({"n_embd": 64}, "has n_embd=32, but CONFIG says n_embd=64"),
        ({"diffusion_steps": 128}, "has time_steps=16, but CONFIG says diffusion_steps=128"),
        ({"mask_token_id": 128}, r"token_emb.weight (128, 32) instead of (129, 32)"),
        ({"mask_token_id": 500}, "model.mask_id must lie in 0..128, not 500"),
        ({"context_len": 64}, "context_len=64 cannot be"),
        ({"n_head": "two"}, "CONFIG: n_head cannot be 'two'; it takes a whole number"),
        ({"rms_norm_eps": -1}, "model.norm_eps must be positive"),
        ([], "CONFIG is damaged: it is no JSON object"),
        ({"format": "tzd", "format_version": 99}, "CONFIG has format 99"),
        ({"format": "tzd", "format_version": 1}, "CONFIG has no section 'model'"),
    ],
)
def test_a_config_that_cannot_be_this_files_is_one_line_that_names_both(
    said: Any, message: str, tmp_path: Path
) -> None:
    file, config = tmp_path / "model.npz", tmp_path / "config.json"
    file.write_bytes(PORT.read_bytes())
    config.write_text(json.dumps(said))
    line = refusal(lambda: tzd.load(file), UserError)
    assert message.replace("CONFIG", str(config)) in line
    assert str(file) in line or str(config) in line


def without(name: str) -> Callable[[dict], dict]:
    return lambda arrays: {key: value for key, value in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("cos"), "holds no weights of Tiny Diffusion: 1 missing (cos)"),
        (without("blocks.1.attn.c_k.weight"), "1 missing (blocks.1.attn.c_k.weight)"),
        (lambda a: a | {"extra": a["cos"]}, "1 unexpected (extra)"),
        (lambda a: a | {"blocks.7.mlp.c_fc.weight": a["cos"]}, "1 unexpected (blocks.7.mlp.c_fc.weight)"),
        (lambda a: a | {"bad\x1b[2J": a["cos"]}, "1 unexpected (bad␛[2J)"),
        (lambda a: a | {"head.weight": a["output_head.weight"].T}, "1 unexpected (head.weight)"),
        (lambda a: a | {"token_emb.weight": a["token_emb.weight"][:, 1:]}, "token_emb.weight (128, 31) instead of"),
        (lambda a: a | {"token_emb.weight": a["token_emb.weight"][0]}, "token_emb.weight cannot be of the shape (32,)"),
        (lambda a: a | {"sin": a["sin"][:, 2:]}, "sin (1, 126, 1, 8) instead of (1, 128, 1, 8)"),
        (lambda a: a | {"cos": a["cos"][:, 1:]}, "cos (1, 127, 1, 8) does not fit"),
        (lambda a: a | {"cos": a["cos"][..., :3]}, "cos (1, 128, 1, 3) does not fit a width of 32"),
        (lambda a: a | {"cos": a["cos"][..., :0]}, "cos cannot be of the shape (1, 128, 1, 0)"),
        (lambda a: a | {"cos": a["cos"].astype(np.int32)}, "holds cos as int32; weights are floating-point numbers"),
        (lambda a: a | {"cos": a["cos"].astype("S3")}, "holds cos as |S3"),
        (lambda a: a | {"cos": np.array([{}], dtype=object)}, "it holds Python objects, which are never unpickled"),
        (lambda a: {"x": np.zeros(3)}, "holds no weights of Tiny Diffusion"),
        (lambda a: {}, "holds no weights of Tiny Diffusion"),
        (
            lambda a: {k: v[:0] if k == "time_emb.weight" else v for k, v in a.items()},
            "time_emb.weight cannot be of the shape (0, 32)",
        ),
    ],
)
def test_an_npz_of_something_else_is_one_line(change: Callable[[dict], dict], message: str, tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    np.savez(file, allow_pickle=True, **change(arrays_of(PORT)))
    line = refusal(lambda: tzd.load(file))
    assert str(file) in line
    assert message in line


def test_objects_in_an_npz_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", allow_pickle=True, cos=np.array([Trap(tmp_path / "sprung")], dtype=object))
    assert "never unpickled" in refusal(lambda: tzd.load(tmp_path / "model.npz"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("source", [PORT, ORIGINAL], ids=["npz", "pt"])
def test_a_file_that_was_cut_short_is_one_line(source: Path, share: float, tmp_path: Path) -> None:
    data, file = source.read_bytes(), tmp_path / f"model{source.suffix}"
    file.write_bytes(data[: int(len(data) * share)])
    assert str(file) in refusal(lambda: read_any(file, n_head=2))


@pytest.mark.parametrize("source", [PORT, ORIGINAL], ids=["npz", "pt"])
def test_a_file_that_was_changed_is_read_or_is_one_line(source: Path, tmp_path: Path) -> None:
    data, rng = source.read_bytes(), np.random.default_rng(0)
    file = tmp_path / f"model{source.suffix}"
    for _ in range(60):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 20):
            changed[at] = rng.integers(256)
        file.write_bytes(changed)
        try:
            read_any(file, n_head=2, block_size=64)
        except CheckpointError as error:
            assert str(file) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04", pickle.dumps([1, 2])])
@pytest.mark.parametrize("ending", [".npz", ".pt"])
def test_a_file_that_is_something_else_is_one_line(content: bytes, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"model{ending}").write_bytes(content)
    assert f"model{ending}" in refusal(lambda: tzd.load(tmp_path / f"model{ending}"))


# --- .pt in -----------------------------------------------------------------------------------------------------


class Trap:
    """What a pickle would make of this is a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_a_pt_has_the_originals_epsilon_whatever_is_said() -> None:
    assert json.loads(THEIRS.read_text())["rms_norm_eps"] == 1e-5
    model = read_any(ORIGINAL).section("model")
    assert model["norm_eps"] == np.finfo(np.float32).eps
    assert (model["n_head"], model["block_size"], model["rotary_tables"]) == (2, 64, False)


def test_flags_say_what_a_pt_does_not(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(ORIGINAL.read_bytes())
    line = refusal(lambda: tzd.load(file))
    assert "--n-head" in line and str(file) in line and str(tmp_path / "config.json") in line
    read = read_any(file, n_head=4)
    assert (read.section("model")["n_head"], read.section("model")["block_size"]) == (4, 256)
    assert read.section("diffusion")["context_len"] == 64
    folder = tzd.convert(file, tmp_path / "c", n_head=2, block_size=32, context_len=3)
    model = tzd.load(folder, engine="torch")
    assert (model.denoiser.seq_len, model.denoiser.context_len) == (32, 3)
    assert model.provenance == {"source": "model.pt", "source_sha256": sha256(file)}
    assert "model.n_head=3 does not divide" in refusal(lambda: read_any(file, n_head=3))
    assert "model.n_head must be at least 1" in refusal(lambda: read_any(file, n_head=0))
    assert "context_len=300 cannot be" in refusal(lambda: read_any(file, n_head=2, context_len=300))


def state() -> dict[str, torch.Tensor]:
    return torch.load(ORIGINAL, weights_only=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda: {"model": state(), "step": 3},
            ("is no state dict of tensors: it holds model as OrderedDict; save the model's own state_dict() alone"),
        ),
        (lambda: [1, 2], "holds a list, not a state dict of tensors"),
        (lambda: {}, "holds a dict, not a state dict"),
        (lambda: torch.zeros(3), "holds a Tensor, not a state dict"),
        (lambda: {3: torch.zeros(3)}, "it holds 3 as torch.float32"),
        (lambda: {"a": torch.zeros(3, dtype=torch.int64)}, "it holds a as torch.int64"),
        (lambda: {"a": torch.zeros(3).to_sparse()}, "it holds a as torch.float32"),
        (lambda: {"a": torch.zeros(3)}, "holds no weights of Tiny Diffusion"),
        (lambda: state() | {"cos": torch.zeros(1, 512, 1, 8)}, "1 unexpected (cos)"),
        (lambda: state() | {"output_head.weight": torch.zeros(128, 28)}, "does not fit together: "),
    ],
)
def test_a_pt_of_something_else_is_one_line(content: Callable[[], Any], message: str, tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "model.pt")
    line = refusal(lambda: read_any(tmp_path / "model.pt", n_head=2))
    assert str(tmp_path / "model.pt") in line and message in line


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_something_else_is_refused_and_never_run(zipped: bool, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({**state(), "x": Trap(sprung)}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    line = refusal(lambda: tzd.load(tmp_path / "model.pt"))
    assert (
        "holds something other than tensors, which was not made: no state dict is in it that can be read"
    ) in line and "weights_only" not in line
    assert not sprung.exists()
    with (tmp_path / "plain.pt").open("wb") as file:
        pickle.dump(Trap(sprung), file)
    refusal(lambda: tzd.load(tmp_path / "plain.pt"))
    assert not sprung.exists()


def test_weights_of_lower_precision_and_of_the_old_format_are_read(tmp_path: Path) -> None:
    torch.save(
        {name: value.bfloat16() for name, value in state().items()},
        tmp_path / "model.pt",
        _use_new_zipfile_serialization=False,
    )
    weights = read_any(tmp_path / "model.pt", n_head=2).weights
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(weights["head.weight"], state()["output_head.weight"].bfloat16().float())


def test_a_pt_without_pytorch_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tzd.engines.torch.pt", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "needs PyTorch, which is not here" in refusal(lambda: read_any(ORIGINAL), TzdError)


def test_an_npz_is_loaded_on_mlx_without_pytorch() -> None:
    pytest.importorskip("mlx.core")
    code = f"import sys, tzd; tzd.load({str(PORT)!r}, engine='mlx'); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "lightning"}.intersection(run.stdout.split())


# --- where they are looked for ----------------------------------------------------------------------------------


def test_a_folder_is_searched_for_the_one_file_that_it_holds(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(PORT.read_bytes())
    (tmp_path / "config.json").write_bytes(THEIRS.read_bytes())
    (tmp_path / "README.md").write_text("About it.")
    assert tzd.load(tmp_path, engine="torch").denoiser.context_len == 8
    (tmp_path / "other.pt").write_bytes(ORIGINAL.read_bytes())
    assert "holds other.pt and weights.npz: give the one that you mean" in refusal(lambda: tzd.load(tmp_path))
    (tmp_path / "weights.npz").unlink()
    assert read_any(tmp_path).section("provenance")["source"] == "other.pt"


def test_a_checkpoint_is_itself_whatever_lies_in_its_folder(tmp_path: Path) -> None:
    ours = checkpoint(tmp_path / "c")
    (tmp_path / "c" / "other.npz").write_bytes(PORT.read_bytes())
    assert read_any(tmp_path / "c").config == ours.config
    line = refusal(lambda: read_any(tmp_path / "c", n_head=2, context_len=3), UserError)
    assert "leave out n_head, context_len" in line


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    for name in ("nothing.npz", "nothing.pt", "nothing"):
        assert f"there is no checkpoint at {tmp_path / name}" in refusal(lambda n=name: tzd.load(tmp_path / n))
    (tmp_path / "folder.npz").mkdir()
    assert (
        "folder.npz holds no checkpoint: neither config.json (as a checkpoint does) nor a file "
        "'best' or 'last' (as a run folder does)"
    ) in refusal(lambda: tzd.load(tmp_path / "folder.npz"))


# --- .npz out ---------------------------------------------------------------------------------------------------


def test_a_file_of_the_ports_comes_back_to_the_byte(tmp_path: Path) -> None:
    tzd.convert(tzd.convert(PORT, tmp_path / "c"), tmp_path / "again.npz")
    before, after = arrays_of(PORT), arrays_of(tmp_path / "again.npz")
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert (array.shape, array.dtype, array.tobytes()) == (
            after[name].shape,
            after[name].dtype,
            after[name].tobytes(),
        )
    assert read_any(tmp_path / "again.npz").section("model") == read_any(PORT).section("model")


@pytest.mark.parametrize("kind", ["ascii", "byte"])
@pytest.mark.parametrize(
    "changes", [{}, {"time_steps": 8}, {"intermediate_size": 24, "rope_base": 99.0, "norm_eps": 0.1}]
)
def test_a_model_of_ours_comes_back_as_the_same_function(kind: str, changes: dict, tmp_path: Path) -> None:
    vocab_size = {"ascii": 128, "byte": 256}[kind]
    config = replace(ASCII, vocab_size=vocab_size, mask_id=vocab_size, **changes)
    ours = checkpoint(tmp_path / "c", config, kind, context_len=3)
    write_npz(tmp_path / "new" / "model.npz", ours)
    back = tzd.load(tmp_path / "new" / "model.npz", engine="torch")
    rng = np.random.default_rng(0)
    tokens, masked = rng.integers(1, vocab_size, (3, 12)), rng.random((3, 12)) < 0.4
    given = np.where(masked, vocab_size, tokens)
    theirs = np.where(masked, back.mask_id, tokens)
    np.testing.assert_array_equal(logits(tzd.load(tmp_path / "c", engine="torch"), given), logits(back, theirs))
    assert back.mask_id == {"ascii": 0, "byte": 256}[kind]
    assert back.denoiser.context_len == 3
    assert back.tokenizer is not None and back.tokenizer.kind == kind
    assert back.provenance is not None and back.provenance["step"] == 7
    assert back.provenance["source_sha256"] == sha256(tmp_path / "new" / "model.npz")
    assert back.config is not None and back.config.rope_base == config.rope_base


def test_the_ports_own_loader_takes_what_is_written(tmp_path: Path) -> None:
    """MLX's strict loader, on a tree of parameters with the names and shapes of the port's modules."""
    mlx = pytest.importorskip("mlx.nn")
    import mlx.core as mx
    from mlx.utils import tree_flatten

    def linear(out: int, into: int) -> Any:
        return mlx.Linear(into, out, bias=False)

    block, port = [mlx.Module(), mlx.Module()], mlx.Module()
    for part in block:
        part.attn, part.mlp = mlx.Module(), mlx.Module()
        part.attn.c_q, part.attn.c_k, part.attn.c_v, part.attn.c_proj = (linear(16, 16) for _ in range(4))
        part.mlp.c_fc, part.mlp.c_proj = linear(64, 16), linear(16, 64)
    port.token_emb, port.time_emb, port.blocks = mlx.Embedding(128, 16), mlx.Embedding(128, 16), block
    port.output_head, port.cos, port.sin = linear(128, 16), mx.zeros((1, 24, 1, 4)), mx.zeros((1, 24, 1, 4))

    ours = checkpoint(tmp_path / "c", context_len=4)
    line = write_npz(tmp_path / "model.npz", ours)
    assert line.endswith(
        "reads it with DiffusionConfig(sequence_len=12, vocab_size=128, mask_token_id=0, n_layer=2, n_head=2, "
        "n_embd=16, diffusion_steps=128, context_len=4)"
    )
    port.load_weights(str(tmp_path / "model.npz"))
    loaded = {name: np.array(value) for name, value in tree_flatten(port.parameters())}
    np.testing.assert_array_equal(loaded["token_emb.weight"][0], ours.weights["token_embedding.weight"][128])
    np.testing.assert_array_equal(loaded["token_emb.weight"][1:], ours.weights["token_embedding.weight"][1:128])
    np.testing.assert_array_equal(
        loaded["blocks.1.attn.c_k.weight"], ours.weights["blocks.1.attention.qkv.weight"][16:32]
    )
    assert not loaded["time_emb.weight"].any()
    np.testing.assert_allclose(loaded["cos"][0, :, 0, 0], np.cos(np.arange(24)), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "kind", "line"),
    [
        (
            {"vocab_size": 256, "mask_id": 256},
            "byte",
            "cannot read it, tzd can: it has 257 embeddings for a head of 256",
        ),
        ({"intermediate_size": 24}, "ascii", "cannot read it, tzd can: its MLP is 24 wide, not 4 · 16"),
        ({"norm_eps": 1e-6}, "ascii", "context_len=0), but computes with an epsilon of 1e-05"),
    ],
)
def test_who_cannot_read_the_file_as_it_is_meant_is_said(changes: dict, kind: str, line: str, tmp_path: Path) -> None:
    assert line in write_npz(tmp_path / "model.npz", checkpoint(tmp_path / "c", replace(ASCII, **changes), kind))


def test_a_file_of_tokens_that_nothing_names_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", checkpoint(tmp_path / "c", replace(ASCII, vocab_size=256, mask_id=256), "byte"))
    (tmp_path / "a.json").unlink()
    assert "token_emb.weight (257, 16) instead of (256, 16)" in refusal(lambda: read_any(tmp_path / "a.npz"))
    (tmp_path / "a.json").write_text('{"mask_token_id": 256}')
    assert "has 256 tokens, and nothing says which" in refusal(lambda: read_any(tmp_path / "a.npz"))


def test_an_export_is_written_anew_and_never_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, file = checkpoint(tmp_path / "c"), tmp_path / "out" / "model.npz"
    write_npz(file, ours)
    first = file.read_bytes()
    ours.weights["head.weight"] += 1
    write_npz(file, ours)
    second = file.read_bytes()
    assert first != second
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.json", "model.npz"]

    def fails(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    ours.weights["head.weight"] += 1
    assert "No space left" in refusal(lambda: write_npz(file, ours), TzdError)
    assert file.read_bytes() == second
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.json", "model.npz"]


def test_weights_of_another_module_are_not_written(tmp_path: Path) -> None:
    ours = checkpoint(tmp_path / "c")
    del ours.weights["token_embedding.weight"]
    line = refusal(lambda: write_npz(tmp_path / "model.npz", ours))
    assert f"{tmp_path / 'c'} cannot be written as {tmp_path / 'model.npz'}" in line
    assert not (tmp_path / "model.npz").exists()


def test_what_cannot_be_written_is_said_before_anything_is(tmp_path: Path) -> None:
    corpus = Corpus.from_text("text", "abc" * 100)
    plain, char = (make_tokenizer(TokenizerSettings(kind), corpus) for kind in ("ascii", "char"))
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "other.json").mkdir()
    (tmp_path / "file").write_text("")
    check_export(tmp_path / "new" / "deep" / "model.npz", plain)
    for name, tokenizer, message in (
        ("model.safetensors", plain, "a single file is a .npz file"),
        ("model", plain, "a single file is a .npz file"),
        ("model.npz", char, "a 'char' tokenizer needs a file of its own"),
        ("folder.npz", plain, "folder.npz: it is a folder"),
        ("other.npz", plain, "other.json: it is a folder"),
        ("file/model.npz", plain, "file is no folder that you may write to"),
    ):
        assert message in refusal(lambda n=name, t=tokenizer: check_export(tmp_path / n, t), UserError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.npz", "other.json"]


def test_convert_overwrites_neither_of_its_two_files(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("mine")
    assert "model.json exists already" in refusal(lambda: tzd.convert(PORT, tmp_path / "model.npz"), UserError)
    (tmp_path / "taken.npz").write_text("mine")
    assert "taken.npz exists already" in refusal(lambda: tzd.convert(PORT, tmp_path / "taken.npz"), UserError)
    assert "the only other format written is .npz" in refusal(lambda: tzd.convert(PORT, tmp_path / "x.pt"), UserError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "taken.npz"]


# --- what a reader must not take on trust -------------------------------------------------------------------------


def member(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


@pytest.mark.parametrize("second", ["cos", "cos.npy"])
def test_a_name_that_comes_twice_in_an_npz_is_refused(second: str, tmp_path: Path) -> None:
    file = tmp_path / "model.npz"
    file.write_bytes(PORT.read_bytes())
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
        warnings.simplefilter("ignore")  # it warns of what is tested here
        archive.writestr(second, member(np.zeros((1, 128, 1, 8), np.float32)))
    assert "holds cos twice" in refusal(lambda: tzd.load(file))


def test_nothing_is_unpacked_of_an_npz_whose_shapes_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "model.npz", **arrays_of(PORT), extra=np.zeros(3))  # type: ignore[arg-type]
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was unpacked"))
    assert "1 unexpected (extra)" in refusal(lambda: tzd.load(tmp_path / "model.npz"))


def test_an_array_that_is_not_as_long_as_its_header_says_is_refused(tmp_path: Path) -> None:
    arrays = {name: member(array) for name, array in arrays_of(PORT).items()}
    arrays["cos"] += b"more"
    with zipfile.ZipFile(tmp_path / "model.npz", "w") as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    assert "cos is not as long as it says" in refusal(lambda: tzd.load(tmp_path / "model.npz"))


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, tmp_path: Path) -> None:
    arrays = arrays_of(PORT)
    arrays["blocks.1.mlp.c_fc.weight"] = arrays["blocks.1.mlp.c_fc.weight"].astype(np.float64)
    arrays["blocks.1.mlp.c_fc.weight"][3, 4] = value
    np.savez(tmp_path / "model.npz", **arrays)
    message = "holds numbers in blocks.1.mlp.up.weight that are not finite"
    assert message in refusal(lambda: tzd.load(tmp_path / "model.npz"))
    assert message in refusal(lambda: tzd.convert(tmp_path / "model.npz", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    good = checkpoint(tmp_path / "good")
    bad = {name: array * np.float32("nan") if name == "head.weight" else array for name, array in good.weights.items()}
    write_checkpoint(tmp_path / "bad", config=good.config, weights=bad)
    assert f"{tmp_path / 'bad'} holds numbers in head.weight" in refusal(lambda: tzd.load(tmp_path / "bad"))


def test_torchscript_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:  # as torch.jit.save lays a program out
        archive.writestr("model/constants.pkl", b"")
        archive.writestr("model/data.pkl", b"")
        archive.writestr("model/version", b"3")
        archive.writestr("model/code/x.py", b"")
    line = refusal(lambda: tzd.load(tmp_path / "model.pt"))
    assert "no file of tensors alone" in line and "weights_only" not in line


def test_a_tokenizer_of_another_size_than_the_head_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "model.npz", checkpoint(tmp_path / "c"))
    described = json.loads((tmp_path / "model.json").read_text())
    described["tokenizer"] = {"kind": "byte", "vocab_size": 256}
    (tmp_path / "model.json").write_text(json.dumps(signed(described)))
    line = refusal(lambda: tzd.load(tmp_path / "model.npz"))
    assert (
        "has 128 tokens, but the tokenizer that is described beside it has 256: one of them is another model's"
    ) in line


def test_an_export_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    for name in ("model.npz", "model.json", "other.npz"):
        (tmp_path / f".{name}.99999.tmp").write_text("half")
    write_npz(tmp_path / "model.npz", checkpoint(tmp_path / "c"))
    assert {path.name for path in tmp_path.iterdir()} == {"c", "model.npz", "model.json", ".other.npz.99999.tmp"}


def test_endings_are_known_in_capitals_and_others_are_told_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "UP.NPZ").write_bytes(PORT.read_bytes())
    (tmp_path / "foo.bin").write_bytes(PORT.read_bytes())
    assert read_any(tmp_path / "UP.NPZ").weights.keys() == read_any(PORT).weights.keys()
    line = refusal(lambda: tzd.convert(tmp_path / "foo.bin", tmp_path / "out"))
    assert "(.npz, .pt, .pth, .safetensors)" in line and "tzd convert" not in line


def test_an_ending_is_no_name(tmp_path: Path) -> None:
    assert "an ending without a name" in refusal(lambda: tzd.convert(PORT, tmp_path / ".npz"), UserError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_head": "2"}, "n_head must be a whole number, not '2'"),
        ({"n_head": True}, "n_head must be a whole number, not True"),
        ({"n_head": 0}, "n_head must be at least 1, not 0"),
        ({"n_head": 10**12}, "n_head must be at most 1048576"),
        ({"n_head": 2, "block_size": 10**12}, "block_size must be at most 1048576"),
        ({"n_head": 2, "context_len": -1}, "context_len must be at least 0, not -1"),
    ],
)
def test_numbers_about_a_file_that_cannot_be_are_one_line(given: Any, message: str, tmp_path: Path) -> None:
    assert message in refusal(lambda: tzd.convert(ORIGINAL, tmp_path / "out.npz", **given), UserError)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_said_of_the_file_that_a_run_was_to_begin_with(tmp_path: Path) -> None:
    changes = {
        "training.init_from": str(PORT),
        "data.block_size": 65,
        "model.block_size": 65,
        "tokenizer.name": "ascii",
    }
    with pytest.raises(UserError, match=rf"longer than the window of {PORT}, 64"):
        runs.train(tmp_path, changes)
