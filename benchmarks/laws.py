"""Every sampler against exact laws: which are exact, and how far the others are from the text's own distribution.

    python -m benchmarks.laws                     # prints the table of docs/sampling.md; some minutes
    python -m benchmarks.laws --samples 100000

The denoiser is exact: that of a Markov chain over 3 symbols, of length 5, whose 243 sequences are enumerated
(tests/oracle.py). A sampler that is exact in theory is held to the chain's joint law, one that treats each position by
itself to its own law for so many steps, computed without sampling.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tzd.sampling import Sampler, descriptions, sampler

STEPS = 8
UNBIASED = "llada by confidence"  # what the published rule is but for its bias
STRIPES = "dilated by stripes"
EXACT: dict[str, dict[str, Any]] = {  # settings at which a sampler has the joint law
    "dilated": {"steps": 5},
    "first-hitting": {},
    "uniform-order": {"k": 1},
    "left-to-right": {"k": 1},
    "entropy-bound": {"gamma": 0.0},
    "llada-random": {"steps": 5},
    UNBIASED: {"steps": 5, "order": "confidence"},
    STRIPES: {"steps": 5, "order": "stripes"},
    "top-k": {"k": 1, "temperature": 1.0},
    "threshold": {"confidence_threshold": 1.0, "temperature": 1.0},
}
OTHERS: dict[
    str, dict[str, Any]
] = {  # the rest, drawn from the distribution where their default is the likeliest token
    "llada": {"steps": 5},
    "smdm-greedy": {"steps": 5},
    "dream-entropy": {"steps": 5},
    "dream-margin": {"steps": 5},
    "maskgit": {"steps": STEPS},
    "factor": {"temperature": 1.0},
    "klass": {"steps": 5, "temperature": 1.0},
    "p2": {"steps": STEPS},
    "remdm-conf": {"steps": STEPS, "top_p": 1.0},
    "mdlm-semi-ar": {"steps": STEPS},
}
LAWS = ("ancestral", "renoise", "remdm-cap", "remdm-rescale", "remdm-loop")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laws", description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000, help="of each sampler")
    parser.add_argument("--only", metavar="NAME", help="a single sampler")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from oracle import MarkovOracle, chi_square, total_variation

    oracle = MarkovOracle()
    print(f"| sampler | settings | its law | χ² p, {args.samples:,} samples | TV to the joint |\n|---|---|---|---|---|")
    for name in (*descriptions(), UNBIASED, STRIPES) if args.only is None else (args.only,):
        settings = EXACT.get(name, OTHERS.get(name, {"steps": STEPS, **({"top_p": 1.0} if "remdm" in name else {})}))
        rules = sampler(name.partition(" ")[0], **settings)
        alone = name in LAWS  # each position by itself: copies side by side are quicker
        counts = oracle.counts(rules, args.samples, seed=1, copies=8 if alone else 1)
        law = oracle.joint if name in EXACT else _law(oracle, rules) if alone else None
        kind = {True: "the joint", False: f"its {STEPS}-step law"}[name in EXACT] if law is not None else "no exact one"
        p = "–" if law is None else f"{chi_square(counts, law):.2f}"
        shown = ", ".join(f"`{key}={value}`" for key, value in settings.items())
        print(f"| `{name}` | {shown} | {kind} | {p} | {total_variation(counts, oracle.joint):.3f} |", flush=True)


def _law(oracle: Any, rules: Sampler) -> np.ndarray:
    """The exact law of a sampler that treats each position by itself."""
    steps = rules.steps
    t, s = np.arange(steps, 0, -1) / steps, np.arange(steps - 1, -1, -1) / steps
    alpha_t, alpha_s = 1 - t, 1 - s
    if rules.remask == "remdm-loop":
        edges = np.interp(-np.append(t, 0), [-1, -rules.t_on, -rules.t_off, 0], [0, rules.alpha_on, rules.alpha_on, 1])
        alpha_t, alpha_s = edges[:-1], edges[1:]
    largest = np.minimum(1, (1 - alpha_s) / np.maximum(alpha_t, 1e-12))
    eta = rules.eta or 0.0
    sigma = {
        None: np.zeros(steps),
        "renoise": 1 - alpha_s,
        "remdm-cap": np.minimum(eta, largest),
        "remdm-rescale": eta * largest,
        "remdm-loop": np.where((t > rules.t_off) & (t <= rules.t_on), np.minimum(eta, largest), 0),
    }[rules.remask]
    law: np.ndarray = oracle.law((alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t), 1 - sigma)
    return law


if __name__ == "__main__":
    main()
