"""The page: what stands where, and which button starts which run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from tzd.api import Model
from tzd.sampling import DEFAULT, descriptions, settings_of
from tzd.sampling.patterns import NAMES, SMALLEST_SIDE
from tzd.web.asking import OWN
from tzd.web.limits import HOTTEST, LARGEST_SEED, Limits
from tzd.web.runs import Runs
from tzd.web.showing import status

OTHER = "ancestral"  # what the first choice is compared with, unless the visitor chooses
STEPS, LENGTH = 32, 256
COOL = 0.8  # temperature, where the model brings none: small models write better a little below 1
PROMPT = "What the text begins with,\nor a text with blanks:\nTo be, or ___ to be"
IDLE = status(["ready"], "idle")
STOPPED = """line => line.includes('tzd-status running')
  ? line.replace('running', 'over').replace(/<b>[^<]*/, '<b>stopped') : line"""


@dataclass(frozen=True)
class Form:
    """The settings of one tab, in the order in which runs take them."""

    samplers: tuple[gr.Dropdown, ...]
    steps: gr.Slider
    temperature: gr.Slider
    length: gr.Slider
    block: gr.Slider
    seed: gr.Number

    @property
    def inputs(self) -> list[Any]:
        """All of them."""
        return [*self.samplers, self.steps, self.temperature, self.length, self.block, self.seed]


def build(runs: Runs, title: str, line: str) -> gr.Blocks:
    """The page of a model.

    Args:
        runs: what the buttons start.
        title: of the window.
        line: what stands below the heading.
    """
    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.HTML(f'<div class="tzd-head"><h1>Tiny Zero Diffusion</h1><p>{escape(line)}</p></div>', padding=False)
        with gr.Tabs():
            with gr.Tab("Write", elem_classes="tzd-tab"):
                result = _write_tab(runs)
            with gr.Tab("Compare", elem_classes="tzd-tab"):
                _compare_tab(runs)
            with gr.Tab("Life", elem_classes="tzd-tab"):
                board = _life_tab(runs)
        result.change(
            None, result, board, js="text => text", api_visibility="private"
        )  # Life goes on with what is written
    return page.queue(api_open=False)  # `tzd.web.queue` is the queue; the library's own never begins


def waiting(outputs: Sequence[Any], before: int) -> tuple[Any, ...]:
    """What a run's outputs show while it waits and so many others will begin before it: a line, and what they did."""
    said = status([f"waiting: {before} before you" if before else "waiting: next"], "running")
    return tuple(said if _is_status(output) else {"__type__": "update"} for output in outputs)


def _is_status(output: Any) -> bool:
    return str(output.elem_id).endswith("-status")


def _write_tab(runs: Runs) -> gr.Textbox:
    """Returns what holds the finished text."""
    with gr.Row(elem_classes="tzd-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="tzd-asks"):
            text = _text(runs.limits)
            start, stop = _buttons("Write")
            form = _form(runs, "Sampler")
        with gr.Column(scale=3, min_width=320, elem_classes="tzd-shows"):
            stage = _stage("What the model writes appears here, blank by blank.")
            says = gr.HTML(IDLE, elem_id="write-status", padding=False)
            result = gr.Textbox(
                label="Finished text", lines=4, max_lines=14, interactive=False, buttons=["copy"],
                elem_id="write-result", elem_classes="tzd-text",
            )  # fmt: skip
            links = gr.HTML("", padding=False)
    _connect(start, stop, runs.write, [text, *form.inputs], [stage, says, result, links])
    return result


def _compare_tab(runs: Runs) -> None:
    with gr.Row(elem_classes="tzd-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="tzd-asks"):
            text = _text(runs.limits)
            start, stop = _buttons("Compare")
            form = _form(runs, "Sampler", "Against")
        with gr.Column(scale=3, min_width=320, elem_classes="tzd-shows"):
            with gr.Row():
                one = _stage("One sampler writes here,")
                other = _stage("another one here: the one that has called the model less often goes on next.")
            says = gr.HTML(IDLE, elem_id="compare-status", padding=False)
            links = gr.HTML("", padding=False)
    _connect(start, stop, runs.compare, [text, *form.inputs], [one, other, says, links])


def _life_tab(runs: Runs) -> gr.Textbox:
    """Returns what holds the board's text."""
    limits, largest = runs.limits, runs.largest_side
    with gr.Row(elem_classes="tzd-columns"):
        with gr.Column(scale=2, min_width=300, elem_classes="tzd-asks"):
            text = _text(limits, "What is on the board first.\nThe model writes it, if this is empty.")
            start, stop = _buttons("Play")
            with gr.Accordion("Settings", elem_classes="tzd-settings"):
                pattern = gr.Dropdown(
                    list(NAMES), value="text", label="Pattern", info="which cells live first", filterable=False
                )
                with gr.Row():
                    generations = _slider("Generations", 1, limits.generations, 40)
                    side = _slider("Side", SMALLEST_SIDE, largest, 32)
                with gr.Row():
                    steps = _slider("Steps each", 1, min(16, limits.steps), 3)
                    temperature = _temperature(COOL)
                with gr.Row():
                    seed = _seed()
                    reseed = gr.Checkbox(False, label="Begin anew when nothing moves", min_width=130)
        with gr.Column(scale=3, min_width=320, elem_classes="tzd-shows"):
            stage = _stage(
                "Conway’s Game of Life on a text. In each generation the living cells are erased, and the model writes "
                "them anew, with an eye on all others.",
                "tzd-stage tzd-board",
            )
            says = gr.HTML(IDLE, elem_id="life-status", padding=False)
            links = gr.HTML("", padding=False)
    inputs = [text, pattern, side, generations, steps, temperature, reseed, seed]
    _connect(start, stop, runs.life, inputs, [stage, says, links])
    return text


def _connect(start: gr.Button, stop: gr.Button, run: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
    """One button starts a run, the other one ends it."""
    says = next(filter(_is_status, outputs))
    # Values come as the browser sent them: `tzd.web.asking` checks them, and says what is wrong in words.
    running = start.click(run, inputs, outputs, api_visibility="private", show_progress="hidden")
    stop.click(None, says, says, js=STOPPED, cancels=[running], api_visibility="private")
    running.then(None, says, says, js=STOPPED, api_visibility="private")  # pictures that were on their way are here now


def _text(limits: Limits, hint: str = PROMPT) -> gr.Textbox:
    return gr.Textbox(
        label="Text", lines=4, max_lines=10, max_length=limits.length, elem_classes="tzd-text", placeholder=hint
    )


def _buttons(verb: str) -> tuple[gr.Button, gr.Button]:
    with gr.Row():
        start = gr.Button(verb, variant="primary", min_width=120, scale=2)
        stop = gr.Button("Stop", min_width=80, scale=1, elem_classes="tzd-stop")
    return start, stop


def _stage(hint: str, classes: str = "tzd-stage") -> gr.HTML:
    return gr.HTML(f'<div class="tzd-empty">{hint}</div>', elem_classes=classes.split(), padding=False, min_width=290)


def _slider(label: str, least: int, most: int, value: int) -> gr.Slider:
    return gr.Slider(least, most, min(value, most), step=1, label=label, min_width=130, buttons=[])


def _temperature(value: float) -> gr.Slider:
    return gr.Slider(0, HOTTEST, value, step=0.05, label="Temperature", min_width=130, buttons=[])


def _seed() -> gr.Number:
    return gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=130)


def _form(runs: Runs, *labels: str) -> Form:
    """What is chosen first is what suits the model; a second sampler is `OTHER`."""
    limits, (first, start, temperature) = runs.limits, _initial(runs.model)
    said = {name: _about(name) for name in descriptions()}
    if first == OWN:
        said = {OWN: _about_own(runs.model), **said}
    with gr.Accordion("Settings", elem_classes="tzd-settings"):
        chosen = tuple(_sampler(label, name, said) for label, name in zip(labels, (first, OTHER), strict=False))
        with gr.Row():
            steps = _slider("Steps", 1, limits.steps, start)
            warmth = _temperature(temperature)
        with gr.Row():
            length = _slider("Length", 1, limits.length, LENGTH)
            block = _slider("Block (0: none)", 0, limits.length, 0)
        seed = _seed()
    return Form(chosen, steps, warmth, length, block, seed)


def _initial(model: Model) -> tuple[str, int, float]:
    """The sampler, the steps and the temperature that a form begins with."""
    if model.sampling is None:
        return DEFAULT, STEPS, COOL
    name, brought = model.way(None, {})
    settings = {**settings_of(name), **brought}
    return OWN, settings.get("steps") or STEPS, min(settings["temperature"], HOTTEST)


def _sampler(label: str, name: str, abouts: dict[str, str]) -> gr.Dropdown:
    """A choice, and what is chosen in a line below it."""
    said = {sampler: f'<div class="tzd-about">{escape(about)}</div>' for sampler, about in abouts.items()}
    chosen = gr.Dropdown(list(said), value=name, label=label, filterable=False)
    line = gr.HTML(said[name], padding=False, elem_classes="tzd-line")
    chosen.change(None, chosen, line, js=f"name => ({json.dumps(said)})[name]", api_visibility="private")
    return chosen


def _about_own(model: Model) -> str:
    name, brought = model.way(None, {})
    rest = [f"{key} {value}" for key, value in brought.items() if key not in ("steps", "temperature")]
    return f"What suits this model best: {' · '.join([name, *rest])}."


def _about(sampler: str) -> str:
    settings = settings_of(sampler)
    counts = "" if "steps" in settings else " It counts no steps, and takes the passes that it needs."
    return f"{descriptions()[sampler]}.{counts}{'' if settings['temperature'] else ' Its own temperature is 0.'}"
