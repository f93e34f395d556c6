"""Learning rates, the decay of the average, and metrics as they are read back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tzd.config import TrainingSettings
from tzd.errors import ConfigError, UserError
from tzd.training.ema import ema_decay_at
from tzd.training.records import COLUMNS, read_metrics, read_rows
from tzd.training.schedules import LR_SCHEDULES, learning_rate


def rates(total: int, warmup: int, kind: str, min_ratio: float = 0.1) -> list[float]:
    return [learning_rate(s, total=total, warmup=warmup, kind=kind, min_ratio=min_ratio) for s in range(total)]


def test_the_schedules_have_the_values_worked_out_by_hand() -> None:
    assert rates(7, 2, "constant") == [0.5, 1, 1, 1, 1, 1, 1]
    assert rates(7, 3, "linear", 0.2) == pytest.approx([1 / 3, 2 / 3, 1, 0.8, 0.6, 0.4, 0.2])
    half = math.sqrt(0.5) / 2
    assert rates(7, 3, "cosine", 0.0) == pytest.approx([1 / 3, 2 / 3, 1, 0.5 + half, 0.5, 0.5 - half, 0])
    assert rates(3, 0, "cosine") == pytest.approx([1, 0.55, 0.1])


SCHEDULE = st.tuples(
    st.integers(1, 60), st.integers(0, 80), st.sampled_from(LR_SCHEDULES), st.floats(0, 1, allow_subnormal=False)
)


@given(SCHEDULE)
def test_every_schedule_rises_from_the_first_step_to_its_peak_and_never_again(schedule) -> None:
    total, warmup, kind, min_ratio = schedule
    values = rates(total, warmup, kind, min_ratio)
    peak = min(max(warmup - 1, 0), total - 1)
    assert all(0 < value <= 1 for value in values[: peak + 1])
    assert np.all(np.diff(values[: peak + 1]) > 0)
    assert np.all(np.diff(values[peak:]) <= 1e-15)
    if warmup <= total:
        assert values[peak] == pytest.approx(1)
    if kind != "constant" and peak < total - 1:
        assert values[-1] == pytest.approx(min_ratio, abs=1e-15)


def test_a_warmup_longer_than_the_run_is_cut_off() -> None:
    assert rates(2, 4, "cosine") == [0.25, 0.5]


def test_a_run_of_one_step_moves_at_the_peak() -> None:
    for kind in LR_SCHEDULES:
        assert rates(1, 0, kind) == rates(1, 1, kind) == [1]


def test_the_learning_rate_stays_down_after_the_last_step() -> None:
    assert learning_rate(99, total=7, warmup=2, kind="linear", min_ratio=0.1) == pytest.approx(0.1)


def test_an_unknown_schedule_is_named_and_the_config_knows_the_same_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown training.lr_schedule 'cosin' \(did you mean 'cosine'\?\)"):
        rates(3, 0, "cosin")
    for kind in LR_SCHEDULES:
        assert TrainingSettings(lr_schedule=kind).lr_schedule == kind


def test_the_average_follows_the_weights_at_first_and_keeps_them_later() -> None:
    assert [ema_decay_at(step, 0.999) for step in (0, 1, 90)] == [0.1, 2 / 11, 0.91]
    assert ema_decay_at(10**6, 0.999) == 0.999
    assert ema_decay_at(10**6, 0.0) == 0.0


def metrics(folder: Path, text: str) -> Path:
    (folder / "metrics.csv").write_bytes(text.encode())
    return folder


def test_metrics_are_columns_of_numbers_with_nan_where_a_cell_is_empty(tmp_path: Path) -> None:
    read = read_metrics(metrics(tmp_path, "step,loss,val_stderr\n10,1.5,\n20,nan,0.25\n"))
    assert read.keys() == COLUMNS.keys()
    np.testing.assert_array_equal(read["step"], [10, 20])
    np.testing.assert_array_equal(read["loss"], [1.5, np.nan])
    np.testing.assert_array_equal(read["val_stderr"], [np.nan, 0.25])
    np.testing.assert_array_equal(read["lr"], [np.nan, np.nan])


@pytest.mark.parametrize("torn", ["2", "20,", "20,1.25", "\0\0\0"])
def test_a_torn_last_line_is_dropped_even_where_it_looks_whole(torn: str, tmp_path: Path) -> None:
    read = read_metrics(metrics(tmp_path, f"step,loss\n10,1.5\n{torn}"))
    np.testing.assert_array_equal(read["step"], [10])


@pytest.mark.parametrize("text", ["", "ste", "step,loss\n"])
def test_metrics_without_rows_are_empty_columns(text: str, tmp_path: Path) -> None:
    assert {column.shape for column in read_metrics(metrics(tmp_path, text)).values()} == {(0,)}


@pytest.mark.parametrize("row", ["x,1", "10", "10,1,2", ",1", "-1,1", "1.5,1"])
def test_a_damaged_row_is_named_by_its_line(row: str, tmp_path: Path) -> None:
    metrics(tmp_path, f"step,loss\n10,1.5\n{row}\n30,1.0\n")
    with pytest.raises(UserError, match=r"metrics.csv, line 3 is no row of metrics: remove the line"):
        read_metrics(tmp_path)


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds a cell that is no number: .*'much'"):
        read_metrics(metrics(tmp_path, "step,loss\n10,much\n"))


def test_a_folder_without_metrics_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^cannot read .*: No such file or directory; give a run folder"):
        read_metrics(tmp_path)


def test_a_file_that_is_not_ours_is_no_stack_trace(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(UserError, match=r"metrics.csv, line"):
        read_rows(tmp_path / "metrics.csv")
