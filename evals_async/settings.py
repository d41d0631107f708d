"""Where a client's settings come from: constructor arguments first, then the environment. The only reader of
`os.environ`.

A `Settings` is checked when it is made, before any I/O. The key is held in a `Secret`, which no repr, log, pickle or
copy shows.
"""

import os
from collections.abc import Mapping
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
    "AZURE_OPENAI_API_KEY": "The key of an Azure OpenAI resource, for EvalsClient.azure().",
    "AZURE_OPENAI_ENDPOINT": "Its endpoint, https://NAME.openai.azure.com, for EvalsClient.azure().",
}
"""Every environment variable that is read, and what it says."""

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


class Secret:
    """A string that shows itself to nobody who does not ask by `reveal()`."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

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
    """The settings of the service: each argument, or else its environment variable.

    Raises `ConfigurationError`, naming the argument and the variable, and never the value of a secret.
    """
    environ = os.environ if environment is None else environment
    url = checked_url(base_url or environ.get("OPENAI_BASE_URL") or OPENAI_BASE_URL, allow_http=allow_http)
    return Settings(
        base_url=url,
        api_key=secret_or_none(api_key if api_key is not None else environ.get("OPENAI_API_KEY")),
        organization=checked_header(organization or environ.get("OPENAI_ORG_ID"), "organization (OPENAI_ORG_ID)"),
        project=checked_header(project or environ.get("OPENAI_PROJECT_ID"), "project (OPENAI_PROJECT_ID)"),
        webhook_secret=secret_or_none(webhook_secret or environ.get("OPENAI_WEBHOOK_SECRET")),
    )


def azure_from_environment(
    *,
    endpoint: str | None = None,
    api_key: str | None = None,
    api_version: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of an Azure OpenAI resource or a Foundry project, from its endpoint.

    `/openai/v1` is added where the endpoint does not have it, and `api_version`, where given, becomes the query
    `?api-version=`. Raises `ConfigurationError`, as `from_environment` does.
    """
    environ = os.environ if environment is None else environment
    found = endpoint or environ.get("AZURE_OPENAI_ENDPOINT")
    if not found:
        raise ConfigurationError("no Azure endpoint: pass endpoint= or set AZURE_OPENAI_ENDPOINT")
    parts = urlsplit(checked_url(found, allow_http=False))
    path = parts.path if "/openai" in parts.path else parts.path + "/openai/v1"
    query = parts.query
    if api_version is not None:
        others = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "api-version"]
        query = urlencode([*others, ("api-version", api_version)])
    url = urlunsplit((parts.scheme, parts.netloc, path, query, ""))
    key = secret_or_none(api_key if api_key is not None else environ.get("AZURE_OPENAI_API_KEY"))
    return Settings(base_url=url, api_key=key)


def secret_or_none(value: str | None) -> Secret | None:
    """A key that was given, even an empty one: that it cannot be sent is told by who sends it."""
    return None if value is None else Secret(value)


def checked_header(value: str | None, name: str) -> str | None:
    """A value that may stand in an HTTP header (RFC 9110, 5.5)."""
    if value is None or value == "":
        return None
    if any(ord(character) < 32 or ord(character) > 126 for character in value) or value != value.strip():
        raise ConfigurationError(f"{name} cannot be sent in a header: only printable ASCII, no spaces around it")
    return value


def checked_url(url: str, *, allow_http: bool) -> str:
    """A base URL without its trailing slash.

    A path and a query are kept; what would leak a key is refused.
    """
    shown = "base_url (OPENAI_BASE_URL)"
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  # read for its check: a port that is no number raises ValueError
    except ValueError as error:
        raise ConfigurationError(f"{shown} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"{shown} must begin with https:// or http:// and name a host")
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
