"""What is said of a setting that cannot be, word by word."""

from __future__ import annotations

from typing import Any

import pytest

from tzd.config import model_config, run_config
from tzd.errors import ConfigError

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"data.chat_template": "maybe"}, "data.chat_template must be true, false or auto, not 'maybe'"),
    ({"data.too_long": "cut"}, "data.too_long must be error or drop, not 'cut'"),
    ({"data.batch_size": 0}, "data.batch_size must be at least 1, not 0"),
    ({"data.block_size": 0}, "data.block_size must be at least 1, not 0"),
    ({"data.num_workers": -1}, "data.num_workers must not be negative, not -1"),
    ({"data.shuffle_buffer": -1}, "data.shuffle_buffer must not be negative, not -1"),
    ({"data.held_out_documents": 0}, "data.held_out_documents must be at least 1, not 0"),
    ({"data.block_size": 1024}, "data.block_size=1024 is longer than model.block_size=256"),
    ({"objective.block_len": 0}, "objective.block_len must be at least 1, not 0"),
    (
        {"objective.name": "block", "objective.schedule": "cosine"},
        "objective.schedule=cosine: block diffusion masks uniformly many tokens of a block; leave it out",
    ),
    ({"objective.unconditional": 1.0}, "objective.unconditional must lie in [0, 1), not 1.0"),
    ({"objective.context_len": -1}, "objective.context_len must not be negative, not -1"),
    ({"objective.context_len": 256}, "objective.context_len=256 leaves nothing of data.block_size=256"),
    ({"objective.schedule_power": 0.0}, "objective.schedule_power must lie in 0.05..100, not 0.0"),
    (
        {"objective.name": "block", "model.time_steps": 8},
        "objective=block takes a denoiser that is not conditioned on time: set model.time_steps=0",
    ),
    ({"seed": -1}, "seed must not be negative, not -1"),
    ({"model.lr": 0.0}, "model.lr must be positive, not 0.0"),
    ({"model.test_temperatures": [-1.0]}, "model.test_temperatures must not be negative, not (-1.0,)"),
    ({"model.sampling_repo": "other"}, "model.sampling_repo must be llada, smdm or null, not 'other'"),
    ({"model.checkpoint_dir": "x"}, "model.checkpoint_dir=x needs model.model_type=litgpt"),
    (
        {"model.model_type": "litgpt", "model.litgpt": {"vocab_size": 9}},
        "model.litgpt.vocab_size: the tokenizer says it; leave it out",
    ),
    (
        {"model.model_type": "litgpt", "model.litgpt": {"n_head": 9}},
        "model.litgpt.n_head has a key of its own: set model.n_head",
    ),
    (
        {"model.model_type": "litgpt", "model.config_name": "pythia-14m", "model.checkpoint_dir": "x"},
        "model.config_name=pythia-14m: the architecture of given weights is theirs; leave it out",
    ),
    (
        {"model.rotary_percentage": 0.5},
        "model.rotary_percentage=0.5: model_type=tiny has no such setting; leave it out, or set model.model_type=smdm",
    ),
    ({"model.model_type": "huge"}, "unknown model.model_type 'huge' (known: litgpt, smdm, tiny)"),
    (
        {"training.init_from": "a", "model.model_type": "litgpt", "model.checkpoint_dir": "x"},
        "training.init_from=a and x (model.pretrained_model_name, model.checkpoint_dir): a run begins with one of them",
    ),
    ({"training.epochs": 0}, "training.epochs must be positive, not 0.0"),
    (
        {"training.first_step": 3},
        "training.first_step is for a run that begins with given weights: set training.init_from too",
    ),
    ({"training.max_steps": 0}, "training.max_steps must be at least 1, not 0"),
    ({"training.muon_lr": -1.0}, "training.muon_lr must not be negative, not -1.0"),
    ({"training.beta1": 1.0}, "training.beta1 must lie in [0, 1), not 1.0"),
    ({"training.min_lr_ratio": 2.0}, "training.min_lr_ratio must lie in [0, 1], not 2.0"),
    ({"training.save_top_k": 0}, "training.save_top_k must be at least 1, or -1 for all, not 0"),
    (
        {"training.precision": "16"},
        "training.precision=16: weights of 16 bits would round small updates away; bf16-mixed computes in 16 "
        "bits and keeps the weights in 32",
    ),
    (
        {"training.precision": "8"},
        "unknown training.precision '8' (known: 16-mixed, 32, 32-true, 64-true, auto, bf16-mixed)",
    ),
    ({"training.optimizer": "sgd"}, "unknown training.optimizer 'sgd' (known: adamw, muon)"),
    ({"training.compile": "often"}, "training.compile must be true, false or auto, not 'often'"),
    ({"model.dropout": 1.0}, "model.dropout must lie in [0, 1), not 1.0"),
    ({"model.norm_eps": 0.0}, "model.norm_eps must be positive, not 0.0"),
    ({"model.rope_base": 0.0}, "model.rope_base must be positive, not 0.0"),
    ({"model.time_steps": -1}, "model.time_steps must not be negative, not -1"),
    ({"model.intermediate_size": 0}, "model.intermediate_size must be at least 1, not 0"),
    ({"model.n_head": 7}, "model.n_head=7 does not divide model.n_embd=384"),
    (
        {"model.n_embd": 24, "model.n_head": 8},
        "model.n_embd / model.n_head is 3; rotary positions need an even head width",
    ),
    ({"model.n_layer": 0}, "model.n_layer must be at least 1, not 0"),
    ({"model": 3}, "model must be a group of settings, not 3"),
    ({"training.max_steps": "many"}, "training.max_steps cannot be 'many'; it takes a whole number or null"),
    ({"training.steps": 9}, "unknown setting 'training.steps' (did you mean 'max_steps'?)"),
    ({"data.name": 3}, "data.name cannot be 3; it takes a text"),
]
MODELS: list[tuple[str, dict[str, Any], str]] = [
    ("smdm", {"n_layer": 0}, "model.n_layer must be at least 1, not 0"),
    ("smdm", {"n_query_groups": 0}, "model.n_query_groups must be at least 1, not 0"),
    ("smdm", {"n_query_groups": 3}, "model.n_query_groups=3 does not divide model.n_head=2"),
    ("smdm", {"rotary_percentage": 0.0}, "model.rotary_percentage must lie in (0, 1], not 0.0"),
    (
        "smdm",
        {"rotary_percentage": 0.1},
        "model.rotary_percentage=0.1 of a head of width 8 is 0; rotary positions need an even width",
    ),
    ("smdm", {"shared_attention_norm": True}, "model.shared_attention_norm=true needs model.parallel_residual=true"),
    ("smdm", {"norm_eps": 0.0}, "model.norm_eps must be positive, not 0.0"),
    ("smdm", {"rope_base": -1.0}, "model.rope_base must be positive, not -1.0"),
    ("smdm", {"norm_class_name": "Norm"}, "unknown model.norm_class_name 'Norm' (did you mean 'RMSNorm'?)"),
    ("smdm", {"mask_id": 99}, "model.mask_id must lie in 0..66, not 99"),
    ("smdm", {"n_head": 3}, "model.n_head=3 does not divide model.n_embd=16"),
    ("litgpt", {"n_layer": 0}, "model.n_layer must be at least 1, not 0"),
    ("litgpt", {"mask_id": 99}, "model.mask_id must lie in 0..66, not 99"),
    ("litgpt", {"norm_eps": 0.0}, "model.norm_eps must be positive, not 0.0"),
    ("litgpt", {"n_head": 3}, "model.n_head=3 does not divide model.n_embd=16"),
    ("litgpt", {"n_query_groups": 3}, "model.n_query_groups=3 does not divide model.n_head=2"),
    (
        "litgpt",
        {"shared_attention_norm": True, "parallel_residual": False},
        "model.shared_attention_norm=true needs model.parallel_residual=true",
    ),
    (
        "litgpt",
        {"norm_class_name": "LayerNorm", "norm_unit_offset": True},
        "model.norm_unit_offset=true needs model.norm_class_name=RMSNorm",
    ),
    (
        "litgpt",
        {"norm_class_name": "RMSNorm", "norm_affine": False},
        "model.norm_affine=false needs model.norm_class_name=LayerNorm",
    ),
    (
        "litgpt",
        {"rotary_percentage": 0.1},
        "model.rotary_percentage=0.1 of a head of width 8 is 0; rotary positions need an even width within the head",
    ),
    (
        "litgpt",
        {"rope_indices": [1]},
        "model.rope_indices and model.rope_local_base_freq go together: give both, or none",
    ),
    (
        "litgpt",
        {"rope_indices": [2], "rope_local_base_freq": 10000.0},
        "model.rope_indices must be 1 numbers (model.n_layer), each 0 or 1, not (2,)",
    ),
    (
        "litgpt",
        {"rope_adjustments": {"factor": -1.0}},
        "model.rope_adjustments must be a positive factor, or factor, low_freq_factor, high_freq_factor and "
        "original_max_seq_len, not {'factor': -1.0}",
    ),
    (
        "litgpt",
        {
            "rope_adjustments": {
                "factor": 2.0,
                "low_freq_factor": 4.0,
                "high_freq_factor": 1.0,
                "original_max_seq_len": 8,
            }
        },
        "model.rope_adjustments: low_freq_factor=4.0 must be below high_freq_factor=1.0",
    ),
    (
        "litgpt",
        {"mlp_class_name": "LLaMAMoE", "n_expert": 2, "n_expert_per_token": 3},
        "model.mlp_class_name=LLaMAMoE needs model.n_expert_per_token in 1..n_expert, not 3 of 2",
    ),
    (
        "litgpt",
        {"n_expert": 2},
        "model.n_expert, n_expert_per_token and moe_intermediate_size need model.mlp_class_name=LLaMAMoE",
    ),
    ("tiny", {"n_layer": 0}, "model.n_layer must be at least 1, not 0"),
    ("tiny", {"mask_id": 99}, "model.mask_id must lie in 0..66, not 99"),
    ("tiny", {"vocab_size": 10**30}, f"model.vocab_size={10**30} is larger than any model's"),
    ("smdm", {"n_embd": 2**31}, "model.n_embd=2147483648 is larger than any model's"),
    ("litgpt", {"n_layer": 2**31}, "model.n_layer=2147483648 is larger than any model's"),
    ("tiny", {"dropout": -0.5}, "model.dropout must lie in [0, 1), not -0.5"),
    (
        "tiny",
        {"size": 3},
        "unknown setting 'model.size' (known: block_size, dropout, intermediate_size, mask_id, n_embd, "
        "n_head, n_layer, norm_eps, rope_base, rotary_tables, time_steps, value_residual, vocab_size)",
    ),
    ("large", {}, "unknown model.model_type 'large' (known: litgpt, smdm, tiny)"),
]
SMALL = {"vocab_size": 66, "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32}


@pytest.mark.parametrize(("settings", "line"), SETTINGS)
def test_a_setting_that_cannot_be_is_told_word_by_word(settings: dict[str, Any], line: str):
    values: dict[str, Any] = {}
    for key, value in settings.items():
        group, _, name = key.partition(".")
        if name:
            values.setdefault(group, {})[name] = value
        else:
            values[group] = value
    with pytest.raises(ConfigError) as refused:
        run_config(values)
    assert str(refused.value) == line


@pytest.mark.parametrize(("model_type", "changes", "line"), MODELS)
def test_an_architecture_that_cannot_be_is_told_word_by_word(model_type: str, changes: dict[str, Any], line: str):
    with pytest.raises(ConfigError) as refused:
        model_config({**SMALL, "model_type": model_type, **changes})
    assert str(refused.value) == line
