"""Which proxy requests go through: the one that is given, or the one that the environment names for a URL.

The environment is read as curl and requests read it. Nothing here performs I/O.
"""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit, urlunsplit

from evals_async.errors import ConfigurationError


SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
PORTS = {"http": 80, "https": 443}


def checked_proxy(proxy: object, shown: str) -> str:
    """A proxy's URL; `http://` is added where it has no scheme. `shown` is what it is called in errors.

    Raises `ConfigurationError`, which does not repeat the URL, for one that cannot be used: it may hold a password.
    """
    if not isinstance(proxy, str):
        raise ConfigurationError(f"{shown} must be a str, not {type(proxy).__name__}")
    url = proxy.strip()
    if not SCHEME.match(url):
        url = "http://" + url
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  # read for its check: a port that is no number raises ValueError
    except ValueError:
        raise ConfigurationError(f"{shown} is no URL: its host or port cannot be read") from None
    if parts.scheme not in PORTS:
        raise ConfigurationError(
            f"{shown} is a {parts.scheme}:// proxy; only http:// and https:// ones are supported. "
            "For SOCKS pass session=aiohttp.ClientSession(connector=...) with a connector that speaks it"
        )
    if not host or not url.isprintable() or " " in url or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise ConfigurationError(f"{shown} must be http://host:port and nothing more; user:password@ may stand before")
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def environment_proxy(base_url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for that URL, but for what `no_proxy` excepts.

    It is in `http_proxy`, `https_proxy` or `all_proxy`, in lower case or in upper case.
    """
    parts = urlsplit(base_url)
    for variable in (f"{parts.scheme}_proxy", "all_proxy"):
        for name in (variable, variable.upper()):
            # Under CGI a client sets HTTP_PROXY by a header "Proxy".
            if name == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
                continue
            if value := environ.get(name, "").strip():
                no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
                return None if excepted(parts, no_proxy) else checked_proxy(value, name)
    return None


def excepted(parts: SplitResult, no_proxy: str) -> bool:
    """Whether a URL is excepted: by `*`, by its host or a domain above it, with or without a port, or by a network."""
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or PORTS.get(parts.scheme)
    return any(matches(entry.lower(), host, port) for entry in re.split(r"[\s,]+", no_proxy) if entry)


def matches(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            pass  # with a port, perhaps
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").lstrip(".").rstrip(".")
    return bool(entry) and (host == entry or (address is None and host.endswith("." + entry)))
