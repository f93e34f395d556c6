"""What Hydra and OmegaConf have to say, in one line that names the setting and the mend."""

from __future__ import annotations

import dataclasses
import re
import typing

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from tzd.config import RunConfig
from tzd.errors import ConfigError, MissingExtraError, nearest
from tzd.sampling import descriptions, settings_of


def one_line(error: Exception) -> Exception:
    """What composing failed with, as a ConfigError of one line; what is no error of Hydra's comes back as it is."""
    if isinstance(error, OverrideParseException):
        return ConfigError(
            f"cannot read '{error.override}': a setting is KEY=VALUE; put a value with spaces, = or brackets in quotes"
        )
    if isinstance(error, MissingConfigException):
        return _missing(error)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return ConfigError(f"{mark.name}, line {mark.line + 1}: {error.problem or error.context}")
    if isinstance(error, YAMLError):
        return ConfigError(" ".join(str(error).split()))
    cause = next((e for e in (error, error.__cause__) if isinstance(e, OmegaConfBaseException)), None)
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and dataclasses.is_dataclass(cause.object_type):
        key, known = str(cause.full_key), [field.name for field in dataclasses.fields(cause.object_type)]
        return ConfigError(f"unknown setting '{key}'{nearest(key.rpartition('.')[2], known)}")
    unknown = re.match(r"(In '.*': )?Could not override '([^'@]*)(@[^']*)?'", str(error))
    if unknown:
        return _unknown(unknown[2], unknown[1] or "", placed=bool(unknown[3]))
    twice = re.match(r"Multiple values for (\w+)", str(error))
    if twice:
        return ConfigError(
            f"'{twice[1]}' is chosen already, at least as null: choose with {twice[1]}=PRESET, without +"
        )
    if isinstance(error, OmegaConfBaseException):
        where = f"{error.full_key}: " if error.full_key else ""
        return ConfigError(f"{where}{_first(error)}")
    if isinstance(error, HydraException):
        cause = error.__cause__
        return one_line(cause) if isinstance(cause, OmegaConfBaseException) else ConfigError(_first(error))
    return error


def _first(error: Exception) -> str:
    """The first line, and the second where the first only announces it."""
    first, _, rest = str(error).strip().partition("\n")
    return f"{first} {rest.split(chr(10))[0]}" if first.endswith(":") else first


def _missing(error: MissingConfigException) -> Exception:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if (group, name) == ("hydra/launcher", "joblib"):
        return MissingExtraError("hydra/launcher=joblib", "joblib")
    if not group:
        return ConfigError(f"there is no configuration '{name}' (--config-name) in configs/ or among tzd's own")
    return ConfigError(f"unknown {group}={name}{nearest(name, [o for o in error.options or () if o != 'base'])}")


def _unknown(key: str, where: str, *, placed: bool) -> ConfigError:
    """Names the setting nearest to `key` in its group, or the nearest group.

    Args:
        key: what could not be overridden.
        where: the file that tries to, with a colon, if one does.
        placed: whether it would go to a place of its own.
    """
    if placed:
        return ConfigError(
            f"{where}'{key}' is not found from here: the file begins with the line '# @package _global_'"
        )
    group, _, name = key.rpartition(".")
    groups = typing.get_type_hints(RunConfig)
    if not group:
        known = [*groups, "experiment", "hydra/launcher", "hydra/sweeper"]
    elif dataclasses.is_dataclass(groups.get(group)):
        known = [field.name for field in dataclasses.fields(groups[group])]
    elif group == "sampler":
        known = sorted({setting for sampler in descriptions() for setting in settings_of(sampler)})
    else:
        return ConfigError(f"{where}unknown setting '{key}' (tzd train --cfg job shows all)")
    if name in known:
        return ConfigError(
            f"{where}'{key}' cannot be given like this: choose a preset of it or set one of its settings"
        )
    return ConfigError(f"{where}unknown setting '{key}'{nearest(name, known)}")
