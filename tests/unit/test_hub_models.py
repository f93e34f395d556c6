"""Models of the hub as denoisers, through the real loading code, on small models that are made here."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import tzd
from hub_folders import bert_folder
from hub_models import dream_folder, llada_folder, masked_folder
from tzd.cli import main
from tzd.errors import CheckpointError, CorpusError, MissingExtraError, TzdError, UserError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

KINDS = ("llada", "dream", "bert", "roberta", "modernbert")
TEXT = "the winter of our discontent"


@pytest.fixture(scope="module", autouse=True)
def _modules(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Copies of the models' own code go where nothing else is."""
    patch = pytest.MonkeyPatch()
    from transformers import dynamic_module_utils

    patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
    yield
    patch.undo()


def make(kind: str, folder: Path) -> Path:
    makers = {"llada": llada_folder, "dream": dream_folder}
    return makers[kind](folder) if kind in makers else masked_folder(folder, kind)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make(kind, tmp_path_factory.mktemp("models") / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path], _modules: None) -> dict[str, tzd.Model]:
    return {kind: tzd.load(f"hf:{folder}", trust_remote_code=True) for kind, folder in folders.items()}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, models: dict[str, tzd.Model]) -> tzd.Model:
    return models[request.param]


def network(model: tzd.Model) -> torch.nn.Module:
    return model.denoiser.network.network


# --- calling conventions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_a_masked_models_logits_are_the_librarys_between_its_special_tokens(
    kind: str, models: dict[str, tzd.Model], folders: dict[str, Path]
) -> None:
    model = models[kind]
    assert (model.config.before, model.config.behind, model.mask_id) == ((2,), (3,), 4)
    tokens = np.array([[7, 4, 9, 4, 11], [4, 4, 4, 8, 6]])
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folders[kind]).eval()
    framed = torch.tensor([[2, *row, 3] for row in tokens.tolist()])
    with torch.inference_mode():
        expected = theirs(input_ids=framed, attention_mask=torch.ones_like(framed)).logits[:, 1:-1]
    np.testing.assert_allclose(model.logits(tokens), expected, atol=1e-6)


def test_lladas_logits_are_those_of_their_own_positions(models: dict[str, tzd.Model]) -> None:
    model = models["llada"]
    assert (model.mask_id, model.config.shift, model.denoiser.seq_len) == (302, False, 48)
    tokens = np.array([[1, 302, 5, 302]])
    with torch.inference_mode():
        expected = network(model)(input_ids=torch.tensor(tokens)).logits
    np.testing.assert_array_equal(model.logits(tokens), expected)


def test_dreams_logits_come_from_the_position_before(models: dict[str, tzd.Model]) -> None:
    model = models["dream"]
    assert (model.mask_id, model.config.shift, model.denoiser.seq_len) == (302, True, 48)
    tokens = np.array([[1, 302, 5, 302]])
    with torch.inference_mode():
        raw = network(model)(input_ids=torch.tensor(tokens), attention_mask="full").logits.float()
    logits = model.logits(tokens)
    assert logits.dtype == torch.float32
    np.testing.assert_array_equal(logits[:, 1:], raw[:, :-1])
    np.testing.assert_array_equal(logits[:, 0], raw[:, 0])


def test_what_a_models_own_code_computes_for_itself_is_there(models: dict[str, tzd.Model]) -> None:
    scale = network(models["dream"]).scale  # no weight: nothing stores it
    np.testing.assert_allclose(scale.float(), np.arange(48) / 10, rtol=1e-2)


def test_weights_keep_their_precision(models: dict[str, tzd.Model]) -> None:
    dtypes = {kind: next(network(model).parameters()).dtype for kind, model in models.items()}
    assert dtypes["dream"] == torch.bfloat16
    assert dtypes["llada"] == dtypes["bert"] == torch.float32


def test_rows_are_the_positions_asked_for_in_any_order(model: tzd.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.full((5, 6), 9)
    tokens[:, 2:] = model.mask_id
    tokens[3] = 8
    every = model.logits(tokens).reshape(30, -1)
    rows = np.array([29, 0, 13, 12, 7, 25])
    monkeypatch.setattr("tzd.engines.torch.hf._POSITIONS", 12)  # two rows to a call
    np.testing.assert_allclose(model.denoiser.forward(tokens, rows=rows)[0], every[rows], atol=1e-5)
    np.testing.assert_allclose(model.logits(tokens).reshape(30, -1), every, atol=1e-5)


def test_pads_behind_a_text_change_nothing(model: tzd.Model) -> None:
    tokens = np.array([[9, model.mask_id, 7, 10, 0, 0], [9, model.mask_id, 7, 10, 11, 12]])
    seen = np.arange(6) < np.array([[4], [6]])
    padded = model.denoiser.forward(tokens, attention=seen)[0]
    rounding = 0.1 if model.config.kind == "Dream" else 1e-5  # bfloat16
    np.testing.assert_allclose(padded[0, :4], model.logits(tokens[:1, :4])[0], atol=rounding)
    np.testing.assert_allclose(padded[1], model.logits(tokens[1:])[0], atol=rounding)
    with pytest.raises(UserError, match="can be told which tokens are pads, not who attends to whom"):
        model.denoiser.forward(tokens, attention=np.tri(6, dtype=bool)[None].repeat(2, axis=0))


def test_the_window_leaves_room_for_what_is_put_around_it(models: dict[str, tzd.Model]) -> None:
    lengths = {kind: model.denoiser.seq_len for kind, model in models.items()}
    assert lengths == {"llada": 48, "dream": 48, "bert": 32, "roberta": 31, "modernbert": 32}
    for model in models.values():
        longest = np.full((1, model.denoiser.seq_len), model.mask_id)
        assert model.logits(longest).shape[1] == model.denoiser.seq_len
        with pytest.raises(UserError, match="longer than the model's window"):
            model.logits(np.pad(longest, ((0, 0), (0, 1)), constant_values=9))


def test_dreams_window_is_no_longer_than_it_is_good_for(tmp_path: Path) -> None:
    folder = dream_folder(tmp_path, max_position_embeddings=131072)
    assert tzd.load(folder, trust_remote_code=True).denoiser.seq_len == 2048


# --- writing and scoring ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ancestral", "llada"])
def test_nothing_is_written_that_is_no_token_of_a_text(model: tzd.Model, sampler: str) -> None:
    prompt = model.encode("the sun")
    out = tzd.sample(model, prompt="the sun", length=60, batch_size=3, sampler=sampler, temperature=1.5)
    np.testing.assert_array_equal(out.tokens[:, : len(prompt)], np.tile(prompt, (3, 1)))
    written = out.tokens[:, len(prompt) :]
    known = set(model.tokenizer.library.get_vocab().values())
    special = {model.mask_id, *model.config.before, *model.config.behind}
    assert set(written.ravel().tolist()) <= known - special
    if model.config.kind in ("bert", "roberta", "modernbert"):
        assert not (written == 0).any()  # [PAD]
    assert all(text.startswith("the sun") for text in out.text)


def test_a_model_without_preferences_is_log_v_per_token(model: tzd.Model) -> None:
    weights = [p for name, p in network(model).named_parameters() if p.shape and p.shape[0] == model.config.vocab_size]
    kept = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight in weights:
                weight.zero_()
        bound = tzd.nelbo(model, TEXT * 5)
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
    choices = int((~model.denoiser.banned).sum())
    assert bound.nats_per_token == pytest.approx(math.log(choices), rel=1e-6)
    tokens = len(model.encode(TEXT * 5))
    assert bound.tokens == tokens  # what is put around a window is not counted
    assert bound.bits_per_char == pytest.approx(math.log2(choices) * tokens / len(TEXT * 5), rel=1e-6)


@pytest.mark.parametrize("kind", ["llada", "dream"])
def test_a_text_ends_at_the_first_end_that_was_written(kind: str, models: dict[str, tzd.Model]) -> None:
    model = models[kind]
    assert set(model.ends) == ({300} if kind == "llada" else {300, 301})
    given = model.encode("<|endoftext|>the sun")
    frames = list(tzd.stream(model, prompt=given[None], length=8))
    last = frames[-1]
    last.tokens[0, len(given) :] = [*model.encode("ab"), 300, *model.encode("cdefg")]
    from tzd.api import finished

    out = finished(model, iter([frames[0], last]))
    assert out.text == ["<|endoftext|>the sunab"]
    assert out.tokens.shape == (1, len(given) + 8)


def test_a_chat_is_written_by_the_models_own_template(tmp_path: Path, models: dict[str, tzd.Model]) -> None:
    folder = llada_folder(tmp_path)
    template = "{% for said in messages %}{{ said['content'] }}<|im_end|>{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    model = tzd.load(folder, trust_remote_code=True)
    for prompt in ("the sun", [{"role": "user", "content": "the sun"}]):
        out = tzd.sample(model, prompt=prompt, chat=True, length=4)
        np.testing.assert_array_equal(out.tokens[0, :-4], model.encode("the sun<|im_end|>"))
    plain = tzd.sample(model, prompt="the sun", length=4).tokens[0, :-4]
    np.testing.assert_array_equal(plain, model.encode("the sun"))
    with pytest.raises(UserError, match="not trained on prompts and answers"):
        tzd.sample(models["llada"], prompt="the sun", chat=True)


def test_a_text_that_holds_what_the_model_cannot_write_is_an_error(models: dict[str, tzd.Model]) -> None:
    with pytest.raises(
        CorpusError, match=(r"the text holds '\[SEP\]' \(token 3\), which this model " "cannot write; leave it out")
    ):
        tzd.nelbo(models["bert"], "the sun [SEP] of")
    with pytest.raises(
        CorpusError,
        match=(
            r"the text holds the tokenizer's mask token '\[MASK\]' at "
            r"offset 8 \(line 1, column 9\), which would be taken for a "
            "blank; write it otherwise"
        ),
    ):
        tzd.nelbo(models["bert"], "the sun [MASK] of")


def test_infilling_keeps_what_is_given(models: dict[str, tzd.Model]) -> None:
    out = tzd.infill(models["bert"], "the ___ of york", batch_size=2)
    given = models["bert"].encode("the"), models["bert"].encode(" of york")
    np.testing.assert_array_equal(out.tokens[:, : len(given[0])], np.tile(given[0], (2, 1)))
    np.testing.assert_array_equal(out.tokens[:, -len(given[1]) :], np.tile(given[1], (2, 1)))


# --- what is allowed, and what is not there ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llada", "dream"])
def test_code_of_a_models_own_runs_only_where_it_is_trusted(kind: str, folders: dict[str, Path]) -> None:
    before = {name for name in sys.modules if "modeling_" + kind in name}
    with pytest.raises(UserError, match=rf"\(modeling_{kind}.py\), which would run on this machine: read it") as error:
        tzd.load(folders[kind])
    assert "\n" not in str(error.value)
    assert {name for name in sys.modules if "modeling_" + kind in name} == before


def test_code_that_fails_is_one_line_that_names_the_library(tmp_path: Path) -> None:
    folder = llada_folder(tmp_path)
    (folder / "modeling_llada.py").write_text("from transformers import NoSuchThing\n")
    with pytest.raises(
        TzdError,
        match=(
            r"the own code of .+ does not run with transformers 5\.3\.0 "
            r"\(ImportError: cannot import name 'NoSuchThing' from "
            r"'transformers' \(.+\)\): it was written for 4\.46\.3; try "
            "pip install 'transformers<5'"
        ),
    ) as error:
        tzd.load(folder, trust_remote_code=True)
    assert "\n" not in str(error.value)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = llada_folder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["extra"] = weights.pop("model.transformer.mix.bias")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError,
        match=(
            "the weights of .+ do not fit its own code: 1 missing "
            r"\(model\.transformer\.mix\.bias\); 1 unexpected "
            r"\(extra\)"
        ),
    ):
        tzd.load(folder, trust_remote_code=True)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(
        CheckpointError,
        match=(r"the weights of .+ cannot be read: Error while deserializing header: header too large; get them again"),
    ):
        tzd.load(folder, trust_remote_code=True)


def test_a_masked_models_missing_weights_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = masked_folder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["cls.predictions.transform.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights of its BertForMaskedLM: cls.predictions.transform.dense"):
        tzd.load(folder)


def test_a_masked_models_weights_that_its_configuration_has_no_place_for_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = masked_folder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    pretraining = {"bert.pooler.dense.weight": torch.zeros(16, 16), "cls.seq_relationship.weight": torch.zeros(2, 16)}
    save_file({**weights, **pretraining}, folder / "model.safetensors", metadata={"format": "pt"})
    assert tzd.load(folder).mask_id == 4  # what filling in blanks does not need
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(
        CheckpointError,
        match=(
            r"holds weights of layers that its config\.json has "
            "not: "
            r"bert\.encoder\.layer\.1\.attention\.output\.LayerNorm\.bias, "
            r"bert\.encoder\.layer\.1\.attention\.output\.LayerNorm\.weight, "
            r"bert\.encoder\.layer\.1\.attention\.output\.dense\.bias; "
            "take both from one place"
        ),
    ):
        tzd.load(folder)
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    with pytest.raises(
        CheckpointError,
        match=(
            r"has weights of another shape than its config\.json "
            "says: "
            r"bert\.encoder\.layer\.0\.intermediate\.dense\.bias, "
            r"bert\.encoder\.layer\.0\.intermediate\.dense\.weight, "
            r"bert\.encoder\.layer\.0\.output\.dense\.weight"
        ),
    ):
        tzd.load(folder)


def test_a_masked_model_with_code_of_its_own_is_called_as_one(tmp_path: Path) -> None:
    classes = {"AutoModel": "modeling_llada.LLaDAModel", "AutoModelForMaskedLM": "modeling_llada.LLaDAModelLM"}
    folder = llada_folder(tmp_path, auto_map=classes, model_type="new", mask_token_id=None)
    code = (folder / "modeling_llada.py").read_text().replace('model_type = "llada"', 'model_type = "new"')
    (folder / "modeling_llada.py").write_text(code)
    bert_folder(folder)
    model = tzd.load(folder, trust_remote_code=True)
    assert (model.mask_id, model.config.before, model.config.behind, model.denoiser.seq_len) == (4, (2,), (3,), 46)
    with torch.inference_mode():
        expected = network(model)(input_ids=torch.tensor([[2, 9, 4, 3]])).logits[:, 1:-1]
    np.testing.assert_array_equal(model.logits(np.array([[9, 4]])), expected)


def test_code_of_another_repository_is_refused(tmp_path: Path) -> None:
    folder = llada_folder(tmp_path, auto_map={"AutoModel": "some/where--modeling_llada.LLaDAModelLM"})
    with pytest.raises(
        UserError,
        match=(
            "computes with Python code of its own "
            r"\(some/where--modeling_llada\.py\), which would run on this "
            "machine: read it, then allow it with --trust-remote-code "
            r"\(tzd\.load: trust_remote_code=True\)"
        ),
    ):
        tzd.load(folder)
    with pytest.raises(
        UserError,
        match=(
            r"computes with code of another repository \(some/where\): "
            "copy it into a folder with the model's files, and leave "
            r"that name out of its config\.json"
        ),
    ):
        tzd.load(folder, trust_remote_code=True)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    folder = masked_folder(tmp_path, weights=False)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(
        CheckpointError,
        match=(
            r"does not hold model\.safetensors; weights are read "
            r"from safetensors only, for a \.bin is a pickle, which "
            "can run code: look for a revision or a copy of the "
            "model that has them"
        ),
    ):
        tzd.load(folder)


def test_shards_are_read_by_their_index(tmp_path: Path, folders: dict[str, Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = llada_folder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {name: f"part-{i}.safetensors" for i, name in enumerate(weights)}
    for name, file in index.items():
        save_file({name: weights[name]}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    sharded, whole = (tzd.load(f, trust_remote_code=True) for f in (folder, folders["llada"]))
    tokens = np.array([[5, 302, 7]])
    np.testing.assert_array_equal(sharded.logits(tokens), whole.logits(tokens))
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"does not hold part-1.safetensors"):
        tzd.load(folder, trust_remote_code=True)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": null}')
    with pytest.raises(CheckpointError, match="is damaged: it names no weights; get the file again"):
        tzd.load(folder, trust_remote_code=True)


def test_a_head_that_shares_the_embedding_is_stored_once(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = dream_folder(tmp_path, tie_word_embeddings=True)
    weights = load_file(folder / "model.safetensors")
    embedding = weights["embed_tokens.weight"]
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors")
    model = tzd.load(folder, trust_remote_code=True)
    np.testing.assert_array_equal(network(model).lm_head.weight.float().detach(), embedding.float())


def test_a_model_that_reads_from_left_to_right_is_refused(tmp_path: Path) -> None:
    folder = masked_folder(tmp_path)
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=120)
    config.save_pretrained(folder)
    with pytest.raises(
        UserError,
        match=(
            "is a 'gpt2' model, which cannot fill in blanks: give one "
            r"that can \(LLaDA, Dream, a masked language model\)"
        ),
    ):
        tzd.load(folder, mask_id=4)


def test_a_mask_and_a_shift_can_be_said(tmp_path: Path, models: dict[str, tzd.Model]) -> None:
    folder = llada_folder(tmp_path, mask_token_id=None, model_type="new")
    code = (folder / "modeling_llada.py").read_text().replace('model_type = "llada"', 'model_type = "new"')
    (folder / "modeling_llada.py").write_text(code)
    with pytest.raises(
        UserError, match=(r"nothing says which token of .+ is \[MASK\]: give its id " r"\(tzd\.load: mask_id=\)")
    ):
        tzd.load(folder, trust_remote_code=True)
    with pytest.raises(UserError, match=(r"has 320 tokens, so that \[MASK\] cannot be 320: give " "mask_id=")):
        tzd.load(folder, trust_remote_code=True, mask_id=320)
    model = tzd.load(folder, trust_remote_code=True, mask_id=302, shift=True)
    plain = models["llada"].logits(np.array([[1, 302, 5]]))
    np.testing.assert_array_equal(model.logits(np.array([[1, 302, 5]]))[:, 1:], plain[:, :-1])


def test_what_does_not_go_with_a_hub_model_is_one_line(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bert = folders["bert"]
    with pytest.raises(
        UserError, match=("models of the hub compute on the torch engine, not on mlx: leave out the engine")
    ):
        tzd.load(bert, engine="mlx")
    with pytest.raises(UserError, match="brings its own network: leave out denoiser="):
        tzd.load(bert, denoiser=torch.nn.Linear(1, 1))
    for path in (bert, f"hf:{bert}"):
        with pytest.raises(
            UserError,
            match=(
                "is a model of the hub: it writes and is scored as it is "
                r"\(tzd sample, tzd eval\), but it cannot be converted, "
                "nor trained from"
            ),
        ):
            tzd.convert(path, tmp_path / "out")
    with pytest.raises(
        UserError, match=("mask_id and shift are for models of the hub " r"\(hf:owner/name\); .+ says them itself")
    ):
        tzd.load(tmp_path, mask_id=4)
    with pytest.raises(
        UserError, match=("there is no folder .+; give one that exists, or a " r"repository of the hub \(owner/name\)")
    ):
        tzd.load(f"hf:{tmp_path}/missing")
    with pytest.raises(CheckpointError, match=r"config.json is missing"):
        tzd.load(f"hf:{tmp_path}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        MissingExtraError,
        match=(
            r"a model of the hub \(.+\) needs the extra 'hf': uv "
            r"sync --extra hf \(or pip install "
            r"'tinyzero-diffusion\[hf\]'\)"
        ),
    ):
        tzd.load(bert)


def test_commands_take_models_of_the_hub(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 3)
    assert main(["sample", f"hf:{folders['bert']}", "--prompt", "the sun", "--length", "8", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("the sun")
    assert main(["eval", f"hf:{folders['llada']}", "--data", str(text), "--trust-remote-code"]) == 0
    assert "bits per character" in capsys.readouterr().out
    assert main(["infill", str(folders["llada"]), "a _ b"]) == 2
    error = capsys.readouterr().err
    assert "--trust-remote-code" in error
    assert error.count("\n") == 1
