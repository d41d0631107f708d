"""The cost of tokens, with prices that the caller passes. Pure functions."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import attrs

from evals_async.comparison.outcomes import TokenCount
from evals_async.errors import InvalidArgument


PRICE = re.compile(r"(?P<model>[^=]+)=(?P<input>[0-9.]+)/(?P<output>[0-9.]+)(?:/(?P<cached>[0-9.]+))?")
MILLION = 1_000_000


@attrs.frozen
class TokenPrice:
    """The price per million tokens. `model` is the name of a model, or a pattern such as `gpt-4.1*`.

    `cached` is the price of cached prompt tokens; `None` means the same price as `input`. The currency is yours.
    """

    model: str
    input: float
    output: float
    cached: float | None = None

    @classmethod
    def of(cls, text: str) -> "TokenPrice":
        """Parse `MODEL=INPUT/OUTPUT` or `MODEL=INPUT/OUTPUT/CACHED`. Raises `InvalidArgument` for other texts."""
        found = PRICE.fullmatch(text)
        try:
            if found is not None:
                cached = None if found["cached"] is None else float(found["cached"])
                return cls(found["model"].strip(), float(found["input"]), float(found["output"]), cached)
        except ValueError:
            pass
        raise InvalidArgument(f"a price must be MODEL=INPUT/OUTPUT, per million tokens, got {text!r}")

    def cost(self, tokens: TokenCount) -> float:
        """Return the cost of these tokens, in the currency of the price."""
        cached = tokens.cached if self.cached is not None else 0
        prompt = (tokens.prompt - cached) * self.input + cached * (self.cached or 0.0)
        return (prompt + tokens.completion * self.output) / MILLION


@attrs.frozen
class Cost:
    """The cost of all models with a price, and the names of the models without one."""

    amount: float
    unpriced: tuple[str, ...]


def cost_of(tokens: Mapping[str, TokenCount], prices: Sequence[TokenPrice]) -> Cost | None:
    """Return the cost of tokens by model, or `None` without prices. The first matching price is used."""
    if not prices:
        return None
    amount, unpriced = 0.0, list[str]()
    for model, count in tokens.items():
        price = next((price for price in prices if fnmatchcase(model, price.model)), None)
        if price is None:
            unpriced.append(model)
        else:
            amount += price.cost(count)
    return Cost(amount, tuple(unpriced))
