"""Access control: the API key, and the allowed host names.

A web page of another site can make a browser send requests to a server on this machine. It uses the address of the
server, or a host name that resolves to it. The headers `Host` and `Origin` show this. The functions only read headers.
"""

import binascii
import hmac
from base64 import b64decode
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from evals_async.server.answers import Problem


CHALLENGE = 'Basic realm="evals-async", charset="UTF-8"'
KEY_WANTED = "This server has an API key. Enter it as the password; the user name may be anything."
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


def check_key(headers: Mapping[str, str], key: str | None, *, page: bool = False) -> None:
    """Raise `Problem` 401 unless the request has the key, as a bearer token or as Azure's `api-key`.

    A browser sends the key of a page as the password of HTTP Basic; the user name may be anything. The API does not
    accept that: browsers add it to requests that other sites make them send. Without a key on the server, all requests
    are allowed.
    """
    if key is None:
        return
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if page and scheme.lower() == "basic":
        given = password(token.strip())
    else:
        given = (token.strip() if scheme.lower() == "bearer" else headers.get("api-key", "")).encode(
            "utf-8", "surrogateescape"
        )
    asked = {"WWW-Authenticate": CHALLENGE} if page else {}
    if not given:
        words = "You didn't provide an API key: send it as a bearer token in an Authorization header."
        raise Problem(401, KEY_WANTED if page else words, headers=asked)
    if not hmac.compare_digest(given, key.encode()):
        raise Problem(401, "Incorrect API key provided.", code="invalid_api_key", headers=asked)


def password(token: str) -> bytes:
    """Return the password in the credentials of HTTP Basic (RFC 7617), or nothing."""
    try:
        return b64decode(token, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
