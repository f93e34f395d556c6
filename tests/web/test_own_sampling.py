"""A model that brings its own way of sampling writes so on the page, unless the visitor chooses another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Server, served, written

import tzd

pytest.importorskip("gradio")
pytestmark = pytest.mark.xdist_group("page")
OWN = {"name": "dilated", "order": "stripes", "steps": 5, "temperature": 0.4, "prior": 0.7}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page of a model that says how it is best sampled."""
    with served(written(tmp_path_factory.mktemp("own") / "model", sampling=OWN)) as server:
        yield server


def initial(server: Server) -> list[Any]:
    """What the tab Write begins with: text, sampler, steps, temperature, length, block, seed."""
    config = json.loads(server.request("/config")[1])
    values = {component["id"]: component["props"].get("value") for component in config["components"]}
    write = next(run for run in config["dependencies"] if run["id"] == server.runs[0])
    return [values[each] for each in write["inputs"]]


def test_a_page_begins_with_what_the_model_brings(own: Server, server: Server) -> None:
    assert initial(own)[1:] == ["the model's own", 5, 0.4, 256, 0, 0]
    assert initial(server)[1:] == ["dilated", 32, 0.8, 256, 0, 0]


def test_it_then_writes_what_the_library_writes(own: Server) -> None:
    model, settings = tzd.load(own.run, engine="torch", precision="auto"), initial(own)[1:]
    other = {"sampler": "ancestral", "steps": 5, "temperature": 0.4}
    for i, (asked, expected) in enumerate(
        (
            (["apple ", *settings], tzd.sample(model, prompt="apple ", length=256)),
            (["apple ____na", *settings], tzd.infill(model, "apple ____na")),
            (["apple ", "ancestral", *settings[1:]], tzd.sample(model, prompt="apple ", length=256, **other)),
        )
    ):
        assert own.ask(0, asked, f"own-{i}")["output"]["data"][2] == expected.text[0]
