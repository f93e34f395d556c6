"""The model `tzd` of lm-evaluation-harness, on tasks and models whose every number is known."""

import json
import math
import socket
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oracle import MarkovOracle
from tzd.api.model import Model
from tzd.cli import main
from tzd.corpus.chat import ChatTemplate
from tzd.corpus.tokenizers._characters import CharacterTokenizer
from tzd.diffusion.denoiser import FunctionDenoiser
from tzd.errors import UserError

pytest.importorskip("lm_eval")

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from tzd.api.harness import HarnessModel

ABC = CharacterTokenizer("char", "abc")
FIRST = np.array([0.5, 0.3, 0.2])
STEP = np.array([[0.1, 0.7, 0.2], [0.25, 0.15, 0.6], [0.8, 0.15, 0.05]])  # a -> b -> c -> a is the likeliest
WINDOW = 8


def chain() -> Model:
    """A Markov chain as an autoregressive model: exact likelihoods, and "abcabc…" where the likeliest is taken."""

    def logits(x: np.ndarray) -> np.ndarray:
        half = x.shape[1] // 2
        doubled = x.shape[1] % 2 == 0 and (x[:, half:] < 3).all()
        clean = x[:, half:] if doubled else x  # of [x_t ; x_0], or of a canvas that is filled from the left
        after = np.concatenate([STEP, np.full((1, 3), 1 / 3)])[clean[:, :-1]]
        p = np.concatenate([np.broadcast_to(FIRST, (len(x), 1, 3)), after], axis=1)
        return np.log(np.tile(p, (1, 2, 1)) if doubled else p)

    return Model(FunctionDenoiser(logits, 3, WINDOW, block_len=1), ABC)


def oracle() -> Model:
    """The exact denoiser of another chain, of length 5, which fills blanks in any order."""
    return Model(MarkovOracle().denoiser(), ABC)


def log_p(text: str) -> float:
    """By the chain, each window by itself."""
    total = 0.0
    for start in range(0, len(text), WINDOW):
        ids = ABC.encode(text[start : start + WINDOW])
        total += math.log(FIRST[ids[0]]) + sum(math.log(STEP[a, b]) for a, b in pairwise(ids))
    return total


def requests(*arguments: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=given) for given in arguments]


# --- what the harness asks a model -------------------------------------------------------------------------------


def test_an_autoregressive_model_says_the_exact_likelihood_of_an_answer() -> None:
    found = HarnessModel(chain()).loglikelihood(requests(("ab", "ca"), ("", "abc"), ("ba", "c"), ("ab", "cb")))
    expected = [log_p("abca") - log_p("ab"), log_p("abc"), log_p("bac") - log_p("ba"), log_p("abcb") - log_p("ab")]
    assert [value for value, _ in found] == pytest.approx(expected)
    assert [greedy for _, greedy in found] == [True, True, False, False]


def test_a_bound_of_one_token_is_exact_and_of_several_is_below_the_truth() -> None:
    law, model = MarkovOracle(), HarnessModel(oracle(), draws=400)
    (single, _), (several, _) = model.loglikelihood(requests(("abac", "b"), ("ab", "cbc")))
    tokens = ABC.encode("abacb")
    hidden = np.append(tokens[:4], 3)
    assert single == pytest.approx(math.log(law.conditionals[law.code(hidden), 4, tokens[4]]))
    joint = {text: law.joint[law.code(ABC.encode("ab" + "".join(text)))] for text in product("abc", repeat=3)}
    truth = math.log(joint["c", "b", "c"] / sum(joint.values()))
    assert several == pytest.approx(truth, abs=0.05)  # an exact denoiser's bound is tight; what is left is chance


def test_an_answer_is_greedy_if_the_surest_blank_is_filled_first() -> None:
    """Against a plain loop, for every answer to some prompts."""
    law, asked, expected = MarkovOracle(), [], []
    for prompt in ("", "b", "ca", "bbb"):
        tokens = np.append(ABC.encode(prompt), np.full(5 - len(prompt), 3)).astype(int)
        while (tokens == 3).any():
            p = law.conditionals[law.code(tokens)]
            at = max(np.flatnonzero(tokens == 3), key=lambda i: p[i].max())
            tokens[at] = p[at].argmax()
        for answer in map("".join, product("abc", repeat=5 - len(prompt))):
            asked.append((prompt, answer))
            expected.append(prompt + answer == ABC.decode(tokens))
    found = HarnessModel(oracle(), draws=1, batch_size=100).loglikelihood(requests(*asked))
    assert [greedy for _, greedy in found] == expected and sum(expected) == 4


def test_spaces_at_the_end_of_a_prompt_belong_to_the_answer_and_a_long_prompt_loses_its_beginning() -> None:
    tokenizer = CharacterTokenizer("char", " ab")
    model = Model(chain().denoiser, tokenizer)
    spaced, apart = HarnessModel(model).loglikelihood(requests(("ab  ", "a"), ("ab", "  a")))
    assert spaced == apart
    long, short = HarnessModel(chain()).loglikelihood(requests(("abcabcabcabcab", "ca"), ("abcab"[-6:], "ca")))
    assert long[0] == pytest.approx(math.log(STEP[1, 2] * STEP[2, 0])) and short == pytest.approx(long)
    with pytest.raises(UserError, match="has 9 tokens; this model scores 1 to 8"):
        HarnessModel(chain()).loglikelihood(requests(("a", "abcabcabc")))
    with pytest.raises(UserError, match="the answer '' has 0 tokens; this model scores 1 to 8"):
        HarnessModel(chain()).loglikelihood(requests(("a", "")))


def test_a_text_is_scored_in_windows_that_hold_every_token_once() -> None:
    texts = ("abcabc", "abcabcabcabccba", "b", "")
    found = HarnessModel(chain()).loglikelihood_rolling(requests(*((text,) for text in texts)))
    assert found == pytest.approx([log_p(text) if text else 0.0 for text in texts])
    prefixed = Model(FunctionDenoiser(chain().denoiser.function, 3, WINDOW, context_len=2), ABC)
    with pytest.raises(UserError) as refused:
        HarnessModel(prefixed).loglikelihood_rolling(requests(("abc",)))
    assert str(refused.value) == (
        "this model never learnt to predict the first 2 tokens, and gives no text a likelihood: take tasks that ask for"
        " the answer to a prompt"
    )
    with pytest.raises(
        UserError, match=("this model never learnt to predict the first 2 tokens: before the answer 'bc' there are 1")
    ):
        HarnessModel(prefixed).loglikelihood(requests(("ab", "c"), ("a", "bc")))


def test_an_answer_ends_where_the_first_of_what_ends_it_begins() -> None:
    model = HarnessModel(chain(), batch_size=2)
    found = model.generate_until(
        requests(
            ("a", {"until": ["ab", "ca"], "max_gen_toks": 7}),
            ("ab", {"until": "", "max_new_tokens": 4}),
            ("abc", {"until": [], "max_gen_toks": 4}),
            ("abcabcab", {"until": ["zz"], "max_gen_toks": 3, "do_sample": False, "temperature": 0.9}),
        )
    )
    assert found == ["b", "cabc", "abca", "cab"]


def test_sampling_is_as_the_task_has_it_and_as_the_model_was_given() -> None:
    asked = requests(*[("a", {"until": [], "max_gen_toks": 1, "do_sample": True, "temperature": 1.0})] * 2000)
    drawn = HarnessModel(chain(), batch_size=500).generate_until(asked)
    share = np.array([drawn.count(letter) for letter in "abc"]) / 2000
    assert share == pytest.approx(STEP[0], abs=4 * 0.5 / math.sqrt(2000))
    assert HarnessModel(chain(), temperature=0).generate_until(asked[:5]) == ["b"] * 5
    cut = HarnessModel(chain()).generate_until(
        requests(*[("a", {"until": [], "max_gen_toks": 1, "do_sample": True, "top_k": 1})] * 5)
    )
    assert cut == ["b"] * 5
    with pytest.raises(UserError, match="sampler 'top-k' has no setting 'num_beams'"):
        HarnessModel(chain()).generate_until(requests(("a", {"num_beams": 4})))
    with pytest.raises(UserError, match="sampler 'llada' has no setting 'stepz'"):
        HarnessModel(chain(), sampler="llada", stepz=4)
    with pytest.raises(UserError, match="batch_size must be a whole number of at least 1, not 'many'"):
        HarnessModel(chain(), batch_size="many")


def test_a_conversation_is_written_by_the_template_of_the_model() -> None:
    source = (
        "{% for m in messages %}{{ m.role[0] }}{{ m.content }}|{% endfor %}{% if add_generation_prompt %}A{% endif %}"
    )
    model = HarnessModel(Model(chain().denoiser, ABC, template=ChatTemplate(source, {})))
    said = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]
    assert model.apply_chat_template(said) == "uab|ac|A"
    assert model.chat_template(True) == source and model.chat_template(False) == ""
    assert model.tokenizer_name.startswith("tzd-char-") and model.tokenizer_name == HarnessModel(chain()).tokenizer_name
    with pytest.raises(
        UserError,
        match=(r"a task that begins the answer itself \(gen_prefix\) cannot " "be written by a chat template here"),
    ):
        model.apply_chat_template(said, add_generation_prompt=False)
    with pytest.raises(
        UserError, match=("this model has no chat template: leave out --chat " r"\(apply_chat_template\)")
    ):
        HarnessModel(chain()).apply_chat_template(said)


# --- tasks -------------------------------------------------------------------------------------------------------

CHOICES = [("ab", 2), ("bc", 0), ("ca", 2), ("ba", 1)]  # prompt, the right one of a, b, c
ROLLING = ["abcabc", "abcabcabcabccba"]
ANSWERS = [("ab", "c"), ("abc", "abc"), ("abca", "bc")]  # answers end at "a", or after 3 tokens


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    rows = {
        "pick": [{"prompt": prompt, "right": right} for prompt, right in CHOICES],
        "roll": [{"text": text} for text in ROLLING],
        "write": [{"prompt": prompt, "answer": answer} for prompt, answer in ANSWERS],
    }
    texts = {
        "pick": "output_type: multiple_choice\ndoc_to_text: '{{prompt}}'\ndoc_to_target: right\n"
        "doc_to_choice: ['a', 'b', 'c']\nmetric_list:\n  - metric: acc\n",
        "roll": "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\nmetric_list:\n"
        "  - metric: byte_perplexity\n  - metric: bits_per_byte\n",
        "write": "output_type: generate_until\ndoc_to_text: '{{prompt}}'\ndoc_to_target: '{{answer}}'\n"
        "generation_kwargs:\n  until: ['ab']\n  max_gen_toks: 3\nmetric_list:\n  - metric: exact_match\n",
    }
    for name, text in texts.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows[name])
        (folder / f"{name}.jsonl").write_text(lines)
        head = (
            f"task: tzd_{name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {folder}/{name}.jsonl\n"
        )
        (folder / f"{name}.yaml").write_text(f"{head}test_split: test\ntarget_delimiter: ''\n{text}")
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What was looked for over the network."""
    tried: list[Any] = []

    def refuse(*address: Any, **_: Any) -> None:
        tried.append(address)
        raise OSError("there is no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


def test_the_command_runs_local_tasks_and_prints_their_known_numbers(
    tasks: Path, offline: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tzd.cli.writing.load_model", lambda *_: chain())
    names = "tzd_pick,tzd_roll,tzd_write"
    assert main(["eval", "some/model", "--tasks", names, "--include-path", str(tasks), "--json"]) == 0
    out = capsys.readouterr().out
    values = json.loads(out.splitlines()[-1])
    right = [STEP[ABC.encode(prompt)[-1]].argmax() == answer for prompt, answer in CHOICES]
    assert values["results"]["tzd_pick"]["acc,none"] == np.mean(right) == 0.75
    nats, characters = -sum(map(log_p, ROLLING)), sum(map(len, ROLLING))
    roll = values["results"]["tzd_roll"]
    assert roll["byte_perplexity,none"] == pytest.approx(math.exp(nats / characters))
    assert roll["bits_per_byte,none"] == pytest.approx(nats / characters / math.log(2))
    # "abcab" and "cab" end before "ab": "c"; "abc" + "abc" is cut to nothing; "abca" goes on "bca"
    assert values["results"]["tzd_write"]["exact_match,none"] == pytest.approx(1 / 3)
    assert values["n-samples"]["tzd_pick"]["effective"] == 4 and "|tzd_pick" in out
    assert offline == []


def test_a_limit_and_one_s_own_sampler_reach_the_harness(
    tasks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tzd.cli.writing.load_model", lambda *_: chain())
    flags = ["--sampler", "llada", "--steps", "3", "--batch-size", "2", "--limit", "1", "--json"]
    assert main(["eval", "m", "--tasks", "tzd_wr*", "--include-path", str(tasks), *flags]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert values["results"]["tzd_write"]["exact_match,none"] == 1.0 and values["limit"] == 1
    assert (values["sampler"], values["settings"], values["draws"]) == ("llada", {"steps": 3}, 1)


def test_the_harness_knows_the_model_by_name(tasks: Path, tmp_path: Path) -> None:
    from runs import train

    path = train(tmp_path / "small").path
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    found = simple_evaluate(
        model="tzd", model_args=f"pretrained={path},draws=2,steps=2,sampler=llada", tasks=["tzd_pick"],
        device="cpu", task_manager=manager, bootstrap_iters=0,
    )  # fmt: skip
    assert found is not None and found["config"]["model"] == "tzd"
    assert 0 <= found["results"]["tzd_pick"]["acc,none"] <= 1


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        pytest.param(
            ["--tasks", "tzd_pik", "--include-path", "TASKS"], 2, "there is no task 'tzd_pik' (did you mean 'tzd_pi",
            marks=pytest.mark.slow,  # reads the harness's whole catalogue
        ),
        (["--tasks", "tzd_pick", "--include-path", "nowhere"], 2, "nowhere is no folder (--include-path)"),
        (["--tasks", " ,"], 2, "--tasks: name a task at least"),
        (["--tasks", "a", "--limit", "0"], 2, "--limit must be at least 1, not 0"),
        (["--tasks", "a", "--num-fewshot", "-1"], 2, "--num-fewshot must be at least 0, not -1"),
        (["--tasks", "a", "--data", "b"], 2, "--tasks brings its own texts"),
        (["--tasks", "tzd_pick", "--include-path", "TASKS", "--chat"], 2, "this model has no chat template"),
        (["--tasks", "tzd_broken", "--include-path", "BROKEN"], 1, "the tasks tzd_broken cannot be run (FileNot"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_one_line(
    flags: list[str], code: int, message: str, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("tzd.cli.writing.load_model", lambda *_: chain())
    (tmp_path / "broken.yaml").write_text((tasks / "pick.yaml").read_text().replace("pick", "broken"))
    places = {"TASKS": str(tasks), "BROKEN": str(tmp_path)}
    assert main(["eval", "m", *(places.get(flag, flag) for flag in flags)]) == code
    err = capsys.readouterr().err
    assert f"tzd: {message}" in err and "Traceback" not in err


def test_without_the_extra_one_line_names_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "tzd.api.harness")
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    assert main(["eval", "m", "--tasks", "a"]) == 1
    assert "needs the extra 'lm-eval': uv sync --extra lm-eval" in capsys.readouterr().err
