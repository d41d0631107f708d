"""What tokens cost, by prices that the caller knows. Pure functions."""

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
    """The price of a million tokens of the models that `model` names: a name, or a pattern such as `gpt-4.1*`.

    `cached` is the price of prompt tokens that came out of a cache; `None`: as the others.
    """

    model: str
    input: float
    output: float
    cached: float | None = None

    @classmethod
    def of(cls, text: str) -> "TokenPrice":
        """`MODEL=INPUT/OUTPUT` or `MODEL=INPUT/OUTPUT/CACHED`. Raises `InvalidArgument`."""
        found = PRICE.fullmatch(text)
        try:
            if found is not None:
                cached = None if found["cached"] is None else float(found["cached"])
                return cls(found["model"].strip(), float(found["input"]), float(found["output"]), cached)
        except ValueError:
            pass
        raise InvalidArgument(f"{text!r} is no price: write MODEL=INPUT/OUTPUT, for a million tokens each")

    def cost(self, tokens: TokenCount) -> float:
        """What the tokens cost."""
        cached = tokens.cached if self.cached is not None else 0
        prompt = (tokens.prompt - cached) * self.input + cached * (self.cached or 0.0)
        return (prompt + tokens.completion * self.output) / MILLION


@attrs.frozen
class Cost:
    """The sum over the models with a price, and the names of those without."""

    amount: float
    unpriced: tuple[str, ...]


def cost_of(tokens: Mapping[str, TokenCount], prices: Sequence[TokenPrice]) -> Cost | None:
    """The cost of those tokens by model; of several prices that fit the first counts. `None` without prices."""
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
