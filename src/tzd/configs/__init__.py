"""A run's configuration, composed by Hydra from groups of settings.

The defaults of every group are generated from the dataclasses of `tzd.config` and from the samplers' own settings; the
YAML files beside this module hold presets that build on them. A folder `configs/` in the working directory is searched
before them.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from tzd.config import MODEL_CONFIGS, RunConfig, run_config
from tzd.config.smdm import SIZES
from tzd.configs import arithmetic
from tzd.configs.messages import one_line
from tzd.errors import ConfigError, TzdError
from tzd.mapping import to_mapping
from tzd.sampling import descriptions, sampler, settings_of
from tzd.untrusted import read_yaml_text

GROUPS = ("model", "data", "tokenizer", "objective", "training", "engine", "logger")
NAMING = ("config_name", "pretrained_model_name", "checkpoint_dir")  # of model: what says an architecture as a whole
LOCAL = Path("configs")  # searched first, where the working directory has it


class _SearchPath(SearchPathPlugin):
    """Puts the user's folders before the package's."""

    folders: ClassVar[Sequence[Path]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.prepend("user", f"file://{folder.resolve()}", anchor="main")


def compose(
    overrides: Sequence[str] = (), *, config_name: str = "config", folders: Sequence[Path] = (LOCAL,)
) -> RunConfig:
    """The run that a list of overrides describes.

    Args:
        overrides: Hydra's: "model=tiny", "model.n_layer=6", "experiment=demo".
        config_name: the primary configuration, a YAML file without its ending.
        folders: searched before the package's own presets, in this order; those that are missing are passed over.

    Raises:
        ConfigError: an unknown group, option or setting, or a value that cannot be used.
    """
    for override in overrides:
        if override.lstrip("+~").startswith(("hydra.", "hydra/")):
            raise ConfigError(f"{override}: Hydra's own settings are for sweeps: add --multirun, or leave it out")
    with _composer(folders):
        config, hydra = _compose(overrides, config_name)
        return _checked(config, hydra)


def as_yaml(overrides: Sequence[str], *, config_name: str = "config", folders: Sequence[Path] = (LOCAL,)) -> str:
    """What `compose` reads, as YAML before interpolations are resolved."""
    with _composer(folders):
        return OmegaConf.to_yaml(_compose(overrides, config_name)[0])


@dataclass(frozen=True)
class _Job:
    """One run of a sweep, as a launcher calls it, in this process or another."""

    job: Callable[[RunConfig], Any]

    def __call__(self, config: DictConfig) -> Any:
        arithmetic.register()  # another process knows nothing of it yet
        return self.job(_checked(config, HydraConfig.get()))


def sweep(
    overrides: Sequence[str],
    job: Callable[[RunConfig], Any],
    *,
    config_name: str = "config",
    folders: Sequence[Path] = (LOCAL,),
) -> None:
    """Runs `job` on every combination of comma-separated overrides, with Hydra's sweeper and launcher.

    Args:
        overrides: as of `compose`, and settings of Hydra's own ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2").
        job: what is run; other processes get a pickled copy of it.
        config_name: as of `compose`.
        folders: as of `compose`.

    Raises:
        MissingExtraError: the launcher is not installed.
        ConfigError: as `compose`; and what a job raises, after the jobs of its batch.
    """
    with _composer(folders):
        GlobalHydra.instance().hydra.multirun(config_name, _Job(job), [*overrides, "hydra.mode=MULTIRUN"])


def options(folders: Sequence[Path] = (LOCAL,)) -> dict[str, list[str]]:
    """Every group, and what can be chosen in it."""
    with _composer(folders):
        loader = GlobalHydra.instance().config_loader()
        return {
            group: [name for name in loader.get_group_options(group, ObjectType.CONFIG) if name != "base"]
            for group in (*GROUPS, "sampler", "experiment")
        }


def _compose(overrides: Sequence[str], config_name: str) -> tuple[DictConfig, DictConfig]:
    """The run's configuration, and Hydra's own."""
    for group, _, value in (override.partition("=") for override in overrides):
        if group in GROUPS and value.startswith("["):  # Hydra would take them all, and the last would undo the others
            several = "; for several loggers set logger.kind" if group == "logger" else ""
            raise ConfigError(f"{group}={value}: {group} takes one preset{several}")
    try:
        config = hydra_compose(config_name, list(overrides), return_hydra_config=True)
        return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]), config.hydra
    except HydraException:  # some of which are OSErrors too; `one_line` says them
        raise
    except (ValueError, TypeError, AssertionError, OSError) as error:  # what Hydra has no error of its own for
        raise ConfigError(f"these settings cannot be composed: {error}") from error


def _checked(config: DictConfig, hydra: DictConfig) -> RunConfig:
    values = typing.cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    values["model"] = _without_foreign(values.get("model"), hydra)
    run = run_config(values)
    settings = dict(run.sampler)
    sampler(settings.pop("name", None), **settings)  # says now what it would say at the first validation
    return run


def _without_foreign(model: Any, hydra: DictConfig) -> Any:
    """The group `model` without what its preset says of an architecture that is not the chosen one.

    So `model.model_type` alone switches the architecture, and where LitGPT's registry or given weights say the
    architecture, the shape of another model type's preset is left out too. What was set beside the preset stays, and
    is refused if the model type has no such setting.
    """
    preset = hydra.runtime.choices.get("model")
    chosen = model.get("model_type") if isinstance(model, dict) else None
    if preset is None or chosen not in MODEL_CONFIGS:
        return model
    has = {name: {field.name for field in fields(typing.cast(Any, cls))} for name, cls in MODEL_CONFIGS.items()}
    has["litgpt"] |= {*NAMING, "litgpt"}
    named = chosen == "litgpt" and any(model.get(key) for key in NAMING)
    kept = {"block_size", *NAMING} if named else has[chosen]
    beside = {override.partition("=")[0].lstrip("+").removeprefix("model.") for override in hydra.overrides.task}
    unset = to_mapping(RunConfig().model)
    foreign = {key for key in set().union(*has.values()) - kept - beside if model.get(key) != unset.get(key)}
    if not foreign:  # as nearly always; composing once more takes as long again
        return model
    ours = OmegaConf.to_container(hydra_compose(f"model/{preset}").model, resolve=False)
    if chosen == ours.get("model_type"):
        return model
    return {key: value for key, value in model.items() if key not in foreign or value != ours.get(key)}


@contextmanager
def _composer(folders: Sequence[Path]) -> Iterator[None]:
    """Hydra, ready to compose; its errors become one line, and another application's Hydra is left as it was."""
    _register()
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    _SearchPath.folders = [folder for folder in folders if folder.is_dir()]
    for folder in _SearchPath.folders:
        _check_references(folder)
    try:
        with initialize_config_module("tzd.configs", job_name="tzd", version_base="1.3"):
            yield
    except TzdError:
        raise
    except Exception as error:
        raise one_line(error) from error
    finally:
        _SearchPath.folders = ()
        GlobalHydra.instance().hydra = outer


def _check_references(folder: Path) -> None:
    """ConfigError for a YAML file that refers to its own parts again and again: a few lines of that fill any memory."""
    for file in folder.rglob("*.yaml"):
        try:
            read_yaml_text(file)
        except UnicodeDecodeError:
            continue  # it is told where it is chosen; the others are well
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _register() -> None:
    """Generates each group's `base`, the samplers, SMDM's sizes, and the settings that belong to no group."""
    arithmetic.register()
    if _SearchPath not in Plugins.instance().discover(SearchPathPlugin):
        Plugins.instance().register(_SearchPath)
    store = ConfigStore.instance()
    if "base.yaml" in store.repo:
        return
    defaults = to_mapping(RunConfig())
    defaults["model"]["block_size"] = "${data.block_size}"  # one key sets both
    for group in GROUPS:
        store.store(group=group, name="base", node=defaults.pop(group))
    defaults.pop("sampler")
    store.store(name="base", node=defaults)
    for name in descriptions():
        store.store(group="sampler", name=name, node={"name": name, **settings_of(name)})
    for name, size in SIZES.items():
        node = {"defaults": ["base", "_self_"], "name": name, "model_type": "smdm", **to_mapping(size)}
        store.store(group="model", name=name, node=node)
