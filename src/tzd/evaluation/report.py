"""What a model is worth, in tables of Markdown: for a model card, or a log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_COLUMNS = {  # of texts -> what the table calls it, and by what it is multiplied
    "judge_nats_per_char": ("judge, nats per character", 1),
    "unigram_entropy": ("entropy, nats", 1),
    "repeated_within": ("8-grams again, %", 100),
    "repeated_across": ("in other texts, %", 100),
    "copied": ("20-grams copied, %", 100),
}


def kind_of(block_len: int) -> str:
    """What a model is, by the length of its blocks: 0 where it has none."""
    if block_len == 1:
        return "autoregressive, −log p"
    return f"block diffusion, {block_len} tokens, NELBO" if block_len else "masked diffusion, NELBO"


def markdown(report: Mapping[str, Any]) -> str:
    """A report as a page.

    Args:
        report: what `tzd report` measures: `model`, `data`, `length`, `draws`, `judge`, `samples`, `span`,
            `predictions`, `texts` (rows of `tzd.evaluation.frontier.to_rows`) and `infill`.
    """
    parts = [
        f"# {report['model']} on {report['data']}",
        "## Prediction",
        f"Windows of {report['length']} tokens that do not see each other hold every character once, a last one what is"
        f" left; {report['draws']} fixed mask{'s'[: report['draws'] != 1]} for each, stratified. A NELBO bounds −log p"
        " from above; that of an autoregressive model is exact. The test split is the half of the held-out text by"
        " which no checkpoint was chosen.",
        _predictions(report["predictions"]),
        "## Texts",
        f"{report['samples']:,} texts of {report['length']} tokens, judged by {report['judge']}. Likely is not good:"
        " a verdict is to be read beside the entropy and the repetition, and beside real text.",
        _texts(report["texts"]),
        "## Infilling",
        _infill(report["infill"], report["span"], report["length"]),
    ]
    return "\n\n".join(parts) + "\n"


def _predictions(rows: Sequence[Row]) -> str:
    head = ["model", "", "parameters", "step", "held out, nats per character", "bits", "test split, nats"]
    body = [
        [
            row["model"],
            kind_of(row["block_len"]),
            f"{row['parameters'] / 1e6:.2f}M",
            f"{row['step']:,}" if row["step"] is not None else "–",
            _number(row["held_out"], "nats_per_char", digits=4),
            f"{row['held_out']['nats_per_char'] / math.log(2):.4f}",
            _number(row["test"], "nats_per_char", digits=4),
        ]
        for row in rows
    ]
    return _table(head, body)


def _texts(rows: Sequence[Row]) -> str:
    head = ["", "NFE", *(title for title, _ in _COLUMNS.values())]
    body = [
        [
            row["label"],
            f"{row['nfe']:,.0f}" if row["nfe"] else "–",
            *(_number(row, name, scale=scale) for name, (_, scale) in _COLUMNS.items()),
        ]
        for row in rows
    ]
    return _table(head, body)


def _infill(row: Row, span: int, length: int) -> str:
    head = [f"of a gap of {span} in {length} tokens", "restored"]
    body = [["the model", _number(row, "infill_accuracy")], ["the commonest token", _number(row, "commonest_accuracy")]]
    return _table(head, body)


def _number(row: Row, name: str, *, scale: float = 1, digits: int = 3) -> str:
    value, error = row[name], row.get(f"{name}_stderr")
    if value is None:
        return "–"
    return f"{scale * value:.{digits}f}" + ("" if error is None else f" ± {scale * error:.{digits}f}")


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
