"""The settings of a model and of a run: frozen dataclasses that check themselves.

Hydra's groups are generated from these classes, a checkpoint's `config.json` is read into them, and nothing heavy
is imported to do either. Every message names the setting as a user would write it (`model.n_head`).
"""

from tzd.config.architecture import Architecture
from tzd.config.data_settings import DataSettings, ObjectiveSettings, TokenizerSettings
from tzd.config.litgpt import LitgptConfig
from tzd.config.model import MODEL_CONFIGS, model_config
from tzd.config.model_settings import ModelSettings
from tzd.config.run import EngineSettings, LoggerSettings, RunConfig, run_config
from tzd.config.smdm import SmdmConfig
from tzd.config.tiny import TinyConfig
from tzd.config.training_settings import LR_SCHEDULES, TrainingSettings

__all__ = [
    "LR_SCHEDULES",
    "MODEL_CONFIGS",
    "Architecture",
    "DataSettings",
    "EngineSettings",
    "LitgptConfig",
    "LoggerSettings",
    "ModelSettings",
    "ObjectiveSettings",
    "RunConfig",
    "SmdmConfig",
    "TinyConfig",
    "TokenizerSettings",
    "TrainingSettings",
    "model_config",
    "run_config",
]
