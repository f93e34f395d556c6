"""Samplers as an argument names them: `ancestral,llada:temperature=0.8:block_len=32`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tzd.cli.writing import literal
from tzd.errors import UserError, nearest
from tzd.sampling import descriptions, parts, sampler, settings_of

Way = tuple[str, dict[str, Any]]


def parse_samplers(text: str, common: dict[str, Any] | None = None) -> list[Way]:
    """What `--samplers` says: names of samplers and their settings, each checked.

    Args:
        text: names with commas between them; settings follow a name, each behind a colon.
        common: settings that all of them share, unless theirs say otherwise.

    Raises:
        UserError: an unknown sampler, a setting that one of them does not have, or an impossible value.
    """
    ways, common = [_parse_way(item.strip()) for item in text.split(",")], common or {}
    for key in common:
        _check_all_have(key, common, ways)
    ways = [(name, {**common, **own}) for name, own in ways]
    for name, settings in ways:
        sampler(name, **settings)
    return ways


def _parse_way(item: str) -> Way:
    name, *pairs = item.split(":")
    if name not in descriptions():
        raise UserError(f"unknown sampler '{name}'{nearest(name, descriptions())}")
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key and value):
            raise UserError(f"'{pair}' in '{item}' is no setting: write NAME:KEY=VALUE:KEY=VALUE")
        settings[key.strip().replace("-", "_")] = literal(value.strip())
    return name, settings


def _check_all_have(key: str, common: dict[str, Any], ways: Sequence[Way]) -> None:
    """UserError unless all samplers have a setting; it says what to write instead."""

    def has(name: str, own: dict[str, Any]) -> bool:  # a combination of one's own has them all
        return key in settings_of(name) or bool(parts().keys() & {*own, *common})

    lacking = [name for name, own in ways if not has(name, own)]
    if not lacking:
        return
    mend = f"leave it out{nearest(key, settings_of(lacking[0]))}"
    if len(lacking) < len(ways):
        own_ones = [(name, {**({key: common[key]} if has(name, own) else {}), **own}) for name, own in ways]
        mend = f"write --samplers {','.join(_written(*way) for way in own_ones)}"
    raise UserError(f"sampler '{lacking[0]}' has no setting '{key}': {mend}")


def _written(name: str, settings: dict[str, Any]) -> str:
    """A sampler as `--samplers` has it."""
    return ":".join([name, *(f"{key}={value}" for key, value in settings.items())])
