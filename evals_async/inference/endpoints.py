"""The model map: the endpoint for each model name. It is read from TOML, and checked before any request.

[models."gpt-4.1"] base_url = "http://127.0.0.1:8000/v1" model = "my-deployment" api_key_env = "EVALS_MODEL_API_KEY"
prices = { input = 2.0, output = 8.0 }
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import attrs

from evals_async import ConfigurationError
from evals_async._json import as_object


API_KEY_ENV = "EVALS_MODEL_API_KEY"
CONCURRENCY = 32  # concurrent calls per endpoint
PRICES = ("input", "cached_input", "output")
NO_TEXTS: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Endpoint:
    """The endpoint of a model: its URL, model name, key and prices.

    `base_url` is the base of the OpenAI API; `/chat/completions` and other paths are added. `model` is the model name
    at the endpoint. Its default is the requested name. `api_key_env` is the *name* of the environment variable with the
    key; without it no key is sent. `prices` are per million tokens: `input`, `output`, and `cached_input` (default:
    `input`). At most `concurrency` calls run at once. Plain http to another machine needs `allow_http`.
    """

    base_url: str
    model: str | None = None
    api_key_env: str | None = None
    headers: Mapping[str, str] = attrs.field(default=NO_TEXTS, repr=False)
    prices: Mapping[str, float] | None = None
    concurrency: int = CONCURRENCY
    allow_http: bool = False

    @property
    def connection(self) -> tuple[object, ...]:
        """The values that two entries must have in common to share connections, limits and the retry budget."""
        return self.base_url, self.api_key_env, tuple(sorted(self.headers.items())), self.concurrency, self.allow_http

    def cost(self, usage: Mapping[str, object]) -> float | None:
        """Return the cost of these tokens, or `None` without prices."""
        if self.prices is None:
            return None
        counts = {name: value if isinstance(value := usage.get(name), int) else 0 for name in TOKENS}
        cached = min(counts["cached_tokens"], counts["prompt_tokens"])
        price = self.prices
        total = (counts["prompt_tokens"] - cached) * price.get("input", 0.0)
        total += cached * price.get("cached_input", price.get("input", 0.0))
        return (total + counts["completion_tokens"] * price.get("output", 0.0)) / 1_000_000


TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


def text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError("must be a non-empty text")
    return value


def whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError("must be a whole number from 1")
    return value


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError("must be true or false")
    return value


def texts(value: object) -> Mapping[str, str]:
    found = as_object(value)
    if found is None:
        raise ConfigurationError('must be a table of texts, such as { "x-team" = "evals" }')
    return {name: text(entry) for name, entry in found.items()}


def prices(value: object) -> Mapping[str, float]:
    found = as_object(value)
    if found is None or not found or not set(found) <= set(PRICES):
        raise ConfigurationError("must be a table such as { input = 2.0, output = 8.0 }; cached_input is optional")
    amounts: dict[str, float] = {}
    for name, amount in found.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount >= 0:
            raise ConfigurationError(f"{name} must be a number from 0")
        amounts[name] = float(amount)
    return amounts


FIELDS: Mapping[str, Callable[[object], object]] = {
    "base_url": text,
    "model": text,
    "api_key_env": text,
    "headers": texts,
    "prices": prices,
    "concurrency": whole,
    "allow_http": boolean,
}


def endpoint_of(name: str, given: object) -> Endpoint:
    """Make one entry of the map. Raises `ConfigurationError`, which names the entry and the field."""
    entry = as_object(given)
    if entry is None or "base_url" not in entry:
        raise ConfigurationError(f'models."{name}" needs a base_url, such as "http://127.0.0.1:8000/v1"')
    if unknown := sorted(entry.keys() - FIELDS.keys()):
        raise ConfigurationError(f'models."{name}" has no setting {", ".join(unknown)}; there are: {", ".join(FIELDS)}')
    fields: dict[str, Any] = {}
    for field, value in entry.items():
        try:
            fields[field] = FIELDS[field](value)
        except ConfigurationError as error:
            raise ConfigurationError(f'models."{name}".{field} {error}') from None
    return Endpoint(**fields)


def endpoints_of(document: Mapping[str, object]) -> dict[str, Endpoint]:
    """Make the map from a document with the table `models`. Raises `ConfigurationError`."""
    if unknown := sorted(document.keys() - {"models"}):
        raise ConfigurationError(f'the model map has no table {", ".join(unknown)}; models are [models."NAME"]')
    entries = as_object(document.get("models"))
    if not entries:
        raise ConfigurationError('the model map is empty: write [models."NAME"] with a base_url')
    return {name: endpoint_of(name, entry) for name, entry in entries.items()}


def read_file(path: str | os.PathLike[str]) -> Mapping[str, object]:
    """Read a TOML file. Raises `ConfigurationError`, which names the file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # any path-like
            return tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"the model map {os.fspath(path)} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the model map {os.fspath(path)} is not valid TOML: {error}") from None


def matching(name: str, endpoints: Mapping[str, Endpoint]) -> str | None:
    """Return the entry for a name: the entry with this name, or else with the longest matching pattern (`gpt-4*`,
    `*`).
    """
    if name in endpoints:
        return name
    fitting = [entry for entry in endpoints if "*" in entry and fnmatchcase(name, entry)]
    return max(fitting, key=len, default=None)
