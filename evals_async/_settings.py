"""Where a client's settings come from: constructor arguments first, then the environment. The only reader of
`os.environ`.

A `Settings` is checked when it is made, before any I/O. The key is held in a `Secret`, which no repr, log, pickle or
copy shows.
"""

import logging
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import attrs

from evals_async.errors import ConfigurationError


OPENAI_BASE_URL = "https://api.openai.com/v1"

VARIABLES: Mapping[str, str] = {
    "OPENAI_API_KEY": "The key of the service, or of any server that speaks its API.",
    "OPENAI_BASE_URL": f"Where the API is; {OPENAI_BASE_URL} if not set.",
    "OPENAI_ORG_ID": "Sent as OpenAI-Organization.",
    "OPENAI_PROJECT_ID": "Sent as OpenAI-Project.",
    "OPENAI_WEBHOOK_SECRET": "What webhooks are signed with (whsec_...).",
    "EVALS_LOG": "`debug` or `info`: log lines of this package on standard error.",
    "AZURE_OPENAI_API_KEY": "The key of an Azure OpenAI resource, for EvalsClient.azure().",
    "AZURE_OPENAI_ENDPOINT": "Its endpoint, https://NAME.openai.azure.com, for EvalsClient.azure().",
    "EVALS_MODEL_API_KEY": "The key of the model endpoint that evals are run on; a model map may name other variables.",
    "EVALS_SERVER_API_KEY": "The key that requests to `evals-async serve` must carry.",
}
"""Every environment variable that is read, and what it says."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")

HOST = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|[0-9a-f]*:[0-9a-f:.]+")
"""A name (RFC 1123, and underscores) or an IPv6 address."""

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110, 5.6.2


class Secret:
    """A string that shows itself to nobody who does not ask by `reveal()`."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value: str = value

    def reveal(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return "Secret(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied; give the other process the key in its environment")


@attrs.frozen(kw_only=True)
class Settings:
    """Whom a client talks to, and as whom. Times and retries are in `RetryPolicy` and `Timeouts`."""

    base_url: str
    api_key: Secret | None = None
    organization: str | None = None
    project: str | None = None
    webhook_secret: Secret | None = None


def from_environment(
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    organization: str | None = None,
    project: str | None = None,
    webhook_secret: str | None = None,
    allow_http: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of the service: each argument, or else its environment variable, unless that is empty.

    Raises `ConfigurationError`, naming the argument and the variable, and never the value of a secret.
    """
    environ = os.environ if environment is None else environment
    url = given(base_url, environ, "OPENAI_BASE_URL")
    if url is None:
        url = OPENAI_BASE_URL
    organization, project = given(organization, environ, "OPENAI_ORG_ID"), given(project, environ, "OPENAI_PROJECT_ID")
    named = ((organization, "organization (OPENAI_ORG_ID)"), (project, "project (OPENAI_PROJECT_ID)"))
    for value, shown in named:
        if value and (fault := value_fault(value, shown)) is not None:
            raise ConfigurationError(fault)
    return Settings(
        base_url=checked_url(url, "base_url (OPENAI_BASE_URL)", allow_http=allow_http),
        api_key=secret_or_none(given(api_key, environ, "OPENAI_API_KEY")),
        organization=organization or None,
        project=project or None,
        webhook_secret=secret_or_none(given(webhook_secret, environ, "OPENAI_WEBHOOK_SECRET")),
    )


def azure_from_environment(
    *,
    endpoint: str | None = None,
    api_key: str | None = None,
    api_version: str | None = None,
    allow_http: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of an Azure OpenAI resource or a Foundry project, from its endpoint.

    `/openai/v1` is added where the endpoint does not have it, and `api_version`, where given, becomes the query
    `?api-version=`. Raises `ConfigurationError`, as `from_environment` does.
    """
    environ = os.environ if environment is None else environment
    found = given(endpoint, environ, "AZURE_OPENAI_ENDPOINT")
    if found is None:
        raise ConfigurationError("no Azure endpoint: pass endpoint= or set AZURE_OPENAI_ENDPOINT")
    parts = urlsplit(checked_url(found, "endpoint (AZURE_OPENAI_ENDPOINT)", allow_http=allow_http))
    # A project may be called "openai" too.
    has_it = any(step == "openai" and before != "projects" for before, step in pairwise(parts.path.split("/")))
    path = parts.path if has_it else parts.path + "/openai/v1"
    query = parts.query
    if api_version is not None:
        others = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "api-version"]
        query = urlencode([*others, ("api-version", api_version)])
    url = urlunsplit((parts.scheme, parts.netloc, path, query, ""))
    return Settings(
        base_url=url,
        api_key=secret_or_none(given(api_key, environ, "AZURE_OPENAI_API_KEY")),
        webhook_secret=secret_or_none(given(None, environ, "OPENAI_WEBHOOK_SECRET")),
    )


def given(argument: str | None, environ: Mapping[str, str], variable: str) -> str | None:
    """The argument, even an empty one, or else the variable's value, unless it is empty."""
    return argument if argument is not None else environ.get(variable) or None


def secret_or_none(value: str | None) -> Secret | None:
    """A key that was given, even an empty one: that it cannot be sent is told by who sends it."""
    return None if value is None else Secret(value)


def value_fault(value: object, shown: str) -> str | None:
    """Why that value cannot stand in an HTTP header (RFC 9110, 5.5), in words that do not hold it."""
    if not isinstance(value, str):
        return f"{shown} must be a str, not {type(value).__name__}"
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        return f"{shown} cannot be sent in a header: only printable ASCII, no spaces around it"
    return None


def header_fault(name: str, value: object) -> str | None:
    """Why that header cannot be sent (RFC 9110, 5.1 and 5.5); `None` if it can."""
    if not HEADER_NAME.fullmatch(name):
        return f"the header {name!a:.40} cannot be sent: no name of a header"
    return value_fault(value, f"the header {name:.60}")


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that can be sent. Raises `ConfigurationError`, naming the one that cannot."""
    for name, value in headers.items():
        if (fault := header_fault(name, value)) is not None:
            raise ConfigurationError(fault)
    return dict(headers)


def checked_url(url: object, shown: str, *, allow_http: bool) -> str:
    """A base URL without its trailing slash; `shown` is what it is called in errors.

    A path and a query are kept; what would leak a key is refused.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"{shown} must be a str, not {type(url).__name__}")
    if not url.isprintable() or " " in url:
        raise ConfigurationError(f"{shown} contains white space or control characters")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  # read for its check: a port that is no number raises ValueError
    except ValueError:  # its text may quote a part of a password
        raise ConfigurationError(f"{shown} is no URL: its host or port cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"{shown} must begin with https:// or http:// and name a host")
    if not HOST.fullmatch(host):
        raise ConfigurationError(f"{shown} names no host that can be; write international names in their xn-- form")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{shown} must not contain a user or a password; pass the key as api_key")
    if parts.fragment:
        raise ConfigurationError(f"{shown} must not contain a fragment (#...)")
    if parts.scheme == "http" and host not in LOOPBACK_HOSTS and not allow_http:
        raise ConfigurationError(
            f"{shown} is plain http to {host}: the key would cross the network in the clear. "
            "Use https, or pass allow_http=True"
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), parts.query, ""))


def follow_log_variable(environment: Mapping[str, str] | None = None) -> None:
    """Show this package's log lines on standard error, if EVALS_LOG asks for it: `debug` or `info`.

    A handler is added once, and only where nobody has set logging up. Raises `ConfigurationError` for another word.
    """
    word = (os.environ if environment is None else environment).get("EVALS_LOG", "").strip().lower()
    if not word:
        return
    if word not in ("debug", "info"):
        raise ConfigurationError(f"EVALS_LOG must be debug or info, not {word!a}")
    logger = logging.getLogger("evals_async")
    logger.setLevel(word.upper())
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
