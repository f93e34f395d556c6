"""Hostile and damaged files: a short run of what `make fuzz` does at length, and every byte of a checkpoint."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tzd
from fuzz.weights import checked, checkpoint_files
from tzd.checkpoint import RunFolder, read_checkpoint
from tzd.configs import compose
from tzd.engines.formats import read_any
from tzd.errors import CheckpointError, ConfigError, TzdError, UserError
from tzd.untrusted import parse_json, read_file, read_yaml_text

TESTS = Path(__file__).parents[1]


@pytest.mark.xdist_group("fuzz")
def test_every_reader_takes_or_refuses_what_is_hostile_and_does_nothing_else() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fuzz", "--inputs", "500", "--seed", "1", "--light", "--traced", "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["reader"], row["escaped"]) for row in rows if row["escaped"]] == []
    assert all(row["refused"] for row in rows if row["inputs"] > 20)  # of few, all may be harmless
    assert sum(row["accepted"] for row in rows) > 50  # what is spoilt little gets far into a reader


def put(folder: Path, files: dict[str, Any]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put(tmp_path / "checkpoint", checkpoint_files())


def refusal(read: Callable[[], Any], kind: type[TzdError] = CheckpointError) -> str:
    with pytest.raises(kind) as error:
        read()
    assert str(error.value).isprintable()
    return str(error.value)


def test_a_flipped_bit_in_any_byte_of_a_checkpoint_is_noticed(folder: Path) -> None:
    rng = random.Random(0)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        unnoticed = []
        for at in range(len(whole)):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << rng.randrange(8)
            file.write_bytes(flipped)
            try:
                read_checkpoint(folder).training_state()
                unnoticed.append(at)
            except CheckpointError as error:
                assert str(folder) in str(error)
        assert unnoticed == [], file.name
        file.write_bytes(whole)
    read_checkpoint(folder).training_state()


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja"])
def test_a_file_that_would_be_used_but_has_no_checksum_is_refused(name: str, folder: Path) -> None:
    files = checkpoint_files()
    sums = json.loads(files["checksums.json"])
    sums.pop(name, None)
    (folder / "checksums.json").write_text(json.dumps(sums))
    (folder / name).write_bytes(b"{}")
    assert f"{folder / name} is not among the files that checksums.json lists" in refusal(
        lambda: read_checkpoint(folder)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"n_embd": 10**6, "n_head": 1},
        {"n_layer": 10**9},
        {"block_size": 10**9},
        {"vocab_size": 10**9, "mask_id": 10**9},
        {"time_steps": 10**12},
        {"intermediate_size": 10**12},
        {"block_size": 10**30},
    ],
)
def test_no_room_is_made_for_a_network_that_the_weights_cannot_fill(changes: dict[str, int], folder: Path) -> None:
    files = checkpoint_files()
    config = json.loads(files["config.json"])
    config["model"] |= changes
    files = checked({**files, "config.json": json.dumps(config).encode()})
    for name in ("config.json", "checksums.json"):
        (folder / name).write_bytes(files[name])
    for engine in ("torch", "mlx"):
        tracemalloc.start()
        line = refusal(lambda engine=engine: tzd.load(folder, engine=engine), TzdError)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert str(folder) in line
        assert peak < 20 << 20


def test_a_zip_that_promises_more_than_it_holds_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    data = bytearray((tmp_path / "x.npz").read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = (4 * 10**9 + 10 + len(header)).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(data)
    refusal(lambda: read_any(tmp_path / "x.npz"))  # what is imported for it takes room of its own
    tracemalloc.start()
    assert "a is not as long as it says" in refusal(lambda: read_any(tmp_path / "x.npz"))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_tensor_that_repeats_one_number_is_no_matrix(tmp_path: Path) -> None:
    torch.save({"output_head.weight": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "x.pt")
    assert "it repeats what it holds" in refusal(lambda: read_any(tmp_path / "x.pt"))


def test_a_pt_that_is_packed_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert "is packed, as PyTorch packs no file" in refusal(lambda: read_any(tmp_path / "x.pt"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "checksums.json", "best"])
def test_a_pipe_in_place_of_a_file_hangs_nobody(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    refusal(lambda: tzd.load(tmp_path))


def test_a_lock_that_leads_elsewhere_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "mine.txt")
    with (
        pytest.raises(TzdError, match="lock is a link, and a run writes into its own folder alone: remove it"),
        RunFolder(tmp_path / "run").lock(),
    ):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


def nested(levels: int) -> str:
    """YAML in which each level is twice the one in it, by one reference."""
    text = "1"
    for i in range(levels):
        text = f"[&a{i} {text}, *a{i}]"
    return text


@pytest.mark.parametrize(
    "bomb",
    [
        "\n".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]),
        f"a: {nested(17)}",
        f"a: &a {'x' * 100_000}\nb: [*a, *a]",
        "a: &a [*a]",
    ],
    ids=["twice", "nested", "long", "itself"],
)
def test_yaml_that_refers_to_itself_again_and_again_is_refused(bomb: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "bomb.yaml").write_text(bomb)
    line = refusal(lambda: compose(["experiment=bomb"], folders=(tmp_path,)), ConfigError)
    assert "bomb.yaml cannot be read: what it refers to (*NAME) written out, it has more than 262144 charac" in line


@pytest.mark.parametrize(
    "text", [f"a: {nested(14)}", "a: &a {b: 1}\nc: {<<: *a, d: *a}", "a: '*b *c'", "a: *b", "[" * 5000]
)
def test_yaml_that_stays_small_is_read_as_it_is(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert read_yaml_text(tmp_path / "mine.yaml") == text


def test_a_name_of_a_preset_that_no_file_can_have_is_refused() -> None:
    line = refusal(lambda: compose([f"{'a' * 5000}=b"], folders=()), ConfigError)
    assert line.startswith("these settings cannot be composed: ") and "File name too long" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "it holds NaN"),
        ('{"a": 1, "a": 2}', "one name twice"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("[" * 200 + "]" * 200, "more than 100 levels"),
        ("[" * 100_000, "nested without end"),
        ("9" * 5000, "limit"),
    ],
)
def test_json_that_others_would_choke_on_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_json_as_deep_as_a_hundred_levels_is_read() -> None:
    assert parse_json("[" * 100 + "]" * 100)


def test_a_device_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "endless").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="it is no file"):
        read_file(tmp_path / "endless")
    (tmp_path / "large").write_bytes(bytes(2 << 20))
    with pytest.raises(OSError, match="more than 1 MiB"):
        read_file(tmp_path / "large", 1 << 20)


def test_what_an_error_quotes_is_one_printable_line_of_bounded_length() -> None:
    message = str(UserError("a\nb\x1b[2J\u202e" + "x" * 10_000 + " the mend"))
    assert message.isprintable()
    assert message.startswith("a⏎b␛[2J")
    assert message.endswith(" the mend")
    assert len(message) < 2000


def test_a_value_that_holds_itself_a_million_times_is_shown_shortly() -> None:
    value: Any = ["x"]
    for _ in range(40):
        value = [value, value]
    from tzd.config import TinyConfig
    from tzd.mapping import from_mapping

    line = refusal(lambda: from_mapping(TinyConfig, {"vocab_size": value}), ConfigError)
    assert line.startswith("vocab_size cannot be [[[") and len(line) < 1000


def test_weights_without_numbers_do_not_pass_for_any_size(folder: Path) -> None:
    from safetensors.numpy import save

    files = checkpoint_files()
    weights = save({"head.weight": np.zeros((0, 10**6), np.float32)})
    files = checked({**files, "model.safetensors": weights})
    for name in ("model.safetensors", "checksums.json"):
        (folder / name).write_bytes(files[name])
    assert "numbers are too few" in refusal(lambda: tzd.load(folder))
