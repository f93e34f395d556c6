"""A dataset that is trained on as it comes: the same windows, however they are asked for."""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runs
from tzd.config import DataSettings
from tzd.corpus.packing import Packer
from tzd.corpus.stream import StreamedWindows, open_stream
from tzd.corpus.tokenizers.byte import KIND
from tzd.errors import ConfigError, CorpusError, MissingExtraError
from tzd.training.task import Task, make_task

pytest.importorskip("datasets")

TEXTS = [f"<{i}> " + "abc " * (i % 9) for i in range(90)]
L = 24


@pytest.fixture(autouse=True)
def _library_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def lines(path: Path, texts: list[str] = TEXTS, column: str = "text") -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))
    return str(path)


def task_of(folder: Path, dataset: str, **changes: Any) -> Task:
    given = {"data.name": "stream", "data.dataset": dataset, "tokenizer.name": "byte", "data.held_out_documents": 7}
    return make_task(runs.config_in(folder, {**given, "data.path": None, "data.shuffle_buffer": 20, **changes}))


def documents(tokens: np.ndarray) -> list[str]:
    return KIND.make(None, None).decode(tokens.ravel()).split("\n")[1:-1]  # type: ignore[arg-type]


def test_windows_do_not_depend_on_how_they_are_asked_for(tmp_path: Path) -> None:
    dataset = lines(tmp_path / "a.jsonl")
    windows = task_of(tmp_path, dataset).data.examples
    expected = windows.batch(0, 200)
    assert expected.tokens.shape == (200, L) and expected.tokens.dtype == np.int32 and expected.maskable.all()
    again = task_of(tmp_path, dataset).data.examples
    for first, count in ((60, 10), (70, 5), (3, 8), (3, 8), (150, 50)):
        np.testing.assert_array_equal(again.batch(first, count).tokens, expected.tokens[first : first + count])
    copy = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(copy.batch(9, 4).tokens, expected.tokens[9:13])


def test_a_stream_goes_round_in_another_order_and_holds_its_first_documents_out(tmp_path: Path) -> None:
    dataset = lines(tmp_path / "a.jsonl")
    data = task_of(tmp_path, dataset).data
    for split, held_out in (("validation", TEXTS[:7]), ("test", TEXTS[7:14])):
        windows = getattr(data, split)
        text = "".join(data.tokenizer.decode(group.ravel()) for group in windows)
        whole = "".join(f"{t}\n" for t in held_out)
        assert text == whole[: len(text)] and len(text) > len(whole) - L
    size = sum(len(text) + 1 for text in TEXTS[14:])
    seen = documents(data.examples.batch(0, 2 * size // L + 2).tokens)
    first, second = seen[: len(TEXTS) - 15], seen[len(TEXTS) - 14 : 2 * len(TEXTS) - 29]
    assert set(first) < set(TEXTS[14:]) and set(second) < set(TEXTS[14:])
    assert len(set(first)) == len(first) and len(set(second)) == len(second)
    assert first != second[: len(first)] and first != TEXTS[15:]
    plain = task_of(tmp_path, dataset, **{"data.shuffle_buffer": 0}).data
    assert documents(plain.examples.batch(0, 20).tokens)[:9] == TEXTS[15:24]


def test_a_dataset_brings_its_own_splits(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    lines(folder / "train.jsonl")
    lines(folder / "validation.jsonl", [f"held out {i} of many" for i in range(20)])
    data = task_of(tmp_path, str(folder)).data
    assert documents(data.validation[0])[:3] == ["held out 1 of many", "held out 2 of many", "held out 3 of many"]
    held_out = set(documents(np.concatenate([group.ravel() for group in data.test])))
    assert held_out <= set(TEXTS[:7])
    assert not held_out & set(documents(data.examples.batch(0, 40).tokens))


def test_training_resumes_a_stream_where_it_stopped(tmp_path: Path) -> None:
    dataset = lines(tmp_path / "a.jsonl")
    given = {"data.name": "stream", "data.dataset": dataset, "data.path": None, "tokenizer.name": "byte"}
    given |= {"data.held_out_documents": 7, "data.shuffle_buffer": 20, "training.lr_schedule": "constant"}
    given |= {"training.eval_interval": 6}
    whole = runs.train(tmp_path / "whole", given)
    runs.train(tmp_path / "part", {**given, "training.max_steps": 3})
    runs.assert_same_weights(runs.train(tmp_path / "part", {**given, "training.resume": True}), whole)


@pytest.mark.parametrize("held_out", [10, 20, 25])
def test_no_document_is_trained_on_that_is_held_out(held_out: int, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet", row_group_size=10)
    stream = open_stream(DataSettings(dataset=str(tmp_path / "a.parquet"), held_out_documents=held_out), 0)
    parts = [sorted(piece.text for piece in stream.pieces(split)) for split in ("validation", "test", "train")]
    cuts = (0, held_out, 2 * held_out, len(TEXTS))
    assert parts == [sorted(TEXTS[a:b]) for a, b in itertools.pairwise(cuts)]


def test_an_epoch_of_a_stream_is_its_run(tmp_path: Path) -> None:
    dataset = lines(tmp_path / "a.jsonl")
    task = task_of(tmp_path, dataset, **{"training.eval_interval": None, "training.val_check_interval": 0.5})
    assert (task.total_steps, task.steps_per_epoch, task.eval_interval) == (6, 6, 3)
    assert task.data.characters_per_token == 1.0


def test_another_stream_has_another_hash(tmp_path: Path) -> None:
    ours = task_of(tmp_path, lines(tmp_path / "a.jsonl")).data.sha256
    assert ours == task_of(tmp_path, lines(tmp_path / "b.jsonl")).data.sha256
    assert ours != task_of(tmp_path, lines(tmp_path / "c.jsonl", TEXTS[1:])).data.sha256


def test_bpe_is_trained_on_the_beginning_of_what_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tzd.corpus.stream.SAMPLE", 400)
    settings = DataSettings(dataset=lines(tmp_path / "a.jsonl"), held_out_documents=7, shuffle_buffer=0)
    sample = list(open_stream(settings, 0).training_texts())
    assert sample == TEXTS[14 : 14 + len(sample)] and 400 <= sum(map(len, sample)) < 450


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (
            {"data.dataset": None},
            ConfigError,
            (r"data=stream needs data\.dataset: a name on the hub, a " "folder, or a file"),
        ),
        (
            {"training.max_steps": None},
            ConfigError,
            ("nobody knows the length of a stream: set " r"training\.max_steps, which is its epoch"),
        ),
        ({"data.num_workers": 2}, ConfigError, "set data.num_workers to 1 or 0"),
        (
            {"tokenizer.name": "char"},
            ConfigError,
            (
                "tokenizer=char needs to know every character "
                "beforehand, and a stream does not: use "
                r"tokenizer=byte, or build shards \(tzd corpus "
                r"build\)"
            ),
        ),
        (
            {"data.column": "body"},
            CorpusError,
            ("document 1 of validation has no text under 'body' " r"\(it has: text\); name it by data\.column"),
        ),
        ({"data.held_out_documents": 80}, CorpusError, "no document left|no document for test|hold out fewer"),
        ({"data.dataset": "none/such.jsonl"}, CorpusError, "cannot be had"),
    ],
)
def test_what_cannot_be_streamed_is_one_line(
    changes: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said) as raised:
        task_of(tmp_path, lines(tmp_path / "a.jsonl"), **changes).data.examples.batch(0, 1)
    assert "\n" not in str(raised.value)


def test_a_stream_that_ends_at_once_is_an_error(tmp_path: Path) -> None:
    settings = DataSettings(dataset=lines(tmp_path / "a.jsonl"), held_out_documents=45)
    windows = StreamedWindows(open_stream(settings, 0), Packer(KIND.make(None, None)), L, 1)  # type: ignore[arg-type]
    with pytest.raises(
        CorpusError, match=("has no document left to train on; hold out fewer " r"\(data\.held_out_documents\)")
    ):
        windows.batch(0, 1)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        MissingExtraError,
        match=(
            r"data\.dataset=.+ needs the extra 'datasets': uv "
            r"sync --extra datasets \(or pip install "
            r"'tinyzero-diffusion\[datasets\]'\)"
        ),
    ):
        task_of(tmp_path, lines(tmp_path / "a.jsonl"))


def test_a_stream_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from tzd.config import DataSettings; from tzd.corpus.stream import open_stream;"
        f"s = open_stream(DataSettings(dataset={lines(tmp_path / 'a.jsonl')!r}, held_out_documents=3), 0);"
        "print(len(list(s.pieces('train'))), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.split() == [str(len(TEXTS) - 6), "False"]
