"""What a checkpoint folder is refused with, word by word."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tzd.checkpoint import RunFolder, check_weights, read_checkpoint, write_checkpoint
from tzd.checkpoint.layout import is_plain_name, sha256, signed, to_json
from tzd.checkpoint.read import as_float32, check_finite, check_sizes, mismatch
from tzd.config import TinyConfig
from tzd.errors import CheckpointError, UserError
from tzd.mapping import to_mapping

TINY = TinyConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=4, block_size=6)
AGAIN = "get the checkpoint again"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(weights=None, **sections):
    weights = {"w": np.zeros((2, 3), np.float32)} if weights is None else weights
    model = {"model": {"model_type": "tiny", **to_mapping(TINY)}, "provenance": {}}
    return write_checkpoint(Path("c"), config={**model, **sections}, weights=weights, training_state={"step": 1})


def put(name, data, listed=True):
    """Changes a file, and its checksum too."""
    (Path("c") / name).write_bytes(data)
    checksums = json.loads(Path("c/checksums.json").read_bytes())
    if listed:
        checksums[name] = hashlib.sha256(data).hexdigest()
    Path("c/checksums.json").write_text(json.dumps(checksums))


def refusal(path="c", kind=CheckpointError):
    with pytest.raises(kind) as error:
        read_checkpoint(path).training_state()
    return str(error.value)


def test_a_place_without_a_checkpoint_is_refused_in_these_words():
    assert refusal("no/where") == "there is no checkpoint at no/where: no such file or folder"
    Path("file").touch()
    assert refusal("file") == (
        "file is no tzd checkpoint: give its folder, the model.safetensors in it, or a file of weights (.npz, .pt,"
        " .pth, .safetensors)"
    )
    Path("empty").mkdir()
    assert refusal("empty") == (
        "empty holds no checkpoint: neither config.json (as a checkpoint does) nor a file 'best' or 'last' (as a run"
        " folder does)"
    )
    with pytest.raises(CheckpointError, match=r"^a{300} cannot be read: .*; get the checkpoint again$"):
        read_checkpoint("a" * 300)


def test_files_that_are_not_what_they_were_are_refused_in_these_words():
    written()
    put("tokenizer.json", b"{}", listed=False)
    assert refusal() == "c/tokenizer.json is not among the files that checksums.json lists: remove it"
    Path("c/tokenizer.json").unlink()
    damaged = "is damaged: its checksum is not the one in checksums.json; get the checkpoint again"
    for name in ("config.json", "model.safetensors", "training_state.json", "training_state.safetensors"):
        whole = Path("c", name).read_bytes()
        Path("c", name).write_bytes(whole + b" ")
        assert refusal() == f"c/{name} {damaged}"
        Path("c", name).unlink()
        assert refusal() == f"c/{name} is missing; {AGAIN}"
        Path("c", name).write_bytes(whole)
    Path("c/checksums.json").write_text('["a"]')
    assert refusal() == f"c/checksums.json is damaged: it is no JSON object; {AGAIN}"
    shutil.rmtree("c")
    written()
    checksums = json.loads(Path("c/checksums.json").read_bytes())
    Path("c/checksums.json").write_text(json.dumps({**checksums, "../a": "0"}))
    assert refusal() == "c/checksums.json names '../a', which is not a file of this folder"


def test_a_description_that_is_none_is_refused_in_these_words():
    written()
    known = json.loads(Path("c/config.json").read_bytes())
    for change, message in (
        ({"format": "x"}, "does not describe a tzd checkpoint; 'tzd convert' reads other formats"),
        ({"format_version": 0}, "does not describe a tzd checkpoint; 'tzd convert' reads other formats"),
        ({"format_version": 2}, "has format 2, and this version of tzd reads up to 1: upgrade tzd"),
        ({"provenance": 3}, f"is damaged: its section 'provenance' is none; {AGAIN}"),
        ({"provenance": {"run": []}}, f"is damaged: its section 'provenance' is none; {AGAIN}"),
    ):
        put("config.json", json.dumps({**known, **change}).encode())
        assert refusal() == f"c/config.json {message}"
    for run, where in (
        ({"engine": {"name": 3}}, "engine.name"),
        ({"data": {"path": []}}, "data.path"),
        ({"training": {"export_to": 1}}, "training.export_to"),
    ):
        put("config.json", json.dumps({**known, "provenance": {"run": run}}).encode())
        assert refusal() == f"c/config.json is damaged: provenance.run.{where} is no text; {AGAIN}"
    put("config.json", json.dumps({**known, "provenance": {"run": {"data": {"path": None, "name": "x"}}}}).encode())
    assert read_checkpoint("c").section("model")["n_embd"] == 4
    with pytest.raises(CheckpointError) as error:
        read_checkpoint("c").section("tokenizer")
    assert str(error.value) == "c/config.json has no section 'tokenizer'"
    assert (read_checkpoint("c").source, read_checkpoint("c/model.safetensors").folder) == (Path("c"), Path("c"))


def test_weights_that_no_model_can_have_are_refused_in_these_words():
    from safetensors.numpy import save

    written()
    put("model.safetensors", save({"w": np.zeros(2, np.int32)}))
    assert refusal() == "c/model.safetensors holds w as int32; weights are floating-point numbers"
    for value in (np.nan, np.inf):
        written({"a": np.zeros(2, np.float32), "w": np.array([0, value], np.float32)})
        with pytest.raises(CheckpointError) as error:
            check_finite(read_checkpoint("c"))
        assert str(error.value) == (
            "c holds numbers in w that are not finite (or not in float32): no model can compute with them; take an"
            " earlier checkpoint"
        )
    assert as_float32(np.array([1e300])).tolist() == [np.inf]


def test_a_network_that_the_weights_cannot_fill_is_refused_in_these_words():
    few = "c does not fit the model that is described beside it: {} numbers are too few"
    for weights, change, message in (
        ({"w": np.zeros((6, 4))}, {}, None),
        ({"w": np.zeros((6, 4))}, {"n_layer": 2}, few.format(24)),
        ({"w": np.zeros(23)}, {}, few.format(23)),
        ({"w": np.zeros(31)}, {"intermediate_size": 8}, few.format(31)),
        ({"w": np.zeros(32)}, {"intermediate_size": 8}, None),
        ({"w": np.zeros(24)}, {"block_size": 1 << 20}, None),
        (
            {"w": np.zeros(24)},
            {"block_size": (1 << 20) + 1},
            "c is too small a model for a window of 1048577 tokens, of which its description tells",
        ),
    ):
        model = {"model_type": "tiny", **to_mapping(TINY), **change}
        written({name: array.astype("f") for name, array in weights.items()}, model=model)
        if message is None:
            check_sizes(read_checkpoint("c"))
            continue
        with pytest.raises(CheckpointError) as error:
            check_sizes(read_checkpoint("c"))
        assert str(error.value) == message


def test_names_and_shapes_that_do_not_fit_are_listed_in_these_words():
    found = {"a": (1,), "b": (2,), "c": (3,)}
    assert mismatch(found, found) == ""
    assert mismatch(found, {}) == "3 unexpected (a, b, c)"
    assert mismatch({**found, "d": ()}, {}) == "4 unexpected (a, b, c, ...)"
    complaint = mismatch({"a": (1,)}, {**found, "a": (2, 1)})
    assert complaint == "2 missing (b, c); 1 of another shape (a (1,) instead of (2, 1))"
    with pytest.raises(CheckpointError) as error:
        check_weights({"a": np.zeros(1)}, {"a": (2,)}, Path("c"))
    assert str(error.value) == (
        "c does not fit the model that its config.json describes: 1 of another shape (a (1,) instead of (2,))"
    )


def test_what_a_file_says_has_one_digest_in_whatever_order_it_says_it(tmp_path):
    first, second = signed({"a": 1, "b": {"c": 2}}), signed({"sha256": "old", "b": {"c": 2}, "a": 1})
    assert first == second
    assert first["sha256"] == hashlib.sha256(b'{"a": 1, "b": {"c": 2}}').hexdigest()
    assert to_json({"a": "ä", "b": [1]}) == b'{\n  "a": "\\u00e4",\n  "b": [\n    1\n  ]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        to_json(float("nan"))
    assert [is_plain_name(name) for name in ("a", "a.b", "", ".", "..", "a/b", "/")] == [True] * 2 + [False] * 5
    Path("long").write_bytes(b"x" * ((1 << 20) + 1))
    assert sha256(Path("long")) == hashlib.sha256(b"x" * ((1 << 20) + 1)).hexdigest()


def test_a_folder_with_traces_of_a_run_alone_is_as_good_as_an_empty_one():
    run = RunFolder.at("run")
    (run.path / "wandb").mkdir()
    for name in ("lock", "metrics.csv", "samples.txt", ".last.12.tmp", "events.out.tfevents.0000000012.tzd"):
        (run.path / name).touch()
    assert RunFolder.at("run").is_blank()
    (run.path / "notes").touch()
    with pytest.raises(UserError) as error:
        RunFolder.at("run")
    assert str(error.value) == "run is not empty: name another folder for the run (training.run_folder)"
    write_checkpoint(run.checkpoint_path(7), config={}, weights={})
    with pytest.raises(UserError) as error:
        RunFolder.at("run")
    assert str(error.value) == (
        "run is not empty: name another folder for the run (training.run_folder), or go on with the run that it holds"
        " (training.resume=true)"
    )
    assert (run.checkpoint_path(7), run.steps()) == (Path("run/step-00000007"), [7])


def test_a_run_that_cannot_have_its_folder_is_refused_in_these_words():
    Path("file").touch()
    with pytest.raises(UserError) as error:
        RunFolder.at("file/run")
    assert str(error.value) == (
        "training.run_folder=file/run cannot hold a run: Not a directory (file/run); choose a folder that you"
        " may write to"
    )
    with pytest.raises(UserError) as error:
        RunFolder.create("file", "run")
    assert str(error.value) == (
        "training.save_dir=file cannot hold a run: Not a directory (file/run); choose a folder that you may write to"
    )
