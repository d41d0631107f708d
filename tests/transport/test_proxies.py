"""Proxies: what is accepted, what is refused when the client is made, and what the environment says of a URL."""

import pytest

from evals_async import ConfigurationError, EvalsClient
from evals_async._transport.proxies import checked_proxy, environment_proxy


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("host:3128", "http://host:3128"),
        ("127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("host", "http://host"),
        ("user:word@host:3128", "http://user:word@host:3128"),
        ("http://host:3128/", "http://host:3128"),
        ("HTTPS://host", "https://host"),
        (" http://host\n", "http://host"),
        ("http://[::1]:3128", "http://[::1]:3128"),
    ],
)
def test_proxies_that_can_be(given: str, kept: str) -> None:
    """A missing scheme means http, as elsewhere."""
    assert kept == checked_proxy(given, "proxy")


@pytest.mark.parametrize(
    "given",
    ["http://", "", "socks5://u:secret-word@h:1", "ftp://h", "http://h:port", "http://h/p", "h h", 7, "http://:1"],
)
def test_proxies_that_cannot_be_are_refused_when_the_client_is_made(given: object) -> None:
    """By an argument as by the environment, and without showing a password."""
    with pytest.raises(ConfigurationError, match=r"^proxy ") as caught:
        EvalsClient(api_key="sk-proxies-1", proxy=given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert "secret-word" not in str(caught.value)


def test_a_wrong_proxy_of_the_environment_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `trust_env`, and only where it would be used."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    EvalsClient(api_key="sk-proxies-1")
    EvalsClient(api_key="sk-proxies-1", base_url="http://127.0.0.1:9", trust_env=True)
    with pytest.raises(ConfigurationError, match=r"^HTTPS_PROXY is a socks5:// proxy"):
        EvalsClient(api_key="sk-proxies-1", trust_env=True)


def test_which_variable_counts() -> None:
    """Lower case before upper case, the scheme's own before `all_proxy`; HTTP_PROXY not where a client sets it."""
    environ = {"http_proxy": "a:1", "HTTP_PROXY": "b:1", "ALL_PROXY": "c:1"}
    assert "http://a:1" == environment_proxy("http://x.example/v1", environ)
    assert "http://c:1" == environment_proxy("https://x.example/v1", environ)
    del environ["http_proxy"]
    assert "http://b:1" == environment_proxy("http://x.example/v1", environ)
    assert "http://c:1" == environment_proxy("http://x.example/v1", {**environ, "REQUEST_METHOD": "GET"})
    assert environment_proxy("http://x.example/v1", {}) is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "excepted"),
    [
        ("*", "x.example", True),
        ("x.example", "x.example", True),
        ("example", "x.example", True),
        (".example", "x.example", True),
        ("*.example", "x.example", True),
        ("ample", "x.example", False),
        ("X.Example", "x.example", True),
        ("other, x.example", "x.example", True),
        ("other x.example", "x.example", True),
        ("x.example:8080", "x.example:8080", True),
        ("x.example:8080", "x.example:9090", False),
        ("x.example:80", "x.example", True),
        ("x.example:443", "x.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:80", "10.1.2.3", True),
        ("10.1.2.3:81", "10.1.2.3", False),
        ("2.3", "10.1.2.3", False),
        ("fd00::/8", "[fd00::1]", True),
        ("[fd00::1]:80", "[fd00::1]", True),
        ("::1", "[::1]:9", True),
        ("10.0.0.0/8", "x.example", False),
        ("", "x.example", False),
    ],
)
def test_what_no_proxy_excepts(no_proxy: str, host: str, excepted: bool) -> None:
    """Names and the domains above them, with or without a port, addresses, and networks."""
    found = environment_proxy(f"http://{host}/v1", {"http_proxy": "p:1", "NO_PROXY": no_proxy})
    assert excepted == (found is None)
