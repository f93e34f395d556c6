"""Small models in folders as the hub holds them: masked language models, and miniatures of LLaDA and Dream.

The miniatures are written as those two write theirs: configurations and models in files of their own beside the
weights, made for an older transformers library, with these names of arguments, outputs and attributes.
"""

from __future__ import annotations

import json
from pathlib import Path

from hub_folders import bert_folder, qwen_folder

LLADA = """
import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class LLaDAConfig(PretrainedConfig):
    model_type = "llada"

    def __init__(self, use_cache=False, **kwargs):
        kwargs.setdefault("use_cache", use_cache)
        super().__init__(**kwargs)


class LLaDAModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        rows = config.embedding_size or config.vocab_size
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(rows, config.d_model),
            "mix": nn.Linear(config.d_model, config.d_model),
            "ff_out": nn.Linear(config.d_model, rows, bias=False),
        })

    def forward(self, input_ids, attention_mask=None):
        x = self.transformer["wte"](input_ids)
        weight = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weight = weight[..., None].to(x.dtype)
        around = (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        position = torch.arange(x.shape[1], dtype=x.dtype)[:, None] / 10
        return self.transformer["ff_out"](torch.tanh(self.transformer["mix"](x + around + position)))


class LLaDAModelLM(PreTrainedModel):
    config_class = LLaDAConfig
    base_model_prefix = "model"
    _no_split_modules = ["LLaDABlock"]

    def __init__(self, config, model=None, init_params=False):
        super().__init__(config)
        self.model = model or LLaDAModel(config)

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None, attention_bias=None,
                past_key_values=None, labels=None, use_cache=None, return_dict=None):
        use_cache = use_cache if use_cache is not None else self.config.use_cache
        assert not use_cache
        return_dict = return_dict if return_dict is not None else self.config.use_return_dict
        return CausalLMOutputWithPast(logits=self.model(input_ids, attention_mask))

    def get_input_embeddings(self):
        return self.model.transformer["wte"]

    def tie_weights(self):
        if self.config.weight_tying:
            self.model.transformer["ff_out"] = self.model.transformer["wte"]


AutoModel.register(LLaDAConfig, LLaDAModelLM)
"""

DREAM = """
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput


class DreamConfig(PretrainedConfig):
    model_type = "Dream"

    def __init__(self, vocab_size=0, hidden_size=8, max_position_embeddings=64, mask_token_id=151666,
                 pad_token_id=151643, tie_word_embeddings=False, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.max_position_embeddings = max_position_embeddings
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
        self.mask_token_id = mask_token_id
        self.pad_token_id = pad_token_id


class DreamPreTrainedModel(PreTrainedModel):
    config_class = DreamConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.normal_(mean=0.0, std=0.02)


class DreamModel(DreamPreTrainedModel):
    _tied_weights_keys = ["lm_head.weight"]

    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.mix = nn.Linear(config.hidden_size, config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("scale", torch.arange(config.max_position_embeddings) / 10, persistent=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed_tokens

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None,
                inputs_embeds=None, labels=None, use_cache=None, return_dict=None, num_logits_to_keep=0, **kwargs):
        x = self.embed_tokens(input_ids)
        if isinstance(attention_mask, torch.Tensor):
            assert attention_mask.dtype == torch.bool and attention_mask.ndim == 4
            share = attention_mask[:, 0].to(x.dtype)
            around = (share / share.sum(-1, keepdim=True)) @ x
        else:
            assert attention_mask in ("full", None)
            around = x.mean(1, keepdim=True)
        x = torch.tanh(self.mix(x + around + self.scale[: x.shape[1], None]))
        return MaskedLMOutput(logits=self.lm_head(x))
"""


def masked_folder(folder: Path, kind: str = "bert", *, weights: bool = True) -> Path:
    """A masked language model of the transformers library: "bert", "roberta" or "modernbert"."""
    import torch
    import transformers

    bert_folder(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    # [PAD] is 0, [CLS] 2, [SEP] 3; the head has more columns than the tokenizer has tokens
    common = {"vocab_size": 128, "pad_token_id": 0, "max_position_embeddings": 34, "initializer_range": 0.5, **shape}
    torch.manual_seed(0)
    if kind == "bert":
        model = transformers.BertForMaskedLM(transformers.BertConfig(**common))
    elif kind == "roberta":
        model = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**common))
    else:
        special = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        model = transformers.ModernBertForMaskedLM(
            transformers.ModernBertConfig(**common, **special, reference_compile=False, local_attention=8)
        )
    if weights:
        model.save_pretrained(folder)
    else:
        model.config.save_pretrained(folder)
    return folder


def llada_folder(folder: Path, **changes: object) -> Path:
    """A miniature LLaDA: 302 tokens and [MASK] as the 303rd of 320 columns."""
    qwen_folder(folder, mask="<|mdm_mask|>")
    config = {
        "architectures": ["LLaDAModelLM"],
        "auto_map": {"AutoConfig": "modeling_llada.LLaDAConfig", "AutoModel": "modeling_llada.LLaDAModelLM"},
        "model_type": "llada",
        "d_model": 8,
        "max_sequence_length": 48,
        "vocab_size": 320,
        "embedding_size": 320,
        "mask_token_id": 302,
        "eos_token_id": 300,
        "pad_token_id": 300,
        "use_cache": False,
        "weight_tying": False,
        "transformers_version": "4.46.3",
    }
    shapes = {"transformer.wte.weight": (320, 8), "transformer.mix.weight": (8, 8), "transformer.mix.bias": (8,)}
    shapes["transformer.ff_out.weight"] = (320, 8)
    return _remote(folder, "modeling_llada.py", LLADA, {**config, **changes}, shapes, prefix="model.")


def dream_folder(folder: Path, **changes: object) -> Path:
    """A miniature Dream, as Llama's: its own [MASK] is in the tokenizer's configuration."""
    qwen_folder(folder, mask_token="<|mask|>")
    config = {
        "architectures": ["DreamModel"],
        "auto_map": {"AutoConfig": "modeling_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"},
        "model_type": "Dream",
        "hidden_size": 8,
        "max_position_embeddings": 48,
        "vocab_size": 310,
        "mask_token_id": 302,
        "pad_token_id": 300,
        "torch_dtype": "bfloat16",
    }
    shapes = {"embed_tokens.weight": (310, 8), "mix.weight": (8, 8), "mix.bias": (8,), "lm_head.weight": (310, 8)}
    return _remote(folder, "modeling_dream.py", DREAM, {**config, **changes}, shapes, dtype="bfloat16")


def _remote(
    folder: Path,
    name: str,
    code: str,
    config: dict[str, object],
    shapes: dict[str, tuple[int, ...]],
    prefix: str = "",
    dtype: str = "float32",
) -> Path:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    (folder / name).write_text(code)
    (folder / "config.json").write_text(json.dumps(config))
    weights = {prefix + key: torch.randn(shape).to(getattr(torch, dtype)) for key, shape in shapes.items()}
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder
