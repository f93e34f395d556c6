"""Small tokenizers in folders as the hub holds them: of the kinds that Llama, Qwen and BERT have."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXT = "Now is the winter of our discontent made glorious summer by this sun of York; naïve cafés, 3.14!\n" * 20


def llama_folder(folder: Path) -> Path:
    """Byte-fallback BPE behind "▁", with a BOS that is put before texts, and no mask token."""
    library = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    library.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=360, special_tokens=special, show_progress=False)
    )
    data = json.loads(library.to_str())
    data["added_tokens"] = data["added_tokens"][:3]  # the bytes are plain tokens
    library = Tokenizer.from_str(json.dumps(data))
    library.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return _save(folder, library, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def qwen_folder(folder: Path, **special: str) -> Path:
    """Byte-level BPE, two special tokens at its end and whatever else is named; no mask token unless it is."""
    library = Tokenizer(models.BPE())
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+")
    split = pre_tokenizers.Split(pattern, "isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([TEXT], trainer)
    library.add_special_tokens(["<|endoftext|>", "<|im_end|>", *(t for t in special.values() if t[0] == "<")])
    return _save(folder, library, **{"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", **special})


def bert_folder(folder: Path) -> Path:
    """Word pieces in lower case, with [CLS] and [SEP] around texts, and a mask token."""
    library = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    library.train_from_iterator(
        [TEXT], trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    )
    frame = [("[CLS]", 2), ("[SEP]", 3)]
    library.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=frame)
    library.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return _save(folder, library, mask_token="[MASK]", **tokens)


def _save(folder: Path, library: Tokenizer, **special: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    library.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
