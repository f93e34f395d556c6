"""The comparisons with other systems compare what can be compared."""

from __future__ import annotations

import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import masked_head, smdm


def test_without_an_extra_its_measures_are_skipped_or_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    monkeypatch.setattr(command.smdm, "measure", lambda *args: pytest.fail("not to be measured"))
    for other in (command.masked_head, command.loop):
        monkeypatch.setattr(other, "measure", lambda *args: "figures")
        monkeypatch.setattr(other, "table", str)
    monkeypatch.setattr("sys.argv", ["benchmarks", "loop", "smdm"])
    with pytest.raises(SystemExit):
        command.main()
    assert "smdm needs the extra 'litgpt': uv sync --extra litgpt" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["benchmarks"])
    command.main()
    out = capsys.readouterr().out
    assert "skipped: litgpt, smdm needs the extra 'litgpt'" in out and "figures" in out


def test_the_masked_head_is_compared_with_the_head_at_all_positions() -> None:
    turns = {"plain": (4.0, 8.0), "all": (4.0, 4.0), "masked": (2.0, 2.0)}
    said = {
        name: [{"ready_mib": 9.0}, *({"seconds": seconds} for seconds in turns[kind]), {"peak_mib": 10.0}]
        for name, kind in masked_head.CONTENDERS.items()
    }
    result = masked_head.summary(said, steps=2)
    assert [row["ratio"] for row in result.values()] == [1.0, 1.5, 3.0]
    assert [row["seconds_per_step"] for row in result.values()] == [3.0, 2.0, 1.0]


def test_smdm_is_compared_with_litgpt_kind_by_kind() -> None:
    kinds = ["float32, training", "float32, forward", "bfloat16, training", "bfloat16, forward"]
    said = {
        "litgpt": [{}, dict.fromkeys(kinds, 6.0), {}],
        "smdm": [{}, dict(zip(kinds, [6, 3, 2, 1], strict=True)), {}],
    }
    result = smdm.summary(said, passes=3)
    assert list(result) == kinds
    assert [row["ratio"] for row in result.values()] == [1, 2, 3, 6]
    assert result[kinds[1]]["litgpt"] == 2.0 and result[kinds[1]]["smdm"] == 1.0


def test_smdm_and_litgpts_gpt_have_the_same_parameters_but_the_row_of_the_mask() -> None:
    pytest.importorskip("litgpt")
    from benchmarks.smdm_pass import network

    with torch.device("meta"):
        theirs, ours = (sum(p.numel() for p in network(n, "Diff_LLaMA_6M").parameters()) for n in ("litgpt", "smdm"))
    assert ours == theirs + 256
