"""What a checkpoint that is passed on says of its training, and what not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tzd
from networks import CONFIG, checkpoint
from tzd.api.converting import _is_place
from tzd.checkpoint import read_checkpoint, write_checkpoint
from tzd.cli.measuring import text_of
from tzd.errors import UserError


@pytest.mark.parametrize("name", ["passed-on", "passed-on.npz"])
def test_what_is_passed_on_names_no_place_of_the_machine_that_trained_it(name: str, tmp_path: Path) -> None:
    read = read_checkpoint(checkpoint(tmp_path / "made", replace(CONFIG, vocab_size=128, mask_id=128)))
    here = str(tmp_path / "secret")
    run: dict[str, Any] = {
        "training": {"save_dir": "secret", "run_folder": here, "resume": here, "init_from": here, "max_steps": 3},
        "data": {"name": "text", "path": f"a.txt, {here}", "data_dir": here, "subset": None},
        "tokenizer": {"name": "hf", "pretrained_model_name_or_path": here},
        "model": {"pretrained_model_name": "owner/name", "checkpoint_dir": "~/secret"},
        "seed": 7,
    }
    said = {**read.config, "diffusion": {"context_len": 0}, "provenance": {"corpus": "text", "step": 3, "run": run}}
    write_checkpoint(tmp_path / "trained", config=said, weights=read.weights)
    written = tzd.convert(tmp_path / "trained", tmp_path / name)
    passed_on = (written.with_suffix(".json") if written.suffix else written / "config.json").read_text()
    assert "secret" not in passed_on and str(tmp_path) not in passed_on
    kept = {
        "training": {"max_steps": 3},
        "data": {"name": "text", "subset": None},
        "tokenizer": {"name": "hf"},
        "model": {"pretrained_model_name": "owner/name"},
        "seed": 7,
    }
    assert json.loads(passed_on)["provenance"] == {"corpus": "text", "step": 3, "run": kept}


def test_a_name_of_the_hub_and_a_path_beside_the_reader_are_no_place_of_a_machine() -> None:
    places = ["/a", "~", "~/a", "../a", "a/../../b", "C:\\a", "c:/a", "\\\\host\\a", "a.txt,/b", "a.txt, ~b"]
    assert all(map(_is_place, places))
    assert not any(
        map(_is_place, ["", "owner/name", "data/a.txt", "a.txt,b.txt", "hf:owner/name", "a..b", True, 3, None])
    )


def test_a_model_whose_text_lay_on_another_machine_asks_for_one() -> None:
    model: Any = SimpleNamespace(provenance={"run": {"data": {"name": "text"}}})
    with pytest.raises(UserError, match=r"^nothing says which text the model was trained on: name the corpus"):
        text_of(model, None)
