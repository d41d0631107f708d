"""The formula of a multi grader: `0.5 * similarity + 0.5 * min(exact, 1)`.

Python's parser parses it. Only numbers, the graders' names, `+ - * /`, `^` as power, and eight functions are allowed. A
formula is never executed as code.
"""

import ast
import math
from collections.abc import Callable, Mapping

from evals_async import EvalsError


LONGEST = 1000  # characters; this also limits the nesting


def least(*values: float) -> float:
    return min(values)


def greatest(*values: float) -> float:
    return max(values)


FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "min": least,
    "max": greatest,
    "abs": math.fabs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.Pow: math.pow,  # floats only, so that no number grows without limit
}


class FormulaError(EvalsError, ValueError):
    """The formula is invalid or has no value. The message has the reason."""


def evaluate(formula: str, values: Mapping[str, float]) -> float:
    """Return the value of a formula. `values` are the values of its names. Raises `FormulaError`."""
    if len(formula) > LONGEST:
        raise FormulaError(f"the formula has more than {LONGEST} characters")
    try:
        # In Python, ^ has a lower precedence than +, so it is replaced by ** before parsing.
        tree = ast.parse(formula.replace("^", "**").strip(), mode="eval")
        result = float(value_of(tree.body, values))
    except FormulaError:
        raise
    except (SyntaxError, ValueError, ArithmeticError, TypeError, RecursionError, MemoryError) as error:
        raise FormulaError(f"'{formula}' has no value: {error}") from None
    if not math.isfinite(result):
        raise FormulaError(f"'{formula}' has no finite value")
    return result


def value_of(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Name(id=name):
            raise FormulaError(f"there is no grader named {name}")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -value_of(operand, values)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return value_of(operand, values)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](value_of(left, values), value_of(right, values))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*(value_of(argument, values) for argument in arguments))
        case _:
            raise FormulaError(f"'{ast.unparse(node)}' is not allowed in a formula")
