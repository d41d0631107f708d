"""The settings of a client: constructor arguments first, then environment variables. Only this module reads
`os.environ`.

A `Settings` object is validated when it is created, before any I/O. The key is a `Secret`, which never appears in a
repr, a log, a pickle or a copy.
"""

import logging
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import attrs

from evals_async.errors import ConfigurationError


OPENAI_BASE_URL = "https://api.openai.com/v1"

VARIABLES: Mapping[str, str] = {
    "OPENAI_API_KEY": "The key of the service, or of another server with the same API.",
    "OPENAI_BASE_URL": f"The base URL of the API; {OPENAI_BASE_URL} if not set.",
    "OPENAI_ORG_ID": "Sent in the header OpenAI-Organization.",
    "OPENAI_PROJECT_ID": "Sent in the header OpenAI-Project.",
    "OPENAI_WEBHOOK_SECRET": "The secret that signs webhooks (whsec_...).",
    "EVALS_LOG": "`debug` or `info`: log lines of this package on standard error.",
    "OPENAI_CUSTOM_HEADERS": "Headers for every request, one `Name: value` per line.",
    "AZURE_OPENAI_AD_TOKEN": "A Microsoft Entra token, for EvalsClient.azure(); used instead of the key.",
    "AZURE_OPENAI_API_KEY": "The key of an Azure OpenAI resource, for EvalsClient.azure().",
    "AZURE_OPENAI_ENDPOINT": "The endpoint of an Azure OpenAI resource, https://NAME.openai.azure.com, for "
    "EvalsClient.azure().",
    "EVALS_MODEL_API_KEY": "The key of the model endpoint that runs use; a model map may name other variables.",
    "EVALS_SERVER_API_KEY": "The key that requests to `evals-async serve` must send.",
}
"""Every environment variable that is read, with its meaning."""

V = TypeVar("V")

DEPLOYMENT = re.compile(r"/openai/deployments/([^/]*)")  # the path of an Azure URL for chat completions

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")

HOST = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|[0-9a-f]*:[0-9a-f:.]+")
"""A name (RFC 1123, and underscores) or an IPv6 address."""

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110, 5.6.2


class Secret:
    """A string that appears in no repr, log, pickle or copy. `reveal()` returns it."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value: str = value

    def reveal(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return "Secret(<hidden>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied; set the key in the environment of the other process")


@attrs.frozen(kw_only=True)
class Settings:
    """The base URL and the credentials of a client. `RetryPolicy` and `Timeouts` hold retries and times.

    `token` is a Microsoft Entra token, which is used instead of the key. `headers` are the headers from the
    environment.
    """

    base_url: str
    allow_http: bool = False
    azure: bool = False
    api_key: Secret | None = None
    token: Secret | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)
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
    """Return the settings of the service: each argument, or else its environment variable, unless it is empty.

    Raises `ConfigurationError`. The message names the argument and the variable, never the value of a secret.
    """
    environ = os.environ if environment is None else environment
    url = given(base_url, environ, "OPENAI_BASE_URL")
    if url is None:
        url = OPENAI_BASE_URL
    organization, project = given(organization, environ, "OPENAI_ORG_ID"), given(project, environ, "OPENAI_PROJECT_ID")
    check_names(organization, project)
    return Settings(
        base_url=checked_url(url, "base_url (OPENAI_BASE_URL)", allow_http=allow_http),
        allow_http=allow_http,
        api_key=secret_or_none(given(api_key, environ, "OPENAI_API_KEY")),
        headers=custom_headers(environ),
        organization=organization or None,
        project=project or None,
        webhook_secret=secret_or_none(given(webhook_secret, environ, "OPENAI_WEBHOOK_SECRET")),
    )


def azure_from_environment(
    *,
    endpoint: str | None = None,
    api_key: str | None = None,
    token: str | None = None,
    api_version: str | None = None,
    allow_http: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of an Azure OpenAI resource or a Foundry project.

    `/openai/v1` is added to the endpoint if it is missing. `api_version` becomes the query `?api-version=`. Raises
    `ConfigurationError`, as `from_environment` does.
    """
    environ = os.environ if environment is None else environment
    found = given(endpoint, environ, "AZURE_OPENAI_ENDPOINT")
    if found is None:
        raise ConfigurationError("no Azure endpoint: pass endpoint= or set AZURE_OPENAI_ENDPOINT")
    parts = urlsplit(checked_url(found, "endpoint (AZURE_OPENAI_ENDPOINT)", allow_http=allow_http))
    # The name of a project may be "openai" too.
    has_it = any(step == "openai" and before != "projects" for before, step in pairwise(parts.path.split("/")))
    path = parts.path if has_it else parts.path + "/openai/v1"
    query = parts.query
    if api_version is not None:
        others = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "api-version"]
        query = urlencode([*others, ("api-version", api_version)])
    url = urlunsplit((parts.scheme, parts.netloc, path, query, ""))
    if api_key is None:  # an argument has priority over both variables
        token = given(token, environ, "AZURE_OPENAI_AD_TOKEN")
    return Settings(
        base_url=url,
        allow_http=allow_http,
        azure=True,
        api_key=secret_or_none(given(api_key, environ, "AZURE_OPENAI_API_KEY")),
        token=secret_or_none(token),
        headers=custom_headers(environ),
        webhook_secret=secret_or_none(given(None, environ, "OPENAI_WEBHOOK_SECRET")),
    )


def check_names(organization: str | None, project: str | None) -> None:
    """Raise `ConfigurationError` for an organization or a project that cannot be sent in a header."""
    named = ((organization, "organization (OPENAI_ORG_ID)"), (project, "project (OPENAI_PROJECT_ID)"))
    for value, shown in named:
        if value and (fault := value_fault(value, shown)) is not None:
            raise ConfigurationError(fault)


def changed_settings(
    settings: Settings,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    organization: str | None = None,
    project: str | None = None,
    webhook_secret: str | None = None,
) -> Settings:
    """Return the settings with the given changes. Values that belong to another key are removed. Raises
    `ConfigurationError`.
    """
    check_names(organization, project)
    changes: dict[str, Any] = {}
    if api_key is not None:
        changes |= {"api_key": Secret(api_key), "token": None}
    if base_url is not None:
        changes["base_url"] = checked_url(base_url, "base_url", allow_http=settings.allow_http)
    if organization is not None:
        changes["organization"] = organization or None
    if project is not None:
        changes["project"] = project or None
    if webhook_secret is not None:
        changes["webhook_secret"] = Secret(webhook_secret)
    return attrs.evolve(settings, **changes)


def custom_headers(environ: Mapping[str, str]) -> dict[str, str]:
    """Parse OPENAI_CUSTOM_HEADERS, one `Name: value` per line.

    Raises `ConfigurationError` for a line that is not a header. The message shows no value.
    """
    found: dict[str, str] = {}
    for line in environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines():
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon:
            raise ConfigurationError(
                "OPENAI_CUSTOM_HEADERS has a line without a colon: write one `Name: value` per line"
            )
        found[name.strip()] = value.strip()
    return checked_headers(found)


def given(argument: str | None, environ: Mapping[str, str], variable: str) -> str | None:
    """Return the argument, even if it is empty, or else the value of the variable, unless it is empty."""
    return argument if argument is not None else environ.get(variable) or None


def secret_or_none(value: str | None) -> Secret | None:
    """Return the given key as a secret, even if it is empty. The credentials class raises the error if it is
    invalid.
    """
    return None if value is None else Secret(value)


def value_fault(value: object, shown: str) -> str | None:
    """Return the reason why a value cannot be sent in an HTTP header (RFC 9110, 5.5), or `None`. The text does not
    contain the value.
    """
    if not isinstance(value, str):
        return f"{shown} must be a str, not {type(value).__name__}"
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        return f"{shown} cannot be sent in a header: only printable ASCII, no spaces around it"
    return None


def header_fault(name: str, value: object) -> str | None:
    """Return the reason why a header cannot be sent (RFC 9110, 5.1 and 5.5), or `None`."""
    if not HEADER_NAME.fullmatch(name):
        return f"the header {name!a:.40} cannot be sent: its name is not a header name"
    return value_fault(value, f"the header {name:.60}")


def checked_headers(headers: Mapping[str, V]) -> dict[str, V]:
    """Validate headers. `None` as a value removes a header. Raises `ConfigurationError`, which names the invalid
    header.
    """
    for name, value in headers.items():
        if value is not None and (fault := header_fault(name, value)) is not None:
            raise ConfigurationError(fault)
    return dict(headers)


def checked_url(url: object, shown: str, *, allow_http: bool) -> str:
    """Validate a base URL and remove its trailing slash. `shown` is its name in errors.

    A path and a query are kept. Raises `ConfigurationError` for an invalid URL, and for one that would leak a key.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"{shown} must be a str, not {type(url).__name__}")
    if not url.isprintable() or " " in url:
        raise ConfigurationError(f"{shown} contains white space or control characters")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  # raises ValueError if the port is not a number
    except ValueError:  # its message may contain a part of a password
        raise ConfigurationError(f"{shown} is not a valid URL: its host or port cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"{shown} must start with https:// or http:// and contain a host name")
    if not HOST.fullmatch(host):
        raise ConfigurationError(f"{shown} has an invalid host name; write international names in their xn-- form")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{shown} must not contain a user or a password; pass the key as api_key")
    if (deployment := DEPLOYMENT.search(parts.path)) is not None:
        azure = shown.startswith("endpoint")
        instead = f"{parts.scheme}://{parts.netloc}" + ("" if azure else "/openai/v1")
        raise ConfigurationError(
            f"{shown} is the URL of a deployment. Evals belong to the resource: use {instead}, and pass the "
            f"deployment {deployment[1]!r:.80} as the `model` of an eval or a run"
        )
    if parts.fragment:
        raise ConfigurationError(f"{shown} must not contain a fragment (#...)")
    if parts.scheme == "http" and host not in LOOPBACK_HOSTS and not allow_http:
        raise ConfigurationError(
            f"{shown} is plain http to {host}: the key would be sent unencrypted. Use https, or pass allow_http=True"
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), parts.query, ""))


def follow_log_variable(environment: Mapping[str, str] | None = None) -> None:
    """Write the log lines of this package to standard error if EVALS_LOG is `debug` or `info`.

    A handler is added once, and only if logging is not configured yet. Raises `ConfigurationError` for another value.
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
