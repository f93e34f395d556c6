"""The published samplers by name: each a combination, with its own paper's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tzd.errors import ConfigError, nearest
from tzd.mapping import from_mapping, require, to_mapping
from tzd.sampling.combination import Sampler, parts
from tzd.sampling.keep import READY
from tzd.sampling.remask import JOINT


@dataclass(frozen=True)
class Preset:
    """A sampler that has a name.

    Attributes:
        sampler: the combination, with the defaults.
        description: one line, with the source.
        settings: what can be set, beside `COMMON`.
    """

    sampler: Sampler
    description: str
    settings: tuple[str, ...] = ()


COMMON = (
    *("temperature", "last_temperature", "prior", "top_p", "top_k_tokens"),
    *("block_len", "overlap", "cfg_scale", "cache", "cache_refresh"),
)

GRID = ("steps", "schedule", "schedule_power")

DEFAULT = "dilated"  # why: docs/sampling.md, "Which one?"

PRESETS: dict[str, Preset] = {
    "dilated": Preset(
        Sampler(order="dilated", count="quota", steps=32),
        "the same number each step, as far apart as can be (DUS, Luxembourg et al., 2025); the default",
        ("steps",),
    ),
    "ancestral": Preset(
        Sampler(),
        "the reverse process on a grid of times (MDLM, MD4, SMDM's origin)",
        GRID,
    ),
    "first-hitting": Preset(
        Sampler(count="one"),
        "one random blank a pass: exact for time-free denoisers (Zheng et al., 2024)",
    ),
    "uniform-order": Preset(
        Sampler(count="fixed", k=1),
        "k random blanks a pass; with 1 the any-order autoregressive model (RADD)",
        ("k",),
    ),
    "left-to-right": Preset(
        Sampler(order="left-to-right", count="fixed", k=1),
        "k blanks a pass, as one reads",
        ("k",),
    ),
    "llada": Preset(
        Sampler(order="token-confidence", count="quota"),
        "the same number each step, most confident tokens first; or all above a threshold (LLaDA, Fast-dLLM)",
        ("steps", "confidence_threshold"),
    ),
    "llada-random": Preset(
        Sampler(count="quota"),
        "the same number each step, at random (LLaDA's random remasking)",
        ("steps",),
    ),
    "smdm-greedy": Preset(
        Sampler(order="token-confidence", count="floor"),
        "the expected number each step, most confident tokens first (SMDM's greedy)",
        ("steps",),
    ),
    "maskgit": Preset(
        Sampler(
            order="token-log-confidence",
            count="scheduled",
            schedule="sine",
            order_temperature=4.5,
            order_annealing=True,
        ),
        "few at first and more and more, most confident tokens first, with noise that dies away (MaskGIT)",
        (*GRID, "order_temperature", "order_annealing"),
    ),
    "dream-entropy": Preset(
        Sampler(order="entropy", count="floor", last_time=1e-3),
        "the expected number each step, lowest entropy first (Dream)",
        ("steps", "order_temperature"),
    ),
    "dream-margin": Preset(
        Sampler(order="margin", count="floor", last_time=1e-3),
        "the expected number each step, largest margin first (Dream's topk_margin; Kim et al., 2025)",
        ("steps", "order_temperature"),
    ),
    "top-k": Preset(
        Sampler(order="confidence", count="fixed", temperature=0.0),
        "the k most confident blanks a pass, likeliest tokens (Tiny Diffusion's topk)",
        ("k", "legacy"),
    ),
    "threshold": Preset(
        Sampler(order="confidence", count="threshold", temperature=0.0, confidence_threshold=0.9),
        "all blanks above a confidence, the best one at least, likeliest tokens (Tiny Diffusion's confidence)",
        ("confidence_threshold", "legacy"),
    ),
    "factor": Preset(
        Sampler(order="confidence", count="factor", temperature=0.0),
        "as many as are sure enough together, likeliest tokens (Fast-dLLM's factor)",
        ("factor",),
    ),
    "entropy-bound": Preset(
        Sampler(order="entropy", count="entropy-bound"),
        "as many as depend on each other by gamma nats at most; exact at gamma=0 (EB, Ben-Hamu et al., 2025)",
        ("gamma",),
    ),
    "klass": Preset(
        Sampler(order="confidence", count="klass", temperature=0.0, confidence_threshold=0.6),
        "all blanks that are sure and have stayed the same, else the same number each step (KLASS, Kim et al., 2025)",
        ("steps", "confidence_threshold", "kl_threshold", "kl_steps"),
    ),
    "renoise": Preset(
        Sampler(remask="renoise"),
        "everything written is masked anew at each time's rate (Tiny Diffusion's MLX port)",
        GRID,
    ),
    "remdm-cap": Preset(
        Sampler(remask="remdm-cap", top_p=0.9, eta=0.008),
        "ancestral, and written tokens are taken back at a rate of eta at most (ReMDM)",
        (*GRID, "eta"),
    ),
    "remdm-rescale": Preset(
        Sampler(remask="remdm-rescale", top_p=0.9, eta=0.015),
        "ancestral, and written tokens are taken back at eta times the largest rate there is (ReMDM)",
        (*GRID, "eta"),
    ),
    "remdm-conf": Preset(
        Sampler(remask="remdm-conf", top_p=0.9),
        "ancestral, and tokens that were written with little confidence are taken back (ReMDM)",
        GRID,
    ),
    "remdm-loop": Preset(
        Sampler(remask="remdm-loop", top_p=0.9, eta=0.02),
        "writes most of the text, improves it at constant noise, and ends (ReMDM)",
        ("steps", "eta", "t_on", "t_off", "alpha_on"),
    ),
    "p2": Preset(
        Sampler(remask=JOINT, order="token-log-confidence", count="scheduled", eta=1.0),
        "blanks and written tokens are ranked together, the lowest are blanks next (P2, Peng et al., 2025)",
        (*GRID, "eta"),
    ),
    "mdlm-semi-ar": Preset(
        Sampler(stride=0.5),
        "ancestral in windows that move on by a stride (MDLM's semi-autoregressive sampling)",
        (*GRID, "stride"),
    ),
}


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ConfigError(f"unknown sampler '{name}'{nearest(str(name), PRESETS)}")
    return PRESETS[name]


def sampler(name: str, **settings: Any) -> Sampler:
    """The sampler of that name.

    Args:
        name: a preset.
        settings: those of `settings_of(name)` that differ from their defaults; with `order`, `count` or `remask` among
            them, all of `Sampler`: a combination of one's own. `llada` with a
            `confidence_threshold` commits by it instead of by its quota, and then takes the passes that it needs.

    Raises:
        ConfigError: the sampler is unknown, has no such setting, or the value is impossible.
    """
    known = settings_of(name)
    if any(key in settings for key in parts()):  # composed by hand, with a preset to begin with
        known = to_mapping(_preset(name).sampler)
    for key in settings:
        require(key in known, f"sampler '{name}' has no setting '{key}'{nearest(key, known)}")
    values = to_mapping(_preset(name).sampler) | settings
    if settings.get("confidence_threshold") is not None and "count" not in settings and values["count"] not in READY:
        values["count"] = "threshold"
    return from_mapping(Sampler, values)


def settings_of(name: str) -> dict[str, Any]:
    """What can be set of a preset, and its defaults.

    Raises:
        ConfigError: the sampler is unknown.
    """
    preset = _preset(name)
    return {key: getattr(preset.sampler, key) for key in preset.settings + COMMON}


def all_settings() -> dict[str, Any]:
    """Every setting that a combination of one's own may have, and its default."""
    return to_mapping(Sampler())


def descriptions() -> dict[str, str]:
    """The presets' names, and one line on each."""
    return {name: preset.description for name, preset in PRESETS.items()}
