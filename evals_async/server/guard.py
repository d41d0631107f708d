"""Access control: the API key, and the allowed host names.

A web page of another site can make a browser send requests to a server on this machine, by its address or by a host
name that resolves to it. The headers `Host` and `Origin` show this. The functions only read headers.
"""

import hmac
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from evals_async.server.answers import Problem


LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def host_name(netloc: str) -> str | None:
    """Return the name in a `Host` header or an origin, without its port, or `None`."""
    try:
        return urlsplit(netloc if "//" in netloc else f"//{netloc}").hostname
    except ValueError:
        return None


def check_origin(headers: Mapping[str, str], allowed: Collection[str]) -> None:
    """Raise `Problem` 403 for a request to another host, or from a web page of another site."""
    if host_name(headers.get("Host", "")) not in allowed:
        raise Problem(
            403,
            "This host name is not allowed: add it to allowed_hosts, or use the address of the server.",
            code="host_not_allowed",
        )
    origin = headers.get("Origin")
    if origin is not None and host_name(origin) not in allowed:
        raise Problem(403, "This origin is not allowed: add its host name to allowed_hosts.", code="origin_not_allowed")


def check_key(headers: Mapping[str, str], key: str | None) -> None:
    """Raise `Problem` 401 unless the request has the key, as a bearer token or as Azure's `api-key`. Without a key
    on the server, all requests are allowed.
    """
    if key is None:
        return
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else headers.get("api-key", "")
    if not given:
        raise Problem(401, "You didn't provide an API key: send it as a bearer token in an Authorization header.")
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), key.encode()):
        raise Problem(401, "Incorrect API key provided.", code="invalid_api_key")
