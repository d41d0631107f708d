"""The model map: which endpoint answers for the name of a model. Read from TOML, checked before any I/O.

[models."gpt-4.1"]
base_url = "http://127.0.0.1:8000/v1"
model = "my-deployment"
api_key_env = "EVALS_MODEL_API_KEY"
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
CONCURRENCY = 32  # calls at once per endpoint
PRICES = ("input", "cached_input", "output")
NO_TEXTS: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where a model answers, and under which name and key.

    `base_url` speaks the API of OpenAI (`/chat/completions` and so on are added to it). `model` is the name there; by
    default the name that was asked for. `api_key_env` is the *name* of the environment variable that holds the key;
    without it no key is sent. `prices` are per million tokens: `input`, `output`, and `cached_input` (by default that
    of `input`). At most `concurrency` calls are under way at once. Plain http leaves this machine only with
    `allow_http`.
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
        """What two names must agree in to share connections, limits and budget."""
        return self.base_url, self.api_key_env, tuple(sorted(self.headers.items())), self.concurrency, self.allow_http

    def cost(self, usage: Mapping[str, object]) -> float | None:
        """What so many tokens cost; `None` without prices."""
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
        raise ConfigurationError("must be a text that is not empty")
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
        raise ConfigurationError("must be a table such as { input = 2.0, output = 8.0 }; cached_input may stand there")
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
    """One entry of the map. Raises `ConfigurationError`, naming entry and field."""
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
    """The map in a document with the table `models`. Raises `ConfigurationError`."""
    if unknown := sorted(document.keys() - {"models"}):
        raise ConfigurationError(f'the model map has no table {", ".join(unknown)}; models are [models."NAME"]')
    entries = as_object(document.get("models"))
    if not entries:
        raise ConfigurationError('the model map is empty: write [models."NAME"] with a base_url')
    return {name: endpoint_of(name, entry) for name, entry in entries.items()}


def read_file(path: str | os.PathLike[str]) -> Mapping[str, object]:
    """The document in a TOML file. Raises `ConfigurationError`, naming the file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # any path-like
            return tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"the model map {os.fspath(path)} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the model map {os.fspath(path)} is no TOML: {error}") from None


def matching(name: str, endpoints: Mapping[str, Endpoint]) -> str | None:
    """The entry that answers for a name: the same name, or else the longest pattern (`gpt-4*`, `*`) that fits."""
    if name in endpoints:
        return name
    fitting = [entry for entry in endpoints if "*" in entry and fnmatchcase(name, entry)]
    return max(fitting, key=len, default=None)
