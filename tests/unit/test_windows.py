"""Windows: valid, complete, and a pure function of seed and index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tzd.corpus import Windows, evaluation_windows
from tzd.errors import CorpusError

L = 7
LENGTHS = [n * L + extra for n in (1, 2, 3) for extra in (-1, 0, 1) if n * L + extra >= L]


def text(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint16)  # a token is its own place


@pytest.mark.parametrize("n", LENGTHS)
def test_every_window_is_a_run_of_the_text_and_every_token_comes_up(n: int) -> None:
    windows = Windows(text(n), L, seed=3)
    batch = windows.batch(0, 40 * windows.per_epoch).tokens
    assert batch.dtype == np.int32
    assert batch.shape == (40 * windows.per_epoch, L)
    np.testing.assert_array_equal(batch - batch[:, :1], np.tile(np.arange(L), (len(batch), 1)))
    assert set(batch[:, 0]) == set(range(n - L + 1))
    assert set(batch.ravel()) == set(range(n))


@pytest.mark.parametrize(("n", "per_epoch"), [(L, 1), (2 * L - 1, 1), (2 * L, 2), (3 * L - 1, 2), (3 * L, 3)])
def test_an_epoch_has_a_window_for_every_length_of_starts(n: int, per_epoch: int) -> None:
    assert Windows(text(n), L, seed=0).per_epoch == per_epoch


def test_an_epoch_spaces_its_starts_by_a_window_around_the_end() -> None:
    windows = Windows(text(10 * L + 3), L, seed=1)
    for epoch in range(5):
        starts = np.sort(windows.batch(epoch * windows.per_epoch, windows.per_epoch).tokens[:, 0])
        gaps = np.diff(np.append(starts, starts[0] + windows.starts))
        assert sorted(gaps)[1:] == [L] * (len(gaps) - 1)
        assert 0 < min(gaps) <= L


def test_all_starts_come_up_equally_often_and_in_no_fixed_order() -> None:
    windows = Windows(text(3 * L - 1), L, seed=2)  # S = 2 L: exactly two windows an epoch
    starts = windows.batch(0, 2 * 4000).tokens[:, 0]
    counts = np.bincount(starts, minlength=2 * L)
    assert ((counts - len(starts) / (2 * L)) ** 2 / (len(starts) / (2 * L))).sum() < 2 * 34.5  # chi-square, p = 0.001
    assert 0.45 < np.mean(starts[::2] < starts[1::2]) < 0.55


@given(n=st.integers(5, 60), length=st.integers(1, 5), seed=st.integers(0, 9), first=st.integers(0, 99), cut=st.data())
def test_a_batch_does_not_depend_on_how_it_is_asked_for(
    n: int, length: int, seed: int, first: int, cut: st.DataObject
) -> None:
    whole = Windows(text(n), length, seed).batch(first, 12).tokens
    at = cut.draw(st.integers(0, 12))
    again = Windows(text(n), length, seed)
    parts = [again.batch(first + at, 12 - at).tokens, again.batch(first, at).tokens]
    np.testing.assert_array_equal(np.concatenate(parts[::-1]), whole)


def test_other_seeds_and_epochs_have_another_order() -> None:
    windows = Windows(text(1000), 10, seed=0)
    first, second = windows.batch(0, 100).tokens, windows.batch(windows.per_epoch, 100).tokens
    assert (first != second).any()
    assert (first != Windows(text(1000), 10, seed=1).batch(0, 100).tokens).any()


def test_another_process_sees_the_same_windows() -> None:
    shown = "Windows(np.arange(99), 8, 5).batch(7, 9).tokens.tolist()"
    code = f"import numpy as np; from tzd.corpus import Windows; print({shown})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == str(Windows(np.arange(99), 8, 5).batch(7, 9).tokens.tolist())


def test_a_batch_comes_from_a_memory_mapped_array_just_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", text(500))
    mapped = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    batch = Windows(mapped, 16, seed=0).batch(0, 8).tokens
    assert type(batch) is np.ndarray
    np.testing.assert_array_equal(batch, Windows(text(500), 16, seed=0).batch(0, 8).tokens)


def test_a_text_shorter_than_a_window_names_both_numbers_and_the_mend() -> None:
    with pytest.raises(
        CorpusError,
        match=(
            r"the text has 6 tokens, fewer than one window of 7; set data\.block_size "
            "to 6 at most, or use a longer text"
        ),
    ):
        Windows(text(6), 7, seed=0)


# --- evaluation -------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 100), length=st.integers(1, 20))
def test_evaluation_counts_every_token_exactly_once_and_in_order(n: int, length: int) -> None:
    parts = evaluation_windows(text(n), length)
    np.testing.assert_array_equal(np.concatenate([part.ravel() for part in parts]), np.arange(n))
    assert [part.shape for part in parts] == [
        shape for shape in ((n // length, length), (1, n % length)) if 0 not in shape
    ]
    assert all(part.dtype == np.int32 for part in parts)


@given(n=st.integers(5, 200), limit=st.integers(1, 30))
def test_a_limit_takes_whole_windows_spread_evenly(n: int, limit: int) -> None:
    (windows,) = evaluation_windows(text(n), 5, limit)
    assert len(windows) == min(limit, n // 5)
    starts = windows[:, 0]
    assert (starts % 5 == 0).all()
    gaps = np.diff(starts) // 5
    assert len(set(starts)) == len(starts)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
    assert abs(int(starts[0]) - (n // 5 * 5 - 5 - int(starts[-1]))) <= 5  # the same room before and after


def test_a_limit_of_a_text_shorter_than_a_window_leaves_that_text() -> None:
    (tail,) = evaluation_windows(text(4), 5, limit=2)
    assert tail.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("tokens", "length"), [(text(0), 5), (text(8).reshape(2, 4), 2), (text(8), 0)])
def test_what_cannot_be_cut_is_refused(tokens: np.ndarray, length: int) -> None:
    with pytest.raises(CorpusError, match="window"):
        evaluation_windows(tokens, length)
    with pytest.raises(CorpusError, match="window"):
        Windows(tokens, length, seed=0)


def test_everything_of_a_text_may_be_masked() -> None:
    batch = Windows(text(500), 16, seed=0).batch(3, 8)
    assert batch.maskable.shape == batch.tokens.shape == (8, 16)
    assert batch.maskable.all()
