"""The settings of the group `training`."""

from __future__ import annotations

from dataclasses import dataclass

from tzd.errors import nearest
from tzd.mapping import require

LR_SCHEDULES = ("constant", "cosine", "linear")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "fsdp")


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
