"""What is typed, and the line that is said of it, word by word."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from running import TEXT, Run

SAID = [
    ("sample model --length 1000000001", "length must be at most 1,000,000,000, not 1000000001"),
    ("sample model --num-samples 1000001", "batch_size must be at most 1,000,000, not 1000001"),
    ("sample model --length 0", "length must be at least 1, not 0"),
    ("sample model --seed -1", "seed must be at least 0, not -1"),
    ("sample model --ban ab", "ban='ab' is 2 tokens, and only single tokens can be banned"),
    ("sample model --save-trace x.txt", "cannot write x.txt: a trace ends in .npz"),
    ("sample model --sampler llada --steps 2.5", "steps cannot be 2.5; it takes a whole number"),
    ("plan --tflops 1 --measure", "--tflops says how fast a device is, and --measure finds out: give one of them"),
    ("plan --vocab-size 9 training.max_steps=1 --measure", "--measure trains on the corpus: leave out --vocab-size"),
    ("plan --vocab-size 9 training.max_steps=1 devices=all", "training.devices=all: a plan takes a number of devices"),
    (
        "plan --vocab-size 9 training.max_steps=1 devices=-1",
        "training.devices=-1: a plan takes a number of devices, at least 1",
    ),
    ("plan --vocab-size 0", "--vocab-size must be at least 1, not 0"),
    ("plan --tflops 0", "--tflops must be positive, not 0.0"),
    ("plan --mfu 2", "--mfu must lie in (0, 1], not 2.0"),
    ("plan --vocab-size 100", "without a corpus nothing says how long an epoch is: set training.max_steps"),
    (
        "plan model.n_layer",
        "cannot read 'model.n_layer': a setting is KEY=VALUE; put a value with spaces, = or brackets in quotes",
    ),
    (
        "plan model=3=4",
        "cannot read 'model=3=4': a setting is KEY=VALUE; put a value with spaces, = or brackets in quotes",
    ),
    ("plan hydra.verbose=1", "hydra.verbose=1: Hydra's own settings are for sweeps: add --multirun, or leave it out"),
    ("plan +model=tiny", "'model' is chosen already, at least as null: choose with model=PRESET, without +"),
    (
        "plan model.n_layer=[1",
        "cannot read 'model.n_layer=[1': a setting is KEY=VALUE; put a value with spaces, = or brackets in quotes",
    ),
    ("train model.n_layer=many", "model.n_layer cannot be 'many'; it takes a whole number or null"),
    ("mlx_training.py --weights .npz", "--weights .npz is an ending without a name: call it NAME.npz"),
    ("mlx_training.py --weights folder", "--weights folder: only .npz can be written; give a name that ends in it"),
    (
        "mlx_training.py --weights a.npz --state-path a.npz",
        "--state-path a.npz must name a folder of its own, beside a.npz and its .json",
    ),
    (
        "mlx_training.py --weights ab.npz",
        "ab.json exists, and the weights' description goes there: remove it, or name other --weights",
    ),
    (
        "mlx_training.py --weights a.npz --resume",
        "there are no weights at a.npz to go on with: leave out --resume to begin anew",
    ),
    (
        "mlx_training.py --weights a.npz --state-path folder",
        "folder is not empty and holds no run to go on with: remove it, or name another --state-path",
    ),
    (
        "mlx_sample.py --prompt aaaaaaaaaaaaaaaaaa",
        "--prompt leaves nothing to write in the model's window of 16 tokens: shorten it",
    ),
    ("mlx_sample.py --num-blocks 0", "--num-blocks must be at least 1, not 0"),
    (
        "eval model --data text.txt --prompt-key x",
        "--prompt-key and --answer-key are for a .jsonl and a model of prompts and answers (data=pairs)",
    ),
    ("eval model --data empty.txt", "empty.txt is empty: there is nothing to read"),
    ("eval model --data folder", "folder is a folder; --data takes one file of it, or a corpus by name"),
    ("eval model --data text.txt --split test", "--split is for a named corpus; text.txt is a file, and scored whole"),
    ("eval model --infill", "nothing says which text the model was trained on: name the corpus (--data)"),
    (
        "eval model --gen-ppl",
        "--gen-ppl needs --judge CKPT, an autoregressive model of the same corpus: tzd train objective=block "
        "objective.block_len=1",
    ),
    (
        "eval model --data text.txt --tasks a",
        "--tasks brings its own texts: leave out --data, --infill and --gen-ppl, or ask for them apart",
    ),
    ("eval model --infill --data text.txt --span 0", "--span 0: give whole numbers from 1 to 15, separated by commas"),
    ("eval model --data text.txt --samples 3", "--samples is for --infill, --gen-ppl; leave it out"),
    ("eval model --data text.txt --draws 0", "draws must be at least 1, not 0"),
    ("bench samplers model --budgets few", "--budgets few: give whole numbers of steps, separated by commas"),
    (
        "bench samplers model --samplers :",
        "unknown sampler '' (known: ancestral, dilated, dream-entropy, dream-margin, entropy-bound, factor, "
        "first-hitting, klass, left-to-right, llada, llada-random, maskgit, mdlm-semi-ar, p2, remdm-cap, "
        "remdm-conf, remdm-loop, remdm-rescale, renoise, smdm-greedy, threshold, top-k, uniform-order)",
    ),
    ("bench train --minutes 0", "--minutes must be a number above 0, not 0"),
    ("bench train --json none/x.json", "--json none/x.json: there is no folder none"),
    ("bench train --json folder", "--json folder: it cannot be written there"),
    ("bench train --rounds 0", "--rounds must be at least 1, not 0"),
    ("compare model --ar model", "model is no autoregressive model: it was not trained with objective.block_len=1"),
    ("compare model model", "give one model, or traces alone, not 2 (another text is --prompt)"),
    ("compare none.npz other.npz", "there is no trace none.npz: give files that --save-trace wrote"),
    (
        "compare model --samplers dilated:steps",
        "'steps' in 'dilated:steps' is no setting: write NAME:KEY=VALUE:KEY=VALUE",
    ),
    (
        "convert text.txt there --sampling dilated,llada",
        "--sampling dilated,llada: name one sampler, with its settings behind colons",
    ),
    ("convert text.txt .npz", "cannot write .npz: it is an ending without a name; call it NAME.npz, or a folder"),
    ("convert text.txt there --dtype int4", "weights cannot be stored as 'int4' (did you mean 'int8'?)"),
    ("report model --judge judge --draws 0", "--draws must be at least 1, not 0"),
    ("report model --judge judge --beside a,,b", "--beside a,,b: write paths with a comma between them"),
    ("plot text.txt", "cannot read text.txt/metrics.csv: Not a directory; give a run folder"),
    ("plot none", "cannot read none/metrics.csv: No such file or directory; give a run folder"),
    ("plot folder", "cannot read folder/metrics.csv: No such file or directory; give a run folder"),
    ("plot folder --smooth 0", "--smooth must be at least 1, not 0"),
    (
        "life model --size 3q",
        "argument --size: '3q' is no size: lines x columns, such as 32x48 (see 'tzd life --help')",
    ),
    ("life model --size 0", "a side of the board must be at least 3, not 0"),
    ("life model --size 9999", "a board of 9999x9999 is too large: 256 cells a side at most"),
    (
        "life model --size 8x99",
        "the model's window of 16 tokens is shorter than a line of the board, 99: give a size of 8x16 at most",
    ),
    (
        "life model --size 8 --pattern none",
        "unknown pattern 'none' (known: acorn, beacon, blinker, block, diehard, glider, gosper-gun, "
        "pentadecathlon, pulsar, r-pentomino, random, spaceship, text, toad); files of patterns end in "
        ".cells or .rle",
    ),
    (
        "life model --size 8 --pattern bad.rle",
        "bad.rle, line 1: cells begin with a line 'x = WIDTH, y = HEIGHT, rule = B3/S23'",
    ),
    ("life model --interval 3 --speed 3", "--interval and --speed say the same: give one of them"),
    ("life model --interval 0", "--interval must be above 0 milliseconds, not 0"),
    ("life model --iterations -1", "--iterations must be at least 0, not -1"),
    ("life model --endless --save a.gif", "--endless never gets to writing a file: give --iterations with --save"),
    ("life model --speed 0", "--speed must lie in 0.01..1000 frames a second, not 0"),
    (
        "life model --save a.txt",
        "cannot write a.txt: a file that shows frames ends in .gif, .mp4, .html, .png, .svg or .pdf",
    ),
    ("life model --save none/a.gif", "cannot write none/a.gif: there is no folder none; make it first"),
    ("watch model --blocks 0", "--blocks must be at least 1, not 0"),
    ("watch model --length 3 --blocks 2", "--length and --blocks exclude each other: leave one of them out"),
    ("watch model --endless --batch-size 2", "--endless writes one text: leave --batch-size out"),
    ("watch model --infill a_c --prompt x", "--infill does not go with --prompt: leave one of them out"),
    ("infill model abc", "the text has no blank: write '_' for every token that is to be filled in"),
    ("infill model a_c --mask ab", "the mask must be a single character, not 'ab'"),
    (
        "corpus build text.txt --tokenizer byte --workers 1 --out folder",
        "folder exists already; choose another --out, or remove it",
    ),
    (
        "corpus build text.txt --tokenizer byte --workers 1 --out .",
        ". exists already; choose another --out, or remove it",
    ),
    (
        "corpus build text.txt --tokenizer byte --workers 1 --out shards",
        "shards.part exists: another build is writing there, or one was killed; wait for it, or remove it",
    ),
    (
        "corpus build text.txt --tokenizer byte --workers 1 --out a --validation 0.6 --test 0.6",
        "--validation 0.6 and --test 0.6: the shares held out must be positive, and below 1 together",
    ),
    (
        "corpus build text.txt --tokenizer byte --workers 1 --out a --shard-tokens 0",
        "a shard takes at least 1 token, not 0 (--shard-tokens)",
    ),
    ("corpus build text.txt --tokenizer byte --workers -1 --out a", "--workers must lie in 0..4096, not -1"),
    (
        "corpus build text.txt --tokenizer byte --workers 1 --out a --separator=",
        "an empty separator separates nothing; without --separator a file is a document",
    ),
    (
        "corpus build text.txt --tokenizer byte --workers 1 --out a --separator '\\r'",
        "every line of a text is read with \\n at its end: --separator cannot hold \\r",
    ),
    ("corpus build text.txt --tokenizer bytes --out a", "unknown --tokenizer 'bytes' (did you mean 'byte'?)"),
    ("corpus build text.txt --tokenizer bpe --out a", "--tokenizer bpe needs --vocab-size"),
    (
        "corpus build text.txt --tokenizer byte --vocab-size 3 --out a",
        "--vocab-size belongs to --tokenizer bpe, not byte; leave it out",
    ),
    (
        "corpus build empty.txt --tokenizer byte --out a --workers 1",
        "the sources hold 0 documents, and three splits need at least 3: name more files, or say what ends a "
        "document in a text file (--separator '\\n\\n': a blank line)",
    ),
    ("corpus check folder", "folder holds no index.json: it is no folder of shards; make one with tzd corpus build"),
    ("corpus check none", "none holds no index.json: it is no folder of shards; make one with tzd corpus build"),
    ("corpus show text", "the corpus 'text' needs a path: data.path=FILE, FOLDER, GLOB or FILE,FILE (--data)"),
    ("corpus show pydocs --data x", "the corpus 'pydocs' takes no path; data.path=x goes with data.name=text"),
    ("demo --steps 0", "training.max_steps must be at least 1, not 0"),
    ("demo --seed -1", "seed must not be negative, not -1"),
    ("plan --config-name none", "there is no configuration 'none' (--config-name) in configs/ or among tzd's own"),
    ("demo --engine none", "unknown engine=none (known: mlx, torch)"),
    ("bench samplers model --samples 0", "--samples must be at least 1, not 0"),
    ("bench samplers model --batch-size -1", "--batch-size must be at least 1, not -1"),
    ("life model --size 8 --density 2", "density must lie in [0, 1], not 2.0"),
]


@pytest.fixture
def files(tmp_path: Path) -> None:
    """What some of the commands name."""
    for name, text in {"text.txt": TEXT, "empty.txt": "", "ab.json": "{}", "bad.rle": "3o!"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("x")
    (tmp_path / "shards.part").mkdir()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("typed", "line"), SAID)
def test_what_cannot_be_done_is_told_word_by_word(typed: str, line: str, idle: Run):
    result = idle(*shlex.split(typed))
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"tzd: {line}\n")
