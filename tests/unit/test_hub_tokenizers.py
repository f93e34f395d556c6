"""Tokenizers as the hub holds them: read as they are, with their own special tokens, without the library of models."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tzd
from hub_folders import TEXT, bert_folder, llama_folder, qwen_folder
from tzd.config import ModelSettings, TokenizerSettings
from tzd.configs import compose
from tzd.corpus import Corpus, Tokenizer, describe_file, load_tokenizer, make_tokenizer
from tzd.corpus.tokenizers import hf
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import CheckpointError, CorpusError, MissingExtraError, TzdError, UserError
from tzd.hub import repository
from tzd.training.task import make_task

CORPUS = Corpus.from_text("x", TEXT)


def tokenizer_of(folder: Path | str) -> Tokenizer:
    return make_tokenizer(TokenizerSettings("hf", pretrained_model_name_or_path=str(folder)), CORPUS)


def test_llamas_kind_holds_any_text_and_has_no_mask(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(llama_folder(tmp_path))
    assert (tokenizer.mask_id, tokenizer.eos_id) == (None, 2)
    for text in ("Now is the winter", "日本 🙂 and\n\tspace", " leading"):
        tokens = tokenizer.encode(text)
        assert 1 not in tokens  # no BOS is put before it
        assert tokenizer.decode(tokens) == text
    assert ModelSettings().architecture(tokenizer.vocab_size, tokenizer.mask_id).mask_id == tokenizer.vocab_size


def test_qwens_kind_holds_any_text_and_reads_the_special_tokens_that_a_chat_has(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(qwen_folder(tmp_path))
    assert (tokenizer.vocab_size, tokenizer.mask_id, tokenizer.eos_id) == (302, None, 300)
    assert tokenizer.decode(tokenizer.encode("naïve 日本 🙂\n\n 12")) == "naïve 日本 🙂\n\n 12"
    assert tokenizer.encode("<|im_end|>").tolist() == [301]


def test_berts_mask_token_is_the_models(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(bert_folder(tmp_path))
    assert (tokenizer.mask_id, tokenizer.eos_id) == (4, None)
    architecture = ModelSettings().architecture(tokenizer.vocab_size, tokenizer.mask_id)
    assert (architecture.mask_id, architecture.n_embedding_rows) == (4, tokenizer.vocab_size)
    assert tokenizer.encode("The Winter")[0] > 4


def test_a_mask_token_in_a_text_is_an_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"mask token '\[MASK\]' at offset 5 \(line 2, column 2\)"):
        tokenizer_of(bert_folder(tmp_path / "bert")).encode("sun\n [MASK] of")
    masked = tokenizer_of(qwen_folder(tmp_path / "dream", mask_token="<|mask|>"))
    assert masked.mask_id == 302
    with pytest.raises(CorpusError, match="would be taken for a blank"):
        masked.encode("x<|mask|>")


def test_a_checkpoint_keeps_the_special_tokens(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(qwen_folder(tmp_path / "there", mask_token="<|mask|>"))
    (tmp_path / "here").mkdir()
    for name, content in tokenizer.files().items():
        (tmp_path / "here" / name).write_bytes(content)
    description = json.loads(json.dumps(tokenizer.describe()))
    assert description == {"kind": "hf", "vocab_size": 303, "mask_id": 302, "eos_id": 300}
    assert describe_file(tmp_path / "there") == description
    again = load_tokenizer(description, tmp_path / "here")
    assert (again.mask_id, again.eos_id) == (302, 300)
    for bad in (303, -1, "302", True):
        with pytest.raises(CheckpointError, match="mask_id must be one of its 303 tokens"):
            load_tokenizer({**description, "mask_id": bad}, tmp_path / "here")


def test_training_reads_a_hub_tokenizers_mask_and_text(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 3)
    overrides = ["model=tiny_cpu", "model.n_layer=1", "model.n_head=1", "model.n_embd=8", "data=text"]
    overrides += [f"data.path={text}", "data.block_size=16", "data.batch_size=2", "training.max_steps=2"]
    overrides += ["training.accelerator=cpu", "training.val_generation_freq=0", f"training.save_dir={tmp_path}"]
    folder = bert_folder(tmp_path / "bert")
    best = tzd.train(["tokenizer=llama", f"tokenizer.pretrained_model_name_or_path={folder}", *overrides])
    model = tzd.load(best)
    assert model.mask_id == model.tokenizer.mask_id == 4
    out = tzd.sample(model, length=40, batch_size=4)
    assert not (out.tokens == 4).any()


@pytest.mark.parametrize("kind", ["bpe", "hf"])
def test_bits_per_character_are_counted_by_hand(kind: str, tmp_path: Path) -> None:
    folder = str(qwen_folder(tmp_path)) if kind == "hf" else None
    size = 300 if kind == "bpe" else None
    tokenizer = make_tokenizer(TokenizerSettings(kind, size, folder), CORPUS)
    size = tokenizer.vocab_size
    uniform = FunctionDenoiser(lambda x: np.zeros((*x.shape, size)), size, 7)
    text = "the naïve sun of York: 日本\n"  # 26 characters
    bound = tzd.nelbo(tzd.Model(uniform, tokenizer), text)
    tokens = tokenizer.encode(text)
    assert bound.tokens == len(tokens) != 26
    assert bound.nats_per_token == pytest.approx(math.log(size))
    assert bound.bits_per_char == pytest.approx(math.log2(size) * len(tokens) / 26)
    assert tzd.nelbo(tzd.Model(uniform, tokenizer), tokens).bits_per_char == pytest.approx(bound.bits_per_char)


def test_each_held_out_split_has_its_own_characters_to_a_token(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a" * 950 + "é" * 50)  # one byte each but for the test split
    task = make_task(
        compose(
            ["model=tiny_cpu", "tokenizer=byte", "data=text", f"data.path={tmp_path}/text.txt", "data.block_size=16"]
        )
    )
    uniform = FunctionDenoiser(lambda x: np.zeros((*x.shape, 256)), 256, 16)
    assert task.validate(uniform).bits_per_char == pytest.approx(8)
    tested = task.test(uniform)
    assert tested is not None
    assert tested.bits_per_char == pytest.approx(16)


def test_neither_torch_nor_transformers_is_imported_for_a_tokenizer(tmp_path: Path) -> None:
    code = (
        "import sys; from tzd.config import TokenizerSettings; from tzd.corpus import *\n"
        f"settings = TokenizerSettings('hf', pretrained_model_name_or_path={str(llama_folder(tmp_path))!r})\n"
        "make_tokenizer(settings, Corpus.from_text('x', 'text for all')).encode('text')\n"
        "print([m for m in ('transformers', 'torch', 'mlx', 'huggingface_hub') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out in ("[]\n", "['huggingface_hub']\n")  # the latter where the tokenizers library imports it


def test_the_presets_name_repositories_and_take_a_folder_instead(tmp_path: Path) -> None:
    for name, owner in (("llama", "TinyLlama/"), ("qwen2.5", "Qwen/")):
        settings = compose([f"tokenizer={name}"]).tokenizer
        assert settings.name == "hf"
        assert settings.pretrained_model_name_or_path.startswith(owner)
        local = compose([f"tokenizer={name}", f"tokenizer.pretrained_model_name_or_path={tmp_path}"]).tokenizer
        assert local.pretrained_model_name_or_path == str(tmp_path)


# --- what is not there -------------------------------------------------------------------------------------------


def test_an_older_kind_of_folder_goes_through_the_transformers_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tokenizer_of(qwen_folder(tmp_path))
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]))
    (tmp_path / "tokenizer.json").unlink()
    added = {"300": {"content": "<|endoftext|>", "special": True}, "301": {"content": "<|mask|>", "special": True}}
    config = {
        "tokenizer_class": "DreamTokenizer",  # whose own code is not run
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "added_tokens_decoder": added,
        "eos_token": "<|endoftext|>",
        "mask_token": "<|mask|>",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    pytest.importorskip("transformers")
    tokenizer = tokenizer_of(tmp_path)
    assert (tokenizer.mask_id, tokenizer.eos_id) == (301, 300)
    np.testing.assert_array_equal(tokenizer.encode("the naïve sun"), whole.encode("the naïve sun"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        MissingExtraError,
        match=(
            r"a tokenizer without tokenizer\.json \(.+\) needs "
            r"the extra 'hf': uv sync --extra hf \(or pip install "
            r"'tinyzero-diffusion\[hf\]'\)"
        ),
    ):
        tokenizer_of(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b"[]"])
def test_a_damaged_file_is_one_line(content: bytes, name: str, tmp_path: Path) -> None:
    qwen_folder(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=rf"{name} (cannot be read|is damaged)") as error:
        tokenizer_of(tmp_path)
    assert "\n" not in str(error.value)


def test_a_special_token_that_the_tokenizer_has_not_is_none(tmp_path: Path) -> None:
    folder = qwen_folder(tmp_path, mask_token="[nowhere]")
    assert tokenizer_of(folder).mask_id is None


def test_what_is_nowhere_is_one_line_and_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*/missing; give one that exists"):
        repository(str(tmp_path / "missing"))
    with pytest.raises(
        CorpusError,
        match=(
            r"holds no tokenizer: neither tokenizer\.json nor "
            r"vocab\.json, merges\.txt, vocab\.txt, tokenizer\.model"
        ),
    ):
        tokenizer_of(tmp_path)
    with pytest.raises(UserError, match="is a local folder, which has no revision 'v1'; leave it out"):
        repository(str(tmp_path), revision="v1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    start = time.monotonic()
    with pytest.raises(
        TzdError,
        match=(
            "there is no folder nobody/nothing-at-all, and the hub cannot "
            "be reached to look for a repository of that name: check the "
            "network, or give a local folder"
        ),
    ) as error:
        repository("nobody/nothing-at-all", files=hf.FILES)
    assert time.monotonic() - start < 10
    assert (error.value.exit_code, "\n" in str(error.value)) == (1, False)
