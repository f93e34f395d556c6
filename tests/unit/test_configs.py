from __future__ import annotations

import time

import pytest

from tzd.configs import compose
from tzd.configs.arithmetic import calculate
from tzd.errors import ConfigError


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-7 // 2", -4),
        ("7 % 4 - 2 ** 3", -5),
        ("2 ** -1", 0.5),
        ("1e-3 * 2", 0.002),
        ("max(3, 4.5, 1)", 4.5),
        ("int(8 / 3 * 512)", 1365),
        ("round(2.567, 1)", 2.6),
        ("min(2, +1)", 1),
        (5, 5),
        (0.5, 0.5),
    ],
)
def test_a_formula_has_its_value(formula: object, value: float):
    assert calculate(formula) == value
    assert type(calculate(formula)) is type(value)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('true')",
        "().__class__",
        "(1).__class__",
        "open('x')",
        "n_embd * 4",
        "[1, 2]",
        "'a' * 9",
        "b'a' * 9",
        "lambda: 1",
        "1 if 1 else 2",
        "1 < 2",
        "True + 1",
        "not 1",
        "~1",
        "1 << 9",
        "max(*[1, 2])",
        "max(1, key=2)",
        "min()",
        "max",
        "max(1)",
        "int(1, 2)",
        "round(1, 2.5)",
        "round(5, -(9 ** 9))",
        "(x := 3)",
        "f'{1}'",
        "1j",
        "(-8) ** 0.5",
        "9 ** 9 ** 9",
        "(9 ** 99) ** 99",
        "2.0 ** 9999",
        "9" * 400,
        "1e999",
        "1e308 * 10",
        "1e308 * 10 - 1e308 * 10",
        "1 / 0",
        "1 // 0.0",
        "0 ** -1",
        "",
        "1 +",
        "1; 2",
        "1\n2",
        "\0",
        "(" * 250 + "1" + ")" * 249,
        "-" * 499 + "1" + "+",
        "10 ** 300 / 10 ** -300 * 10 ** 300 * 10 ** 300",
        None,
        True,
    ],
)
def test_what_is_no_formula_is_one_line_at_once_and_runs_nothing(formula: object):
    begun = time.perf_counter()
    with pytest.raises(ConfigError) as error:
        calculate(formula)
    assert "\n" not in " ".join(str(error.value).split()) and str(error.value)
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize("name", ["calc", "oc.eval"])
def test_a_configuration_computes_with_other_settings(name: str):
    config = compose(
        ["model.n_embd=96", "model.n_head=4", f"model.intermediate_size='${{{name}:\"int(${{model.n_embd}} * 8/3)\"}}'"],
        folders=(),
    )
    assert config.model.intermediate_size == 256
