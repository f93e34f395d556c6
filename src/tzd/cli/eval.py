"""`tzd eval CKPT`: what a model is worth, by how it predicts a text, by what it writes, or by the field's tasks."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tzd.cli import measuring, writing
from tzd.config import DataSettings
from tzd.corpus import PARTS
from tzd.corpus.chat import Message, PairTokenizer
from tzd.corpus.conversations import find_file, open_pairs, read_lines
from tzd.errors import UserError

if TYPE_CHECKING:
    from tzd.api import Model

# What can be measured beside a text's NELBO, and what each flag is for; where it is for nothing asked, it is an error.
MEASURES = ("infill", "gen_ppl", "tasks")
_TEXTS, _TASKS = ("infill", "gen_ppl"), ("tasks",)
ONLY_FOR = {
    "prompt_key": ("data",),
    "answer_key": ("data",),
    "draws": ("data", "tasks"),
    "split": ("data", *_TEXTS),
    "data_dir": ("data", *_TEXTS),
    "judge": ("gen_ppl",),
    "span": ("infill",),
    "length": _TEXTS,
    "samples": _TEXTS,
    "include_path": _TASKS,
    "limit": _TASKS,
    "num_fewshot": _TASKS,
    "chat": _TASKS,
    "batch_size": MEASURES,
    "sampler": MEASURES,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    writing.add_checkpoint_argument(parser)
    text = parser.add_argument_group("how well it predicts a text: its NELBO")
    text.add_argument(
        "--data",
        metavar="X",
        help="a corpus by name: its validation split is scored; or a file: all of it is. For a model of prompts and"
        " answers: a .jsonl of such",
    )
    text.add_argument(
        "--split",
        choices=PARTS,
        help="of a named corpus (default validation), or of a .jsonl; held-out is validation and test as one text",
    )
    text.add_argument("--prompt-key", metavar="KEY", help="of a .jsonl (default: as in training)")
    text.add_argument("--answer-key", metavar="KEY", help="of a .jsonl (default: as in training)")
    text.add_argument("--data-dir", metavar="FOLDER", help="look here first for a corpus")
    text.add_argument(
        "--draws",
        type=int,
        metavar="N",
        help="masks per window (default 8; 1 where the likelihood is exact), or per answer of a task (128)",
    )
    wrote = parser.add_argument_group("what it writes, beside real text: --data, or what it was trained on")
    wrote.add_argument("--infill", action="store_true", help="how much of a gap in real text it restores")
    wrote.add_argument("--span", metavar="N,N", help="tokens of the gap (default: an eighth of the text)")
    wrote.add_argument("--gen-ppl", action="store_true", help="what a judge says of its texts, and how varied they are")
    wrote.add_argument(
        "--judge", metavar="CKPT", help="an autoregressive model (objective=block objective.block_len=1)"
    )
    wrote.add_argument("--samples", type=int, metavar="N", help="texts (default 1024)")
    wrote.add_argument("--length", type=int, metavar="N", help="tokens of a text; the model's window if not given")
    tasks = parser.add_argument_group("tasks of lm-evaluation-harness (extra lm-eval)")
    tasks.add_argument("--tasks", metavar="A,B", help="their names")
    tasks.add_argument("--include-path", type=Path, metavar="FOLDER", help="of tasks of your own, as YAML")
    tasks.add_argument("--limit", type=int, metavar="N", help="questions of each task; all if not given")
    tasks.add_argument("--num-fewshot", type=int, metavar="N", help="examples before a question; as the task has it")
    tasks.add_argument("--chat", action="store_true", help="write prompts by the tokenizer's chat template")
    parser.add_argument("--batch-size", type=int, metavar="N", help="texts or prompts at a time")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default 0)")
    writing.add_sampler_arguments(parser)
    writing.add_model_arguments(parser)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measures what was asked for; a text's NELBO, if nothing else was."""
    _check(args)
    if args.tasks is not None:
        from tzd.cli import eval_tasks

        return eval_tasks.run(args)
    if args.infill or args.gen_ppl:
        from tzd.cli import eval_samples

        return eval_samples.run(args)
    return _score(args)


def _check(args: argparse.Namespace) -> None:
    """UserError for flags that do not go together."""
    asked = [name for name in MEASURES if getattr(args, name)]
    if "tasks" in asked and (len(asked) > 1 or args.data is not None):
        raise UserError("--tasks brings its own texts: leave out --data, --infill and --gen-ppl, or ask for them apart")
    if not asked and args.data is None:
        raise UserError("say what to measure: --data X, --infill, --gen-ppl or --tasks A,B")
    asked = asked or ["data"]
    given = {name for name in ONLY_FOR if (value := getattr(args, name)) is not None and value is not False}
    given |= {"sampler"} if writing.settings(args) else set()
    for name, measures in ONLY_FOR.items():
        if name in given and not set(measures) & set(asked):
            raise UserError(f"{_flag(name)} is for {', '.join(map(_flag, measures))}; leave it out")
    if args.gen_ppl and args.judge is None:
        raise UserError(
            "--gen-ppl needs --judge CKPT, an autoregressive model of the same corpus:"
            " tzd train objective=block objective.block_len=1"
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _score(args: argparse.Namespace) -> int:
    """Prints the NELBO of a text."""
    from tzd import answers_nelbo, nelbo

    model = writing.load_model(args, args.checkpoint)
    exact = model.denoiser.block_len == 1  # autoregressive: all masks are one, and give its likelihood
    draws = args.draws if args.draws is not None else 1 if exact else 8
    if isinstance(model.tokenizer, PairTokenizer) and args.data.endswith(".jsonl"):
        pairs = _pairs(args, model)
        bound = answers_nelbo(model, pairs, draws=draws, seed=args.seed)
        print(f"{args.data}: {len(pairs):,} answer{'s'[: len(pairs) != 1]}, {bound.tokens:,} tokens with their ends")
    else:
        if args.prompt_key is not None or args.answer_key is not None:
            raise UserError(
                "--prompt-key and --answer-key are for a .jsonl and a model of prompts and answers (data=pairs)"
            )
        real = measuring.real_text(args.data, split=args.split, data_dir=args.data_dir)
        bound = nelbo(model, real.text, draws=draws, seed=args.seed)
        print(f"{real.what}: {len(real.text):,} characters, {bound.tokens:,} tokens")
    stderr = bound.stderr if math.isfinite(bound.stderr) else None  # one window, masked once, has none
    error = "" if stderr is None else f" ± {stderr:.4f}"
    name = "-log p" if exact else "NELBO"
    print(f"{name} {bound.nats_per_token:.4f}{error} nats per token")
    if bound.bits_per_char is not None:
        print(f"{'':<{len(name)}} {bound.bits_per_char:.4f} bits per character")
    if args.json:
        values = {name: getattr(bound, name) for name in ("nats_per_token", "bits_per_char", "tokens")}
        print(json.dumps({**values, "stderr": stderr}))
    return 0


def _pairs(args: argparse.Namespace, model: Model) -> list[tuple[Sequence[Message], str]]:
    """Prompts and answers of a file."""
    trained = (model.provenance or {}).get("run", {}).get("data", {})
    keys = {name: trained[name] for name in ("prompt_key", "answer_key", "messages_key") if name in trained}
    given = {name: getattr(args, name) for name in ("prompt_key", "answer_key") if getattr(args, name) is not None}
    settings = DataSettings(name="pairs", path=args.data, data_dir=args.data_dir, **{**keys, **given})
    if args.split is not None:
        splits = open_pairs(settings).splits
        pairs = [pair for split in PARTS[args.split] for pair in splits[split]]
    else:
        pairs = [pair for turns in read_lines(find_file(args.data, args.data_dir), settings) for pair in turns]
    return [(pair.messages, pair.answer) for pair in pairs]
