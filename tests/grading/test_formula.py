"""The formula of multi graders."""

import math

import pytest

from evals_async.grading.formula import FormulaError, evaluate


VALUES = {"a": 0.5, "b": 1.0, "similarity": 0.25}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("a", 0.5),
        (" 0.5 * similarity + 0.5*b ", 0.625),
        ("(a + b) / 2", 0.75),
        ("2 ^ 3", 8.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("1 + 2 ^ 2 * 3", 13.0),
        ("-a ^ 2", -0.25),
        ("+b - -b", 2.0),
        ("min(a, b, similarity)", 0.25),
        ("max(a)", 0.5),
        ("abs(0 - 2) + floor(1.9) + ceil(1.1)", 5.0),
        ("exp(0) + sqrt(4) + log(exp(2))", 5.0),
    ],
)
def test_a_formula_has_its_value(formula: str, value: float) -> None:
    """The four operations, `^` as power, and the eight functions."""
    assert math.isclose(evaluate(formula, VALUES), value)


@pytest.mark.parametrize(
    "formula",
    [
        *(
            "",
            "a +",
            "0.5 * a)",
            "unknown",
            "a b",
            "a = 1",
            "1 / 0",
            "sqrt(0 - 1)",
            "exp(1000)",
            "log(0)",
            "a if b else a",
        ),
        *("__import__('os')", "a.real", "[1][0]", "'text'", "True", "a < b", "a // b", "a % b", "1j", "min()", "f(1)"),
        *(
            "min(*[1])",
            "max(key=a)",
            "lambda: 1",
            "9 ^ 9 ^ 9 ^ 9",
            "(" * 300 + "a" + ")" * 300,
            "1+" * 600 + "1",
            "-" * 900,
        ),
        "1e999",
    ],
)
def test_what_is_no_formula_is_refused(formula: str) -> None:
    """Anything else, and anything without a finite value, raises, and nothing is executed."""
    with pytest.raises(FormulaError):
        evaluate(formula, VALUES)
