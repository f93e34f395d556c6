"""Which sampler? What each one's text is worth, beside what it costs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tzd.diffusion.denoiser import Denoiser
from tzd.evaluation.diversity import Diversity, diversity
from tzd.evaluation.estimate import Estimate
from tzd.evaluation.infilling import default_span, infill_accuracy
from tzd.evaluation.judge import judged
from tzd.sampling import Sampler, parts, sampler, settings_of, stream

# What decides the cost of samplers that have no number of steps.
KNOBS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "first-hitting": ("temperature", (1.0,)),
    "uniform-order": ("k", (1, 2, 4, 8, 16)),
    "left-to-right": ("k", (1, 4)),
    "top-k": ("k", (1, 4, 16)),
    "threshold": ("confidence_threshold", (0.5, 0.7, 0.9)),
    "factor": ("factor", (0.5, 1.0, 2.0)),
    "entropy-bound": ("gamma", (0.0, 0.1, 0.3, 1.0, 3.0)),
}
BUDGETS = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Contender:
    """A sampler with its settings, as `tzd.sample` takes them.

    Attributes:
        sampler: its name.
        settings: what differs from its defaults.
        knob: the setting that decides its cost; none if empty.
    """

    sampler: str
    settings: dict[str, Any]
    knob: str = "steps"

    @property
    def label(self) -> str:
        """Its name and what was set."""
        return self._text(self.settings)

    @property
    def variant(self) -> str:
        """The same without what decides its cost."""
        return self._text({key: value for key, value in self.settings.items() if key != self.knob})

    def _text(self, settings: Mapping[str, Any]) -> str:
        return " ".join([self.sampler, *(f"{key}={value}" for key, value in settings.items())])


@dataclass(frozen=True)
class Point:
    """What a sampler's texts are worth and cost; or real text, which costs nothing.

    Attributes:
        contender: the sampler; None for real text.
        nfe: denoiser calls for a batch, in the mean.
        characters_per_second: of all samples together.
        judge: −log p by the judge, nats per character; None without a judge.
        diversity: see there.
        infill: share of a gap's tokens that is restored; None for real text, and where it was not measured.
    """

    contender: Contender | None
    nfe: float
    characters_per_second: float
    judge: Estimate | None
    diversity: Diversity
    infill: Estimate | None


@dataclass(frozen=True)
class Bench:
    """What all samplers are measured on.

    Attributes:
        denoiser: the model.
        decode: its tokens (L,) -> text.
        verdict: texts -> what a judge says of them; None without a judge.
        training: (M,) int, the text that the model was trained on; None where it is not known.
        held_out: (N, L) int, real text that neither has seen.
        samples: how many texts each sampler writes.
        batch_size: how many at a time.
        seed: of all draws.
        infill: whether gaps of the held-out text are to be filled.
    """

    denoiser: Denoiser
    decode: Callable[[np.ndarray], str]
    verdict: Callable[[Sequence[str]], Estimate] | None
    training: np.ndarray | None
    held_out: np.ndarray
    samples: int
    batch_size: int
    seed: int = 0
    infill: bool = True

    @property
    def length(self) -> int:
        """Tokens of a text."""
        return int(self.held_out.shape[1])

    def measure(self, contender: Contender) -> Point:
        """Has a sampler write, and measures it."""
        rules = sampler(contender.sampler, **contender.settings)
        rows, passes, seconds = [], [], 0.0
        for start in range(0, self.samples, self.batch_size):
            count = min(self.batch_size, self.samples - start)
            blank = np.full((count, self.length), self.denoiser.mask_id)
            began = time.perf_counter()
            (last,) = deque(stream(self.denoiser, blank, sampler=rules, seed=self.seed + start), maxlen=1)
            seconds += time.perf_counter() - began
            rows.append(last.tokens)
            passes.append(last.nfe)
        tokens = np.concatenate(rows)
        texts = [self.decode(row) for row in tokens]
        return Point(
            contender,
            nfe=float(np.mean(passes)),
            characters_per_second=sum(map(len, texts)) / seconds,
            judge=None if self.verdict is None else self.verdict(texts),
            diversity=diversity(tokens, self.training),
            infill=self._infill(rules) if self.infill else None,
        )

    def _infill(self, rules: Sampler) -> Estimate:
        span = default_span(self.length)
        return infill_accuracy(
            self.denoiser, self.held_out, sampler=rules, span=span, batch_size=self.batch_size, seed=self.seed
        )

    def real(self) -> Point:
        """Real text. What depends on the number of samples is measured on as many windows of the training text.

        Held-out text is too short for that where the corpus is small; nothing of the training text is "copied" from it.
        Where the training text is not known, held-out text has to do for all.
        """
        few = many = diversity(self.held_out, self.training)
        if self.training is not None:
            windows = len(self.training) // self.length
            chosen = np.linspace(0, windows - 1, min(self.samples, windows)).astype(int)
            many = diversity(self.training[: windows * self.length].reshape(windows, -1)[chosen])
        both = Diversity(few.unigram_entropy, few.repeated_within, many.repeated_across, many.distinct, few.copied)
        verdict = None if self.verdict is None else self.verdict([self.decode(row) for row in self.held_out])
        return Point(None, 0.0, 0.0, verdict, both, None)


def contenders(chosen: Sequence[tuple[str, dict[str, Any]]], budgets: Sequence[int] = BUDGETS) -> Iterator[Contender]:
    """Samplers, each at every budget: a number of steps, or what else decides its cost.

    Args:
        chosen: names and settings; one whose cost is set, or does not depend on its steps, is measured at that alone.
        budgets: numbers of steps.
    """
    for name, settings in chosen:
        composed = bool(parts().keys() & settings)
        if sampler(name, **settings).budget is not None:
            knob, values = "steps", tuple(budgets)
        elif composed or "steps" in settings_of(name):  # by a threshold, say
            yield Contender(name, settings, "")
            continue
        else:
            knob, values = KNOBS[name]
        for value in [settings[knob]] if knob in settings else values:
            yield Contender(name, {**settings, knob: value}, knob)


def to_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Points as plain data, each number with its standard error (`NAME_stderr`)."""
    return [_row(point) for point in points]


def _row(point: Point) -> dict[str, Any]:
    contender, varied = point.contender, point.diversity
    estimates: dict[str, Estimate | None] = {
        "judge_nats_per_char": point.judge,
        "unigram_entropy": varied.unigram_entropy,
        "repeated_within": varied.repeated_within,
        "repeated_across": varied.repeated_across,
        **{f"distinct_{n}": value for n, value in varied.distinct.items()},
        "copied": varied.copied,
        "infill_accuracy": point.infill,
    }
    numbers: dict[str, Any] = {}
    for name, estimate in estimates.items():
        numbers |= {name: None, f"{name}_stderr": None} if estimate is None else estimate.named(name)
    return {
        "sampler": "real text" if contender is None else contender.sampler,
        "settings": {} if contender is None else contender.settings,
        "label": "real text" if contender is None else contender.label,
        "variant": "real text" if contender is None else contender.variant,
        "nfe": point.nfe,
        "characters_per_second": point.characters_per_second,
        **numbers,
    }


def judge_of(judge: Denoiser, encode: Callable[[str], np.ndarray]) -> Callable[[Sequence[str]], Estimate]:
    """A verdict for `Bench`."""
    return lambda texts: judged(judge, texts, encode)
