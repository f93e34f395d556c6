"""Prompts and answers: reading them, their rows, their noise, and what is measured of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tzd
from oracles import tabular_denoiser
from pairs import CHATML, hub_folder, reversals, settings_for, words, write_rows
from runs import config_in
from tzd.api import Model
from tzd.config import DataSettings, ObjectiveSettings, TokenizerSettings
from tzd.configs import compose
from tzd.corpus import load_tokenizer, make_tokenizer
from tzd.corpus.chat import ChatTemplate, PairTokenizer, read_template, user_says
from tzd.corpus.conversations import Pair, open_pairs
from tzd.corpus.pairs import tokenize
from tzd.corpus.windows import Batch
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.diffusion.likelihood import exact_nelbo, nelbo
from tzd.diffusion.objective import OBJECTIVES, Objective
from tzd.errors import CheckpointError, ConfigError, CorpusError, UserError
from tzd.training.task import make_task


def read(path: Path, **settings: Any) -> dict[str, list[Pair]]:
    return dict(open_pairs(DataSettings(name="pairs", path=str(path), **settings)).splits)


def bytes_tokenizer(template: str | None = None) -> PairTokenizer:
    special = {"bos_token": "^", "eos_token": "$"}
    base = make_tokenizer(TokenizerSettings("byte"), None)  # type: ignore[arg-type]
    return PairTokenizer(base, None if template is None else ChatTemplate(template, special))


def pairs_of(*texts: tuple[str, str]) -> list[Pair]:
    return [Pair(user_says(prompt), answer, "here") for prompt, answer in texts]


# --- reading -------------------------------------------------------------------------------------------------------


def test_every_row_of_a_file_is_in_one_split_and_in_the_order_of_the_file(tmp_path: Path) -> None:
    splits = read(reversals(tmp_path / "r.jsonl"))
    assert {name: len(pairs) for name, pairs in splits.items()} == {"train": 226, "validation": 13, "test": 13}
    answers = [pair.answer for name in ("train", "validation", "test") for pair in splits[name]]
    assert answers == [word[::-1] for word in words()]
    assert splits["train"][1].where.endswith("r.jsonl, line 2")


def test_each_turn_of_the_assistant_answers_all_that_was_said_before(tmp_path: Path) -> None:
    says = [("system", "s"), ("user", "u1"), ("assistant", "a1"), ("user", "u2"), ("assistant", "a2"), ("user", "u3")]
    row = {"messages": [{"role": role, "content": content} for role, content in says]}
    splits = read(write_rows(tmp_path / "chat.jsonl", [row] * 3))
    for pairs in splits.values():  # the turns of a conversation stay together
        assert [(len(pair.messages), pair.answer) for pair in pairs] == [(2, "a1"), (4, "a2")]
        assert [message["content"] for message in pairs[1].messages] == ["s", "u1", "a1", "u2"]


def test_keys_can_be_named(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "r.jsonl", [{"q": f"{i}", "a": "x"} for i in range(3)])
    assert read(file, prompt_key="q", answer_key="a")["test"][0].messages == user_says("2")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 3 is no JSON"),
        ("[1]", r"line 3 is no JSON object, \{...\}, but list"),
        ('{"prompt": "a"}', "line 3: 'answer' is missing"),
        (
            '{"prompt": "a", "anwser": "b"}',
            (
                r"line 3: 'answer' is missing \(did you mean 'anwser'\?\); name the right key "
                r"\(answer_key\), or mend the row"
            ),
        ),
        ('{"prompt": 1, "answer": "b"}', "line 3: 'prompt' is no text"),
        (
            '{"prompt": "a", "answer": ""}',
            ("line 3: 'answer' is empty: there is no answer to learn; remove the row, or mend it"),
        ),
        (
            '{"messages": [{"role": "user"}]}',
            ("line 3, messages: a conversation is a list of " r'\{"role": TEXT, "content": TEXT\}; mend the row'),
        ),
        ('{"messages": "hello"}', "line 3, messages: a conversation is a list of"),
        (
            '{"messages": [{"role": "user", "content": "a"}]}',
            ("line 3, messages: no message is the assistant's, so that there is no answer to learn; remove the row"),
        ),
    ],
)
def test_a_bad_line_is_named_with_what_it_lacks(line: str, complaint: str, tmp_path: Path) -> None:
    good = json.dumps({"prompt": "a", "answer": "b"})
    (tmp_path / "bad.jsonl").write_text(f"{good}\n\n{line}\n{good}\n{good}\n")
    with pytest.raises(CorpusError, match=f"bad.jsonl, {complaint}"):
        read(tmp_path / "bad.jsonl")


def test_two_rows_are_too_few_for_three_splits_and_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=(": there are 2 rows; to train, validate and test takes at least 3")):
        read(write_rows(tmp_path / "few.jsonl", [{"prompt": "a", "answer": "b"}] * 2))
    with pytest.raises(
        CorpusError,
        match=(r"no such file or folder: nowhere\.jsonl .+; check the path, or set TZD_DATA_DIR"),
    ):
        read(Path("nowhere.jsonl"))
    with pytest.raises(
        CorpusError,
        match=("is a folder; pairs are read from one file of JSON lines " r"\(data\.path\), or data\.dataset"),
    ):
        read(tmp_path)
    with pytest.raises(
        CorpusError,
        match=(r"pairs come from data\.path=FILE\.jsonl or from " r"data\.dataset=NAME: give one of the two"),
    ):
        open_pairs(DataSettings(name="pairs"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves a file open
def test_datasets_of_the_library_are_read_with_their_own_splits(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    rows = [{"prompt": f"{i}>", "answer": f"<{i}"} for i in range(40)]
    for split, part in {"train": rows[:36], "validation": rows[36:38], "test": rows[38:]}.items():
        write_rows(tmp_path / f"{split}.jsonl", list(part))
    splits = open_pairs(DataSettings(name="pairs", dataset=str(tmp_path))).splits
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [36, 2, 2]
    assert splits["test"][1].answer == "<39" and splits["test"][1].where.endswith("test row 1")

    import pyarrow as pa
    from pyarrow import csv, parquet

    table = pa.Table.from_pylist(rows)
    parquet.write_table(table, tmp_path / "rows.parquet")
    csv.write_csv(table, tmp_path / "rows.csv")
    for name in ("rows.parquet", "rows.csv"):
        pairs = open_pairs(DataSettings(name="pairs", dataset=str(tmp_path / name))).splits
        assert [len(pairs[name]) for name in ("train", "validation", "test")] == [36, 2, 2]
        assert pairs["test"][1].answer == "<39"
    with pytest.raises(
        CorpusError,
        match=(
            r"data\.dataset=.+ cannot be had \(Couldn't find any data "
            r"file at .+\); give a name on the hub \(and data\.subset, "
            r"where it has several\), a folder, or a file that ends in "
            r"\.csv, \.json, \.jsonl, \.parquet, \.txt"
        ),
    ):
        open_pairs(DataSettings(name="pairs", dataset=str(tmp_path / "none.parquet")))


# --- tokens --------------------------------------------------------------------------------------------------------


def test_an_end_is_added_where_a_tokenizer_has_none_and_a_checkpoint_holds_it(tmp_path: Path) -> None:
    base = make_tokenizer(TokenizerSettings("char"), open_pairs(_settings(reversals(tmp_path / "r.jsonl"))))
    tokenizer = PairTokenizer(base)
    assert (tokenizer.vocab_size, tokenizer.eos_id, base.vocab_size) == (8, 7, 7)
    row = np.append(tokenizer.encode("ab>ba"), [7, 7])
    assert tokenizer.decode(row) == "ab>ba" and tokenizer.pieces(row)[-3:] == ["a", "", ""]
    for name, content in tokenizer.files().items():
        (tmp_path / name).write_bytes(content)
    description = json.loads(json.dumps(tokenizer.describe()))
    assert load_tokenizer(description, tmp_path) == tokenizer
    with pytest.raises(CheckpointError, match="those of another one"):
        load_tokenizer({**description, "eos_id": 3}, tmp_path)
    with pytest.raises(
        CheckpointError, match=(": the description of its tokenizer is damaged; get the checkpoint again")
    ):
        load_tokenizer({**description, "base": description}, tmp_path)


def _settings(file: Path) -> DataSettings:
    return DataSettings(name="pairs", path=str(file))


def test_a_tokenizer_of_the_hub_ends_texts_its_own_way_and_brings_its_template(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "hub")
    file = write_rows(tmp_path / "r.jsonl", [{"prompt": f"q{i}", "answer": f"a{i}"} for i in range(20)])
    changes = {
        "data.name": "pairs",
        "data.block_size": 40,
        "model.block_size": 40,
        "data.path": str(file),
        "tokenizer.name": "hf",
        "tokenizer.pretrained_model_name_or_path": str(folder),
    }
    task = make_task(config_in(tmp_path / "run", changes))
    tokenizer = task.tokenizer
    assert isinstance(tokenizer, PairTokenizer) and tokenizer.vocab_size == tokenizer.base.vocab_size
    assert tokenizer.eos_id == tokenizer.encode("<end>").tolist()[0]
    row = task.data.validation[0].tokens[0]  # type: ignore[union-attr]
    assert tokenizer.decode(row) == "<s><user>q18<end>\n<assistant>a18"
    assert tokenizer.prompt(user_says("q"), chat=False).tolist() == tokenizer.encode("q").tolist()

    for name, content in tokenizer.files().items():
        (tmp_path / name).write_bytes(content)
    again = load_tokenizer(tokenizer.describe(), tmp_path)
    assert isinstance(again, PairTokenizer) and again.template == tokenizer.template
    (tmp_path / "chat_template.jinja").write_text("another")
    with pytest.raises(CheckpointError, match="those of another one"):
        load_tokenizer(tokenizer.describe(), tmp_path)
    plain = make_task(config_in(tmp_path / "run", {**changes, "data.chat_template": False}))
    assert plain.tokenizer.decode(plain.data.validation[0].tokens[0]) == "q18a18"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="'byte' has none"):
        bytes_ = {"data.name": "pairs", "data.path": str(file), "tokenizer.name": "byte", "data.chat_template": True}
        make_task(config_in(tmp_path / "run", bytes_))


def test_a_template_can_also_lie_in_the_configuration_alone_or_among_several(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    assert read_template(tmp_path) is None
    config.write_text(json.dumps({"chat_template": "one", "eos_token": "$", "bos_token": None}))
    assert read_template(tmp_path) == ChatTemplate("one", {"eos_token": "$"})
    several = [{"name": "tool_use", "template": "two"}, {"name": "default", "template": "three"}]
    config.write_text(json.dumps({"chat_template": several}))
    assert read_template(tmp_path) == ChatTemplate("three", {})
    config.write_text("{")
    with pytest.raises(
        CorpusError,
        match=(
            "the chat template in .+ cannot be read: Expecting "
            "property name enclosed in double quotes: line 1 column 2 "
            r"\(char 1\); get the file again"
        ),
    ):
        read_template(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ raise_exception('no system messages') }}",
        "{% for m in messages %}",
        "{{ strftime_now('%Y') }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_runs_no_code_and_what_it_gets_wrong_is_one_line(source: str) -> None:
    with pytest.raises(CorpusError, match="chat template") as raised:
        ChatTemplate(source, {}).render(list(user_says("a")))
    assert "\n" not in str(raised.value)


def test_templates_are_written_as_transformers_writes_them() -> None:
    utilities = pytest.importorskip("transformers.utils.chat_template_utils")
    source = (
        "{%- set ns = namespace(first=true) -%}\n{% for message in messages %}\n  {% if loop.first and true %}\n"
        "{{ message | tojson }}|{% endif %}\n{{- message['content'] | trim + eos_token }}\n"
        "{% if message.role == 'system' %}{% continue %}{% endif %}x\n{% endfor %}\n"
        "{% if add_generation_prompt %}<a>{% endif %}"
    )
    messages = [{"role": "system", "content": " ü "}, {"role": "user", "content": "b"}]
    (theirs,), _ = utilities.render_jinja_template(
        [messages], chat_template=source, add_generation_prompt=True, eos_token="$"
    )
    assert ChatTemplate(source, {"eos_token": "$"}).render(messages) == theirs


# --- rows ----------------------------------------------------------------------------------------------------------


def test_a_row_is_prompt_answer_and_ends_and_all_but_the_prompt_may_be_masked() -> None:
    tokenizer = bytes_tokenizer()
    rows = tokenize(pairs_of(("ab", "c"), ("", "def")), tokenizer, 5)
    scored = rows.evaluation()
    expected = [[97, 98, 99, 256, 256], [100, 101, 102, 256, 256]]
    assert scored.tokens.tolist() == expected
    assert scored.maskable.astype(int).tolist() == [[0, 0, 1, 1, 0], [1, 1, 1, 1, 0]]  # one end is scored
    batch = rows.batch(0, 2)
    for tokens, maskable in zip(*batch, strict=True):
        trained = {97: [0, 0, 1, 1, 1], 100: [1, 1, 1, 1, 1]}  # all ends are learnt
        assert maskable.astype(int).tolist() == trained[int(tokens[0])] and tokens.tolist() in expected
    assert rows.characters_per_token == 4 / 6


def test_each_epoch_is_a_permutation_and_a_row_depends_on_seed_and_number_alone() -> None:
    pairs = pairs_of(*((f"{i:02d}", "x") for i in range(30)))
    rows, other = (tokenize(pairs, bytes_tokenizer(), 4, seed=seed) for seed in (1, 2))
    epochs = [rows.batch(first, 30).tokens for first in (0, 30)]
    assert all(len(np.unique(epoch, axis=0)) == 30 for epoch in epochs)
    assert (epochs[0] != epochs[1]).any() and (epochs[0] != other.batch(0, 30).tokens).any()
    np.testing.assert_array_equal(rows.batch(25, 10).tokens, np.concatenate(epochs)[25:35])


def test_pairs_that_no_window_holds_are_counted_and_named_and_left_out_only_when_told() -> None:
    pairs = pairs_of(("ab", "cd"), ("abc", "defg"), ("abcd", "ef"))
    with pytest.raises(
        CorpusError,
        match=(
            "2 of 3 pairs, with their end-of-text token, are longer "
            r"than a row of 5; the longest \(here\) takes 8: leave them "
            r"out \(data\.too_long=drop in training\), or train on "
            r"longer rows \(data\.block_size\)"
        ),
    ):
        tokenize(pairs, bytes_tokenizer(), 5)
    rows = tokenize(pairs, bytes_tokenizer(), 5, drop=True)
    assert (rows.per_epoch, rows.dropped, rows.characters) == (1, 2, 2)
    assert tokenize(pairs, bytes_tokenizer(), 8).per_epoch == 3  # one end fits exactly


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_in(tmp_path, settings_for(tmp_path, **{"data.block_size": 6, "data.too_long": "drop"}))
    make_task(config, progress=True)
    assert "216 of 252 pairs are left out: longer than data.block_size" in capsys.readouterr().err


def test_what_does_not_go_with_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set model\.time_steps=0"):
        make_task(config_in(tmp_path, settings_for(tmp_path, **{"model.time_steps": 8})))
    with pytest.raises(ConfigError, match=r"objective\.context_len=2 is for texts"):
        make_task(config_in(tmp_path, settings_for(tmp_path, **{"objective.context_len": 2})))
    with pytest.raises(ConfigError, match="too_long must be error or drop"):
        config_in(tmp_path, {"data.too_long": "cut"})
    with pytest.raises(ConfigError, match="unconditional must lie in"):
        config_in(tmp_path, {"objective.unconditional": 1.0})


def test_the_preset_trains_on_the_bound_and_hides_a_tenth_of_the_prompts() -> None:
    config = compose(["data=pairs", "data.path=x"], folders=())
    assert (config.data.name, config.objective.name, config.objective.unconditional) == ("pairs", "nelbo", 0.1)
    config = compose(["data=pairs", "objective=pooled", "objective.unconditional=0"], folders=())
    assert (config.objective.name, config.objective.unconditional) == ("pooled", 0)


# --- noise ---------------------------------------------------------------------------------------------------------

MASK = 9
X_0 = np.tile(np.arange(8), (64, 1))
MASKABLE = (np.arange(64) % 6 + 1)[:, None] <= X_0  # prompts of 1 to 6 tokens


@pytest.mark.parametrize("name", OBJECTIVES)
def test_prompts_are_never_masked_and_have_no_weight(name: str) -> None:
    noised = Objective(ObjectiveSettings(name)).noise(X_0, MASKABLE, mask_id=MASK, seed=0, step=3)
    assert (noised.x_t == X_0)[~MASKABLE].all() and (noised.weight == 0)[~MASKABLE].all()
    assert ((noised.weight > 0) == (noised.x_t == MASK)).all() and (noised.weight > 0).any()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_share_of_whole_rows_has_its_prompt_hidden_and_the_loss_stays_where_it_was(name: str) -> None:
    share, hidden = 0.25, []
    for step in range(50):
        plain, guided = (
            Objective(ObjectiveSettings(name, unconditional=p)).noise(X_0, MASKABLE, mask_id=MASK, seed=0, step=step)
            for p in (0.0, share)
        )
        np.testing.assert_array_equal(plain.weight, guided.weight)
        assert (plain.x_t == guided.x_t)[MASKABLE].all()
        gone = (guided.x_t == MASK) & ~MASKABLE
        assert (gone.any(axis=1) == (gone | MASKABLE).all(axis=1)).all()  # the whole prompt or none of it
        hidden.append(gone.any(axis=1))
    assert np.mean(hidden) == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / 3200))
    assert len({tuple(row) for row in hidden}) == 50  # other rows at every step


def test_hidden_prompts_are_hidden_from_both_halves_of_block_diffusion_and_no_target_is_a_mask() -> None:
    settings = {"name": "block", "block_len": 4}
    plain, guided = (
        Objective(ObjectiveSettings(**settings, unconditional=p)).noise(X_0, MASKABLE, mask_id=MASK, seed=0, step=0)
        for p in (0.0, 0.5)
    )
    np.testing.assert_array_equal(guided.x_0, np.tile(X_0, 2))
    np.testing.assert_array_equal(guided.weight, plain.weight)
    gone = (guided.x_t != plain.x_t).any(axis=1)
    assert 0 < gone.mean() < 1
    np.testing.assert_array_equal((guided.x_t == MASK)[gone], (plain.x_t == MASK)[gone] | ~np.tile(MASKABLE, 2)[gone])


def test_the_loss_is_divided_by_the_answer_then_by_the_rows() -> None:
    weight = np.mean(
        [
            Objective(ObjectiveSettings("exact_k")).noise(X_0, MASKABLE, mask_id=MASK, seed=0, step=step).weight
            for step in range(2000)
        ],
        axis=0,
    )
    expected = np.where(MASKABLE, 1 / MASKABLE.sum(axis=1, keepdims=True) / len(X_0), 0)
    np.testing.assert_allclose(weight, expected, atol=0.15 * expected.max())
    assert weight.sum() == pytest.approx(1, rel=1e-3)


def test_guidance_asks_for_what_unconditional_training_has_shown() -> None:
    noised = Objective(ObjectiveSettings("exact_k", unconditional=0.999)).noise(
        X_0, MASKABLE, mask_id=MASK, seed=0, step=0
    )
    seen: list[np.ndarray] = []

    def record(tokens: np.ndarray) -> np.ndarray:
        seen.append(tokens)
        return np.zeros((*tokens.shape, 8))

    model = tzd.from_function(record, vocab_size=8, seq_len=8, mask_id=MASK)
    tzd.sample(model, prompt=X_0[:1, :2], length=6, sampler="llada", steps=1, cfg_scale=1.0)
    (conditional, unconditional), *_ = seen
    assert conditional.tolist() == [0, 1, *[MASK] * 6] and unconditional.tolist() == [MASK] * 8
    row = next(i for i in np.flatnonzero(X_0[:, 0] == 0) if not MASKABLE[i, 1] and MASKABLE[i, 2])
    assert (noised.x_t[row, :2] == MASK).all()


# --- what is measured ----------------------------------------------------------------------------------------------


def test_a_uniform_model_needs_log_V_for_each_token_of_an_answer() -> None:
    rows = tokenize(pairs_of(("ab", "c"), ("", "def"), ("abc", "d")), bytes_tokenizer(), 7)
    uniform = FunctionDenoiser(lambda x: np.zeros((*x.shape, 257)), 257, 7)
    bound = nelbo(uniform, [rows.evaluation()], draws=3, characters=rows.characters)
    assert bound.nats_per_token == pytest.approx(np.log(257), rel=1e-12)
    assert (bound.tokens, bound.sequences) == (2 + 4 + 2, 3)
    assert bound.bits_per_char == pytest.approx(8 * np.log2(257) / 5)


def test_a_model_that_knows_the_answers_needs_nothing_and_never_sees_where_they_end() -> None:
    rows = tokenize(pairs_of(("ab", "c"), ("xy", "def"), ("uvw", "t")), bytes_tokenizer(), 9)
    answers = {bytes(row[:2].astype(np.uint8)): row for row in rows.evaluation().tokens}

    def oracle(tokens: np.ndarray) -> np.ndarray:
        known = np.array([answers[bytes(row[:2].astype(np.uint8))] for row in tokens])
        first_end = (known == 256).argmax(axis=1)[:, None]
        assert (tokens[np.arange(9) > first_end] == 257).all()  # what pads the row
        return np.where(np.arange(257) == known[..., None], 50.0, 0.0)

    assert nelbo(FunctionDenoiser(oracle, 257, 9), [rows.evaluation()], draws=4).nats_per_token < 1e-12


def test_the_bound_on_an_answer_is_the_enumerated_one() -> None:
    denoiser = tabular_denoiser(3, 6, seed=2)
    tokens, prompt, answer = np.array([0, 1, 2, 0, 1, 1]), 2, slice(2, 5)

    def answers(x: np.ndarray) -> np.ndarray:
        whole = np.concatenate([np.tile(tokens[:prompt], (len(x), 1)), x, np.full((len(x), 1), 3)], axis=1)
        return np.asarray(denoiser.function(whole))[:, answer]

    exact = exact_nelbo(FunctionDenoiser(answers, 3, 3), tokens[answer])
    scored = np.isin(np.arange(6), np.arange(6)[answer])
    batch = Batch(np.tile(tokens, (3000, 1)), np.tile(scored, (3000, 1)))
    bound = nelbo(denoiser, [batch], draws=4)
    assert abs(bound.nats_per_token - exact / 3) < 4 * bound.stderr and bound.stderr < 0.02


def test_answers_are_scored_by_a_model_of_pairs_alone() -> None:
    tokenizer = bytes_tokenizer(CHATML)
    uniform = FunctionDenoiser(lambda x: np.zeros((*x.shape, 257)), 257, 40)
    bound = tzd.answers_nelbo(Model(uniform, tokenizer), [("a", "bc"), (list(user_says("a")), "de")])
    assert (bound.tokens, bound.nats_per_token) == (6, pytest.approx(np.log(257)))
    with pytest.raises(
        UserError,
        match=("this model was not trained on prompts and answers " r"\(data=pairs\): it cannot end an answer"),
    ):
        tzd.answers_nelbo(Model(uniform, tokenizer.base), [("a", "b")])
    with pytest.raises(UserError, match="there is nothing to score"):
        tzd.answers_nelbo(Model(uniform, tokenizer), [])


def test_log_likelihood_asks_with_the_prompt_as_in_training() -> None:
    asked = []

    def logits(tokens: np.ndarray) -> np.ndarray:
        asked.append(bytes(tokens[0, :-2].astype(np.uint8)).decode())
        return np.zeros((*tokens.shape, 257))

    denoiser = FunctionDenoiser(logits, 257, 40)
    for template, prompt in ((None, "ab"), (CHATML, "^<user>ab$\n<assistant>")):
        bound = tzd.log_likelihood(Model(denoiser, bytes_tokenizer(template)), "ab", "ba", draws=2)
        assert bound == pytest.approx(-2 * np.log(257)) and asked[-1] == prompt


def test_every_measure_scores_no_more_rows_at_once_than_their_logits_have_room_for() -> None:
    rows: list[int] = []

    def logits(tokens: np.ndarray) -> np.ndarray:
        rows.append(len(tokens))
        return np.zeros((*tokens.shape, 257))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tzd.api.scoring.LOGITS", 3 * 257 * 9)
        model = Model(FunctionDenoiser(logits, 257, 9), bytes_tokenizer())
        tzd.answers_nelbo(model, [("a", "b")] * 4)
        tzd.log_likelihood(model, "a", "b", draws=8)
        tzd.nelbo(model, "abcdefgh" * 9)
    assert max(rows) == 3


# --- what is written -----------------------------------------------------------------------------------------------


def writer(answer: str, template: str | None = None, seq_len: int = 40) -> tuple[Model, list[np.ndarray]]:
    """A model that writes an answer, its end, and a z behind it; and the canvases that it has seen."""
    tokenizer, seen = bytes_tokenizer(template), []
    said = np.append(tokenizer.encode(answer), tokenizer.eos_id)

    def logits(tokens: np.ndarray) -> np.ndarray:
        seen.append(tokens)
        begin = (seen[0] == 257).argmax(axis=1)[0]
        wanted = np.full(tokens.shape[1], ord("z"))
        wanted[begin : begin + len(said)] = said
        return np.broadcast_to(np.where(np.arange(257) == wanted[:, None], 50.0, 0.0), (*tokens.shape, 257))

    return Model(FunctionDenoiser(logits, 257, seq_len), tokenizer), seen


def test_an_answer_ends_at_its_end_and_fills_the_window() -> None:
    model, _ = writer("ba")
    out = tzd.sample(model, prompt="ab>", temperature=0, batch_size=2)
    assert out.text == ["ab>ba", "ab>ba"] and out.answers == ["ba", "ba"]
    assert out.tokens.shape == (2, 40)
    assert tzd.sample(writer("ba")[0], prompt="ab>", length=4, temperature=0).tokens.shape == (1, 7)
    with pytest.raises(UserError, match=("the prompt has 3 tokens, and leaves no room in the model's window of 3")):
        tzd.sample(writer("ba", seq_len=3)[0], prompt="ab>")


def test_prompts_and_conversations_of_different_lengths_are_answered_in_one_batch() -> None:
    tokenizer, end = bytes_tokenizer(), 256

    def answers(tokens: np.ndarray) -> np.ndarray:  # a prompt of n letters is answered by n times its first
        at, n = np.arange(tokens.shape[1]), (tokens == ord(">")).argmax(axis=1)[:, None]
        wanted = np.where((at > n) & (at <= 2 * n), tokens[:, :1], end)
        return 50.0 * (np.arange(257) == wanted[:, :, None])

    model = Model(FunctionDenoiser(answers, 257, 16), tokenizer)
    prompts = ["ab>", user_says("cdef>"), "g>"]
    out = tzd.sample(model, prompt=prompts, temperature=0)
    assert out.answers == ["aa", "cccc", "g"] and out.text == ["ab>aa", "cdef>cccc", "g>g"]
    assert out.lengths.tolist() == [16] * 3  # each fills the window
    short = tzd.sample(model, prompt=prompts, length=3, temperature=0)
    assert short.answers == ["aa", "ccc", "g"] and short.lengths.tolist() == [6, 8, 5]


def test_rows_whose_answers_have_ended_cost_no_more_passes() -> None:
    model, _ = writer("ba")
    whole, blocks = ({"sampler": "llada", "steps": 36, "block_len": n} for n in (36, 4))
    assert tzd.sample(model, prompt="ab>", length=36, temperature=0, **whole).nfe == 36
    out = tzd.sample(writer("ba")[0], prompt="ab>", length=36, temperature=0, **blocks)
    assert out.answers == ["ba"] and out.nfe == 4  # of nine blocks the first
    assert (out.tokens[0, 7:] == 256).all()
    hub = Model(
        writer("b\nccccccc")[0].denoiser, bytes_tokenizer().base, ends=(7, ord("\n"), 10**6)
    )  # as Dream has two
    out = tzd.sample(hub, prompt="ab>", length=36, temperature=0, **blocks)
    assert (out.answers, out.nfe, out.tokens[0, 7:].tolist()) == (["b"], 4, [7] * 32)


def test_a_prompt_is_written_as_in_training_unless_told_otherwise() -> None:
    prompts = {None: "^<user>ab$\n<assistant>", True: "^<user>ab$\n<assistant>", False: "ab"}
    for chat, text in prompts.items():
        model, seen = writer("ba", CHATML)
        assert tzd.sample(model, prompt="ab", chat=chat, temperature=0).answers == ["ba"]
        assert bytes(seen[0][0, : len(text)].astype(np.uint8)).decode() == text
    model, seen = writer("x", CHATML)
    says = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert tzd.sample(model, prompt=says, temperature=0).text == ["^<system>s$\n<user>u$\n<assistant>x"]
    with pytest.raises(UserError, match=("the tokenizer has no chat template: write the prompt plainly, as it is")):
        tzd.sample(writer("x")[0], prompt="a", chat=True)
    with pytest.raises(UserError, match=(r'a conversation is a list of \{"role": TEXT, "content": ' r"TEXT\}")):
        tzd.sample(model, prompt=[{"role": "user"}])
    plain = Model(model.denoiser, make_tokenizer(TokenizerSettings("byte"), None))  # type: ignore[arg-type]
    with pytest.raises(
        UserError,
        match=("this model was not trained on prompts and answers: give a " r"plain text \(no chat, no messages\)"),
    ):
        tzd.sample(plain, prompt="a", chat=True)


def test_an_end_before_given_text_does_not_end_an_infilling() -> None:
    model, _ = writer("b")
    assert tzd.infill(model, "a__c", temperature=0).text == ["abc"]
