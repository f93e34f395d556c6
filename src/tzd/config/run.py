"""The settings of a run: one dataclass per Hydra group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from tzd.config.architecture import Architecture
from tzd.config.litgpt_library import overridden
from tzd.config.model import MODEL_CONFIGS, model_config
from tzd.errors import nearest
from tzd.mapping import from_mapping, require

LR_SCHEDULES = ("constant", "cosine", "linear")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "fsdp")


@dataclass(frozen=True)
class ModelSettings:
    """Hydra group `model`: the architecture, and what TZD keeps beside it.

    `model_type` and the fields from `n_layer` to `padding_multiple` are those of the architectures; what one of them
    has not is refused with it. None leaves a setting to the architecture.

    Attributes:
        name: names the run's folder.
        lr: peak learning rate of AdamW.
        val_temperatures: temperatures of the samples printed while training; one sample at the sampler's own if None.
        generation_block_size: block length of those samples; the sampler's own if None.
        generation_num_steps: their number of steps; the sampler's own if None.
        test_temperatures: temperatures of the texts that a finished run writes.
        sampling_repo: "llada" or "smdm" draws them by that system's rule; None leaves it to the group `sampler`.
        config_name: for `litgpt`: a model of LitGPT's registry, whose architecture is that of the new one but for what
            is set beside it.
        litgpt: for `litgpt`: further fields of `LitgptConfig`, those that have no key here.
        pretrained_model_name: for `litgpt`: the model whose weights are trained on, by its name on the hub.
        checkpoint_dir: for `litgpt`: the folder into which `litgpt download` has put it; without a
            `pretrained_model_name` that of the weights themselves.
    """

    name: str = "tiny"
    model_type: str = "tiny"
    n_layer: int | None = None
    n_head: int | None = None
    n_embd: int | None = None
    block_size: int = 256
    intermediate_size: int | None = None
    dropout: float = 0.0
    norm_eps: float | None = None
    rope_base: float | None = None
    time_steps: int = 0
    n_query_groups: int | None = None
    bias: bool | None = None
    norm_class_name: str | None = None
    mlp_class_name: str | None = None
    rotary_percentage: float | None = None
    rotary_dtype: str | None = None
    parallel_residual: bool | None = None
    shared_attention_norm: bool | None = None
    padding_multiple: int | None = None
    shift_logits: bool | None = None
    config_name: str | None = None
    litgpt: dict[str, Any] = field(default_factory=dict)
    pretrained_model_name: str | None = None
    checkpoint_dir: str | None = None
    lr: float = 5e-3
    val_temperatures: tuple[float, ...] | None = None
    test_temperatures: tuple[float, ...] = (0.5, 0.7, 1.0)
    generation_block_size: int | None = None
    generation_num_steps: int | None = None
    sampling_repo: str | None = None

    def __post_init__(self) -> None:
        require(self.lr > 0, f"model.lr must be positive, not {self.lr}")
        for name in ("val_temperatures", "test_temperatures"):
            require(all(v >= 0 for v in getattr(self, name) or ()), f"model.{name} must not be negative")
        require(
            self.sampling_repo in (None, "llada", "smdm"),
            f"model.sampling_repo must be llada, smdm or null, not '{self.sampling_repo}'",
        )
        for name in ("config_name", "litgpt", "pretrained_model_name", "checkpoint_dir"):
            value = getattr(self, name)
            require(not value or self.model_type == "litgpt", f"model.{name}={value} needs model.model_type=litgpt")
        for name in self.litgpt:
            require(name not in ("vocab_size", "mask_id"), f"model.litgpt.{name}: the tokenizer says it; leave it out")
            require(not hasattr(self, name), f"model.litgpt.{name} has a key of its own: set model.{name}")
        require(
            self.config_name is None or self.pretrained is None,
            f"model.config_name={self.config_name}: the architecture of given weights is theirs; leave it out",
        )
        self.architecture(vocab_size=2)  # says now what it would say after the corpus is read

    def architecture(self, vocab_size: int, mask_id: int | None = None) -> Architecture:
        """The architecture for a vocabulary, and for its own [MASK] if it has one; else [MASK] lies beyond it."""
        has = {name: [f.name for f in fields(cast(Any, cls))] for name, cls in MODEL_CONFIGS.items()}
        values: dict[str, Any] = {"model_type": self.model_type, "vocab_size": vocab_size}
        values |= {} if mask_id is None else {"mask_id": mask_id}
        for setting in fields(self):
            key, value = setting.name, getattr(self, setting.name)
            owners = [name for name in has if key in has[name]]
            if self.model_type in owners:
                values |= {} if value is None else {key: value}
            elif owners and self.model_type in has:
                require(
                    value == setting.default,
                    f"model.{key}={value}: model_type={self.model_type} has no such setting;"
                    f" leave it out, or set model.model_type={owners[0]}",
                )
        if self.model_type == "litgpt":
            values = overridden(self.config_name, {**values, **self.litgpt}, self.block_size)
        return model_config(values)

    @property
    def pretrained(self) -> Path | None:
        """The folder of LitGPT's weights that training begins with, if any: where `litgpt download` puts them."""
        if self.pretrained_model_name is None:
            return None if self.checkpoint_dir is None else Path(self.checkpoint_dir)
        folder, name = Path(self.checkpoint_dir or "checkpoints"), Path(self.pretrained_model_name)
        return folder if folder.parts[-len(name.parts) :] == name.parts else folder / name


@dataclass(frozen=True)
class DataSettings:
    """Hydra group `data`: the corpus and its windows.

    Attributes:
        name: a named corpus (shakespeare, pydocs, text, text8, markov), pairs, shards or stream.
        path: for `text`: a file, several (separated by commas), a folder or a glob; for `shards`: their folder.
        data_dir: folder in which corpora are looked for first.
        batch_size: windows per process and forward pass.
        block_size: window length, in tokens.
        num_workers: processes that prepare batches; 0 does it in the training process, which is fast enough for
            token arrays.
        dataset: a dataset of Hugging Face's library in place of `path`: a name on the hub, a folder or a file.
        subset: its subset, also called configuration, where it has several.
        prompt_key: for `pairs`: the key, or column, of a row's prompt.
        answer_key: for `pairs`: that of its answer.
        messages_key: for `pairs`: that of a conversation, a list of messages with `role` and `content`, which takes the
            place of the two.
        chat_template: for `pairs`: whether prompts are written by the tokenizer's chat template: true, false, or
            "auto": where there is one.
        too_long: for `pairs`: what is done about pairs that no window holds: error, or drop (it says how many).
        column: for `stream`: the column that holds a document.
        shuffle_buffer: for `stream`: documents among which the next one is drawn; 0 keeps the dataset's order.
        held_out_documents: for `stream`: documents to validate on, and as many to test on: the first of the dataset's
            splits of these names, or else of all.
    """

    name: str = "shakespeare"
    path: str | None = None
    data_dir: str | None = None
    batch_size: int = 16
    block_size: int = 256
    num_workers: int = 0
    dataset: str | None = None
    subset: str | None = None
    prompt_key: str = "prompt"
    answer_key: str = "answer"
    messages_key: str = "messages"
    chat_template: bool | str = "auto"
    too_long: str = "error"
    column: str = "text"
    shuffle_buffer: int = 1000
    held_out_documents: int = 1000

    def __post_init__(self) -> None:
        require(
            isinstance(self.chat_template, bool) or self.chat_template == "auto",
            f"data.chat_template must be true, false or auto, not '{self.chat_template}'",
        )
        require(self.too_long in ("error", "drop"), f"data.too_long must be error or drop, not '{self.too_long}'")
        require(self.batch_size >= 1, f"data.batch_size must be at least 1, not {self.batch_size}")
        require(self.block_size >= 1, f"data.block_size must be at least 1, not {self.block_size}")
        require(self.num_workers >= 0, f"data.num_workers must not be negative, not {self.num_workers}")
        require(self.shuffle_buffer >= 0, f"data.shuffle_buffer must not be negative, not {self.shuffle_buffer}")
        require(
            self.held_out_documents >= 1, f"data.held_out_documents must be at least 1, not {self.held_out_documents}"
        )


@dataclass(frozen=True)
class TokenizerSettings:
    """Hydra group `tokenizer`.

    Attributes:
        name: ascii, char, byte, bpe, hf, or corpus: that of the folder of shards.
        vocab_size: for `bpe`: number of tokens to train.
        pretrained_model_name_or_path: for `hf`: a name on the hub or a local folder.
    """

    name: str = "char"
    vocab_size: int | None = None
    pretrained_model_name_or_path: str | None = None


@dataclass(frozen=True)
class ObjectiveSettings:
    """Hydra group `objective`: what is corrupted, and how it is weighted.

    The default is what learnt fastest when measured (docs/log.md). Whatever trains, the NELBO is what is reported.

    Attributes:
        name: nelbo, nelbo_t, exact_k, pooled or block.
        block_len: for `block`: length of the blocks; 1 is an autoregressive model.
        schedule: masking schedule: linear, cosine, sine or poly.
        schedule_power: k of the `poly` schedule p_t = t^k.
        time_sampling: independent, jittered or systematic.
        context_len: length of a prefix that is never masked.
        unconditional: share of the rows whose prompt is [MASK] throughout, so that a sampler has something to guide
            away from (`cfg_scale`).
    """

    name: str = "pooled"
    block_len: int = 16
    schedule: str = "linear"
    schedule_power: float = 1.0
    time_sampling: str = "jittered"
    context_len: int = 0
    unconditional: float = 0.0

    def __post_init__(self) -> None:
        require(self.block_len >= 1, f"objective.block_len must be at least 1, not {self.block_len}")
        require(
            self.name != "block" or self.schedule == "linear",
            f"objective.schedule={self.schedule}: block diffusion masks uniformly many tokens of a block; leave it out",
        )
        require(0 <= self.unconditional < 1, f"objective.unconditional must lie in [0, 1), not {self.unconditional}")
        require(self.context_len >= 0, f"objective.context_len must not be negative, not {self.context_len}")
        require(self.schedule_power > 0, f"objective.schedule_power must be positive, not {self.schedule_power}")


@dataclass(frozen=True)
class TrainingSettings:
    """Hydra group `training`.

    Attributes:
        epochs: passes over the training split; `max_steps`, where given, decides instead.
        max_steps: optimizer steps in all, also for a resumed run.
        resume: true continues the latest run of this name; a path continues that run.
        init_from: a checkpoint, or a file of another system that `tzd convert` reads, whose weights and architecture
            a new run begins with.
        first_step: the step that such a run is at when it begins.
        export_to: a single file (.npz, the format of Tiny Diffusion's MLX port) that is written anew with each
            checkpoint.
        save_dir: folder of the run folders.
        run_folder: the run's own folder, in place of one of its name and number in `save_dir`.
        accelerator: Lightning's: auto, cpu, gpu, mps. MLX knows auto, cpu and gpu.
        devices: how many of each machine, a process for each; auto is one, or as many as torchrun has started.
        num_nodes: machines.
        strategy: how processes work together: ddp, ddp_find_unused_parameters_true, fsdp; auto is ddp.
        precision: 32-true (or 32), 64-true, bf16-mixed, 16-mixed (on CUDA), or auto: bf16-mixed where the processor
            computes in it.
        compile: true, false, or "auto": where a compiler is at hand and the run is long enough to repay it.
        gradient_accumulation_steps: forward passes per optimizer step.
        optimizer: adamw, or muon (matrices by Muon, the rest by AdamW).
        muon_lr: peak learning rate of Muon's matrices.
        weight_decay: decoupled, on matrices.
        beta1: first-moment decay of AdamW.
        beta2: second-moment decay of AdamW.
        lr_schedule: constant, cosine or linear (to `min_lr_ratio` of the peak), each after the warm-up.
        warmup_steps: steps over which the learning rate rises from 0.
        min_lr_ratio: last learning rate over the peak.
        grad_clip: largest norm of the gradient; 0 does not clip.
        ema_decay: decay of the moving average of the weights, which is then what is validated and saved; 0 keeps
            none.
        eval_interval: steps between validations; None leaves it to `val_check_interval`.
        val_check_interval: as Lightning has it: a share of an epoch, or a number of steps.
        checkpoint_interval: steps between checkpoints, beside the one of each validation.
        val_draws: masks per validation window; they are the same at every validation.
        val_windows: validation windows scored while training, spread evenly over the split; 0 takes them all.
        val_generation_freq: validations between printed samples; 0 prints none.
        save_top_k: how many of the best checkpoints by validated NELBO are kept beside the last; -1 keeps all.
        test: whether a finished run ends with the test split's NELBO and with texts, by its best checkpoint.
        log_every_n_steps: steps between rows of metrics.
    """

    epochs: float = 10.0
    max_steps: int | None = None
    resume: bool | str = False
    init_from: str | None = None
    first_step: int = 0
    export_to: str | None = None
    save_dir: str = "runs"
    run_folder: str | None = None
    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str | int = "auto"
    compile: bool | str = "auto"
    gradient_accumulation_steps: int = 1
    optimizer: str = "muon"
    muon_lr: float = 0.02
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    lr_schedule: str = "cosine"
    warmup_steps: int = 100
    min_lr_ratio: float = 0.0
    grad_clip: float = 1.0
    ema_decay: float = 0.0
    eval_interval: int | None = None
    val_check_interval: int | float = 1.0
    checkpoint_interval: int = 500
    val_draws: int = 4
    val_windows: int = 64
    val_generation_freq: int = 1
    save_top_k: int = 1
    test: bool = True
    log_every_n_steps: int = 10

    def __post_init__(self) -> None:
        positive = (
            "epochs",
            "num_nodes",
            "gradient_accumulation_steps",
            "val_check_interval",
            "checkpoint_interval",
            "log_every_n_steps",
            "val_draws",
        )
        for name in positive:
            require(getattr(self, name) > 0, f"training.{name} must be positive, not {getattr(self, name)}")
        require(
            not self.first_step or self.init_from is not None,
            "training.first_step is for a run that begins with given weights: set training.init_from too",
        )
        for name in ("max_steps", "eval_interval"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"training.{name} must be at least 1, not {value}")
        not_negative = (
            "first_step",
            "muon_lr",
            "weight_decay",
            "warmup_steps",
            "grad_clip",
            "val_windows",
            "val_generation_freq",
        )
        for name in not_negative:
            require(getattr(self, name) >= 0, f"training.{name} must not be negative, not {getattr(self, name)}")
        for name in ("beta1", "beta2", "ema_decay"):
            require(0 <= getattr(self, name) < 1, f"training.{name} must lie in [0, 1), not {getattr(self, name)}")
        require(0 <= self.min_lr_ratio <= 1, f"training.min_lr_ratio must lie in [0, 1], not {self.min_lr_ratio}")
        require(
            self.save_top_k == -1 or self.save_top_k >= 1,
            f"training.save_top_k must be at least 1, or -1 for all, not {self.save_top_k}",
        )
        require(
            str(self.precision) not in ("bf16-true", "16-true", "16", "bf16"),
            f"training.precision={self.precision}: weights of 16 bits would round small updates away;"
            " bf16-mixed computes in 16 bits and keeps the weights in 32",
        )
        precisions = ("auto", "32-true", "32", "64-true", "bf16-mixed", "16-mixed")
        require(
            str(self.precision) in precisions,
            f"unknown training.precision '{self.precision}'{nearest(str(self.precision), precisions)}",
        )
        for name, known in (
            ("optimizer", ("adamw", "muon")),
            ("lr_schedule", LR_SCHEDULES),
            ("strategy", STRATEGIES),
        ):
            value = getattr(self, name)
            require(value in known, f"unknown training.{name} '{value}'{nearest(value, known)}")
        require(
            isinstance(self.compile, bool) or self.compile == "auto",
            f"training.compile must be true, false or auto, not '{self.compile}'",
        )


@dataclass(frozen=True)
class EngineSettings:
    """Hydra group `engine`: what computes."""

    name: str = "torch"


@dataclass(frozen=True)
class LoggerSettings:
    """Hydra group `logger`.

    Attributes:
        kind: csv, tensorboard, wandb, or a list of several; plain files (csv) are written in any case.
        project: W&B's project; $WANDB_PROJECT or tinyzero-diffusion if None.
        name: name of the run and its folder; made of the corpus and the model if None.
    """

    kind: str | tuple[str, ...] = "csv"
    project: str | None = None
    name: str | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What `kind` names, each once."""
        return (self.kind,) if isinstance(self.kind, str) else tuple(dict.fromkeys(self.kind))


@dataclass(frozen=True)
class RunConfig:
    """Everything that a training run is told.

    Attributes:
        seed: of the initial weights, the windows and the noise.
        experiment_suffix: appended to the run's name.
        sampler: a sampler's name and its settings, checked where samplers are known.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    sampler: dict[str, Any] = field(default_factory=lambda: {"name": "ancestral"})
    logger: LoggerSettings = field(default_factory=LoggerSettings)
    seed: int = 1337
    experiment_suffix: str = ""

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed must not be negative, not {self.seed}")
        require(
            self.training.init_from is None or self.model.pretrained is None,
            f"training.init_from={self.training.init_from} and {self.model.pretrained} (model.pretrained_model_name,"
            " model.checkpoint_dir): a run begins with one of them",
        )
        require(
            self.data.block_size <= self.model.block_size,
            f"data.block_size={self.data.block_size} is longer than model.block_size={self.model.block_size}",
        )
        require(
            self.objective.name != "block" or not self.model.time_steps,
            "objective=block takes a denoiser that is not conditioned on time: set model.time_steps=0",
        )
        require(
            self.objective.context_len < self.data.block_size,
            f"objective.context_len={self.objective.context_len} leaves nothing of"
            f" data.block_size={self.data.block_size}",
        )

    @property
    def run_name(self) -> str:
        """Name of the run and its folder."""
        name = self.logger.name or f"{self.data.name}-{self.model.name}"
        return f"{name}-{self.experiment_suffix}" if self.experiment_suffix else name


def run_config(values: Mapping[str, Any]) -> RunConfig:
    """The run that plain data describes."""
    return from_mapping(RunConfig, values)
