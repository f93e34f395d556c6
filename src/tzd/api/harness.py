"""Models behind lm-evaluation-harness, the field's collection of tasks (extra `lm-eval`).

Importing this module makes the model `tzd` known to the harness. Its own command, with that model known:

    python -m tzd.api.harness --model tzd --model_args pretrained=runs/demo,draws=32 --tasks lambada_openai

`tzd eval CKPT --tasks lambada_openai` does the same in fewer words.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.api.model import Model, load
from tzd.api.scoring import log_likelihood, nelbo
from tzd.api.writing import sample
from tzd.corpus.chat import ChatTemplate, PairTokenizer
from tzd.errors import MissingExtraError, TzdError, UserError
from tzd.sampling import sampler as make_sampler
from tzd.sampling import stream

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from tqdm import tqdm
except ModuleNotFoundError as error:
    raise MissingExtraError("lm-evaluation-harness", "lm-eval") from error

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

# One blank a pass, the surest one, with its likeliest token: what "greedy" is without an order from left to right.
GREEDY: tuple[str, dict[str, Any]] = ("top-k", {"k": 1})
_BATCH, _DRAWS, _NEW_TOKENS = 32, 128, 256
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@register_model("tzd")
class HarnessModel(LM):
    """A model as lm-evaluation-harness asks it.

    Likelihoods are lower bounds, log p(answer | prompt) by `tzd.log_likelihood` and that of a whole text by
    `tzd.nelbo`; those of an autoregressive model (block diffusion with blocks of one token) are exact. All are of the
    same masks, so that the answers to a question are compared on equal terms.

    Args:
        pretrained: what `tzd.load` takes, or a model that it returned.
        batch_size: prompts that are answered at once.
        draws: masks for each answer, and for each window of a text. One where that is exact.
        seed: of all draws.
        engine: see `tzd.load`.
        precision: see `tzd.load`.
        trust_remote_code: see `tzd.load`.
        sampler: how answers are written; the surest blank of all, one a pass, if None.
        device: not heeded; the harness's command names one for every model. The engine takes the best there is.
        settings: the sampler's own; they have precedence over what a task asks for.
    """

    def __init__(
        self,
        pretrained: str | Path | Model,
        *,
        batch_size: int | str = _BATCH,
        draws: int = _DRAWS,
        seed: int = 0,
        engine: str | None = None,
        precision: str = "32",
        trust_remote_code: bool = False,
        sampler: str | None = None,
        device: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if isinstance(pretrained, Model):
            self.model = pretrained
        else:
            self.model = load(
                str(pretrained), engine=engine, precision=str(precision), trust_remote_code=trust_remote_code
            )
        self.batch_size = _BATCH if str(batch_size).startswith("auto") else _whole("batch_size", batch_size)
        self.draws = 1 if self.model.denoiser.block_len == 1 else _whole("draws", draws)
        self.seed = seed
        self.sampler = sampler or GREEDY[0]
        self.settings = settings if sampler else {**GREEDY[1], **settings}
        make_sampler(self.sampler, **self.settings)  # what is wrong with them is said at once

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of each (prompt, answer): a lower bound on log p(answer | prompt) in nats, and whether it is greedy.

        Spaces at a prompt's end belong to the answer, as elsewhere in the harness. A prompt that leaves the answer no
        room loses its beginning. An answer is greedy if the model writes it when each pass fills the one blank that it
        is surest of, with its likeliest token (LLaDA, arXiv:2502.09992, `suffix_greedy_prediction`); one of block
        diffusion does so block by block.

        Raises:
            UserError: an answer is empty, or longer than the model's window; or it stands where the model never learnt
                to predict.
        """
        pairs = [self._tokens(*request.args) for request in requests]
        greedy = self._greedy(pairs)
        answers = []
        asked = zip(requests, pairs, greedy, strict=True)
        for request, (prompt, answer), surest in tqdm(asked, "log p", len(pairs), disable=disable_tqdm or None):
            draws = 1 if len(answer) == 1 else self.draws
            found = log_likelihood(self.model, prompt, answer, draws=draws, seed=self.seed), bool(surest)
            self.cache_hook.add_partial("loglikelihood", request.args, found)
            answers.append(found)
        return answers

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Of each request's text: a lower bound on log p in nats, over windows that hold every token once.

        A window is scored without those before it, so that the bound is looser than that of a harness model which
        slides.

        Raises:
            UserError: the model never learnt to predict the beginning of a window.
        """
        context = self.model.denoiser.context_len
        if context:
            raise UserError(
                f"this model never learnt to predict the first {context} tokens, and gives no text a likelihood: take"
                " tasks that ask for the answer to a prompt"
            )
        found = []
        for request in tqdm(requests, "log p", disable=disable_tqdm or None):
            (text,) = request.args
            bound = nelbo(self.model, text, draws=self.draws, seed=self.seed) if text else None
            found.append(0.0 if bound is None else -bound.nats_per_token * bound.tokens)
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answer to each request's (prompt, how): `max_gen_toks` tokens, cut where the first of `until` begins.

        `do_sample` and `temperature` are as in the harness: 0 without sampling. What else a task asks for is taken as
        a setting of the sampler.

        Raises:
            UserError: the sampler has no such setting.
        """
        asked = [_Generation(*request.args) for request in requests]
        prompts = [self.model.encode(one.prompt) for one in asked]
        answers = [""] * len(asked)
        with tqdm(total=len(asked), desc="answers", disable=disable_tqdm or None) as bar:
            for start, part in _alike([one.how for one in asked], [len(p) for p in prompts], self.batch_size):
                one = asked[part[0]]
                given = [prompts[i] for i in part]
                how = {**one.settings, **self.settings}
                out = sample(
                    self.model, prompt=given, length=one.length, sampler=self.sampler, seed=self.seed + start, **how
                )
                for i, text in zip(part, out.answers, strict=True):
                    answers[i] = asked[i].cut(text)
                    self.cache_hook.add_partial("generate_until", requests[i].args, answers[i])
                bar.update(len(part))
        return answers

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, up to where the next answer begins.

        Raises:
            UserError: the model has no template, or the task begins the answer itself.
        """
        if not add_generation_prompt:
            raise UserError(
                "a task that begins the answer itself (gen_prefix) cannot be written by a chat template here"
            )
        return self._template().render(chat_history)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The template's source; nothing if it is not asked for."""
        return self._template().source if chat_template else ""

    @property
    def tokenizer_name(self) -> str:
        """Tells tokenizers apart, where the harness keeps requests."""
        if self.model.tokenizer is None:
            return ""
        described = json.dumps(self.model.tokenizer.describe(), sort_keys=True)
        return f"tzd-{self.model.tokenizer.kind}-{hashlib.sha256(described.encode()).hexdigest()[:16]}"

    def _template(self) -> ChatTemplate:
        tokenizer = self.model.tokenizer
        template = tokenizer.template if isinstance(tokenizer, PairTokenizer) else self.model.template
        if template is None:
            raise UserError("this model has no chat template: leave out --chat (apply_chat_template)")
        return template

    def _tokens(self, prompt: str, answer: str) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of a prompt and its answer, which fit into the model's window."""
        given = prompt.rstrip()
        whole, first = self.model.encode(prompt + answer), self.model.encode(given)
        scored, window = whole[len(first) :], self.model.denoiser.seq_len
        if not 1 <= len(scored) <= window:
            raise UserError(f"the answer {answer!r} has {len(scored)} tokens; this model scores 1 to {window}")
        before, context = whole[max(0, len(whole) - window) : len(first)], self.model.denoiser.context_len
        if len(before) < context:
            raise UserError(
                f"this model never learnt to predict the first {context} tokens: before the answer {answer!r} there are"
                f" {len(before)}"
            )
        return before, scored

    def _greedy(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """(N,) bool, the answers that the model writes when it takes what it is surest of."""
        name, settings = GREEDY
        rules, found = make_sampler(name, **settings), np.zeros(len(pairs), dtype=bool)
        for _, part in _alike(
            [len(answer) for _, answer in pairs], [len(p) + len(a) for p, a in pairs], self.batch_size
        ):
            lengths = np.array([sum(map(len, pairs[i])) for i in part])
            wanted = np.full((len(part), lengths.max()), self.model.mask_id)
            blank = np.zeros(wanted.shape, dtype=bool)
            for row, i in enumerate(part):
                wanted[row, : lengths[row]] = np.concatenate(pairs[i])
                blank[row, len(pairs[i][0]) : lengths[row]] = True
            canvas = np.where(blank, self.model.mask_id, wanted)
            right = np.ones(len(part), dtype=bool)
            for frame in stream(
                self.model.denoiser, canvas, frozen=~blank, lengths=lengths, sampler=rules, seed=self.seed
            ):
                right &= ((frame.tokens == wanted) | frame.masked).all(axis=1)
                if not right.any():  # what is wrong stays so
                    break
            found[part] = right
        return found


class _Generation:
    """What a request to generate asks for.

    Attributes:
        prompt: the text before the answer.
        until: texts that end it.
        length: new tokens.
        settings: of the sampler.
        how: what requests that are answered at once have in common.
    """

    def __init__(self, prompt: str, given: Mapping[str, Any]) -> None:
        rest = dict(given)
        until = rest.pop("until", None) or []
        lengths = [rest.pop(name, None) for name in _LENGTHS]
        sampled, temperature = rest.pop("do_sample", None), rest.pop("temperature", None)
        if sampled is None:
            sampled = bool(temperature)
        top = {"top_p": rest.pop("top_p", None), "top_k_tokens": rest.pop("top_k", None)}
        kept = {name: value for name, value in top.items() if sampled and value}
        self.prompt = prompt
        self.until = [until] if isinstance(until, str) else list(until)
        self.length = next((_whole("max_gen_toks", length) for length in lengths if length is not None), _NEW_TOKENS)
        self.settings = {
            "temperature": float(1 if temperature is None else temperature) if sampled else 0.0,
            **kept,
            **rest,
        }
        self.how = f"{self.length} {sorted(self.settings.items())}"

    def cut(self, text: str) -> str:
        """`text` up to the first of what ends it."""
        return text[: min((text.index(end) for end in self.until if end and end in text), default=len(text))]


def _alike(kinds: Sequence[Any], lengths: Sequence[int], batch_size: int) -> Iterator[tuple[int, list[int]]]:
    """Batches of one kind each, of similar lengths: (number of those before, indices)."""
    order = sorted(range(len(kinds)), key=lambda i: (kinds[i], lengths[i]))
    start = 0
    while start < len(order):
        part = [i for i in order[start : start + batch_size] if kinds[i] == kinds[order[start]]]
        yield start, part
        start += len(part)


def _whole(name: str, value: int | str) -> int:
    """A number of at least 1, which the harness may hand over as a text."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(f"{name} must be a whole number of at least 1, not {value!r}")
    return number


def main() -> int:
    """lm-evaluation-harness's own command, with the model `tzd` known to it."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except TzdError as error:
        print(f"tzd: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
