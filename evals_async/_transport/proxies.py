"""The proxy for requests: the one that is given, or the one that the environment names for a URL.

The environment variables have the same meaning as for curl and requests. This module does no I/O.
"""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit, urlunsplit

from evals_async.errors import ConfigurationError


SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
PORTS = {"http": 80, "https": 443}


def checked_proxy(proxy: object, shown: str) -> str:
    """Validate the URL of a proxy. `http://` is added if it has no scheme. `shown` is its name in errors.

    Raises `ConfigurationError` for an invalid URL. The message does not contain the URL, which may hold a password.
    """
    if not isinstance(proxy, str):
        raise ConfigurationError(f"{shown} must be a str, not {type(proxy).__name__}")
    url = proxy.strip()
    if not SCHEME.match(url):
        url = "http://" + url
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  # raises ValueError if the port is not a number
    except ValueError:
        raise ConfigurationError(f"{shown} is not a valid URL: its host or port cannot be read") from None
    if parts.scheme not in PORTS:
        raise ConfigurationError(
            f"{shown} is a {parts.scheme}:// proxy; only http:// and https:// are supported. For SOCKS, pass "
            "session=aiohttp.ClientSession(connector=...) with a connector for SOCKS"
        )
    if not host or not url.isprintable() or " " in url or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise ConfigurationError(f"{shown} must be http://host:port or http://user:password@host:port")
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def environment_proxy(base_url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy that the environment names for a URL, or `None`.

    The variables are `http_proxy`, `https_proxy` and `all_proxy`, in lower or upper case. `no_proxy` lists exceptions.
    """
    parts = urlsplit(base_url)
    for variable in (f"{parts.scheme}_proxy", "all_proxy"):
        for name in (variable, variable.upper()):
            # Under CGI, a remote client can set HTTP_PROXY with a header named "Proxy".
            if name == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
                continue
            if value := environ.get(name, "").strip():
                no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
                return None if excepted(parts, no_proxy) else checked_proxy(value, name)
    return None


def excepted(parts: SplitResult, no_proxy: str) -> bool:
    """Whether `no_proxy` matches a URL: by `*`, its host, a parent domain, with or without a port, or an IP network."""
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
            pass  # not a network: it may be a host with a port
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").lstrip(".").rstrip(".")
    return bool(entry) and (host == entry or (address is None and host.endswith("." + entry)))
