"""Where settings come from, which of them are refused, and that no refusal shows a secret."""

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from yarl import URL

from evals_async import EvalsClient
from evals_async._settings import (
    OPENAI_BASE_URL,
    VARIABLES,
    Secret,
    Settings,
    azure_from_environment,
    checked_headers,
    from_environment,
)
from evals_async.errors import ConfigurationError


FULL = {
    "OPENAI_API_KEY": "sk-environment",
    "OPENAI_BASE_URL": "https://environment.example/v1",
    "OPENAI_ORG_ID": "org-environment",
    "OPENAI_PROJECT_ID": "proj-environment",
    "OPENAI_WEBHOOK_SECRET": "whsec_environment",
    "OPENAI_CUSTOM_HEADERS": "X-Team: blue\n\nX-Note: a: b\n",
    "AZURE_OPENAI_AD_TOKEN": "token-environment",
    "AZURE_OPENAI_API_KEY": "azure-environment",
    "AZURE_OPENAI_ENDPOINT": "https://environment.openai.azure.com",
}

ARGUMENTS: dict[str, tuple[str, str]] = {
    "api_key": ("OPENAI_API_KEY", "sk-argument"),
    "base_url": ("OPENAI_BASE_URL", "https://argument.example/v1"),
    "organization": ("OPENAI_ORG_ID", "org-argument"),
    "project": ("OPENAI_PROJECT_ID", "proj-argument"),
    "webhook_secret": ("OPENAI_WEBHOOK_SECRET", "whsec_argument"),
}


def plain(value: object) -> object:
    return value.reveal() if isinstance(value, Secret) else value


def refusal(**given: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        from_environment(environment={}, **given)
    return str(caught.value)


def test_every_variable_is_listed() -> None:
    """The table of variables names those that are read, each with a sentence."""
    others = {"EVALS_LOG", "EVALS_MODEL_API_KEY", "EVALS_SERVER_API_KEY"}  # of no setting; of models; of `serve`
    assert set(FULL) | others == set(VARIABLES)
    assert all(sentence.endswith(".") for sentence in VARIABLES.values())


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_argument_before_environment(argument: str) -> None:
    """Each setting comes from its argument, else from its variable, and from no other variable."""
    variable, value = ARGUMENTS[argument]
    given: dict[str, Any] = {argument: value}
    assert value == plain(getattr(from_environment(environment=FULL, **given), argument))
    assert FULL[variable] == plain(getattr(from_environment(environment={variable: FULL[variable]}), argument))
    others = {name: text for name, text in FULL.items() if name != variable}
    assert plain(getattr(from_environment(environment=others), argument)) in (None, OPENAI_BASE_URL)


def test_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no mapping is given, the process's own environment is read."""
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-real")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://real.openai.azure.com")
    assert "proj-real" == from_environment().project
    assert "https://real.openai.azure.com/openai/v1" == azure_from_environment().base_url


def test_empty_variables_count_as_missing() -> None:
    """`OPENAI_API_KEY=` in a shell is how one says that there is none."""
    assert Settings(base_url=OPENAI_BASE_URL) == from_environment(environment=dict.fromkeys(FULL, ""))
    with pytest.raises(ConfigurationError, match="AZURE_OPENAI_ENDPOINT"):
        azure_from_environment(environment={"AZURE_OPENAI_ENDPOINT": ""})


def test_empty_arguments_count() -> None:
    """An argument that is given is not replaced by the environment, even if it is empty."""
    found = from_environment(api_key="", organization="", project="", environment=FULL)
    assert ("", None, None) == (plain(found.api_key), found.organization, found.project)
    with pytest.raises(ConfigurationError, match="base_url"):
        from_environment(base_url="", environment=FULL)


KEPT = {
    "https://api.example.com": "https://api.example.com",
    "https://api.example.com/": "https://api.example.com",
    "https://api.example.com/v1/": "https://api.example.com/v1",
    "https://api.example.com:8443/a/b?api-version=v1&x=%2F": "https://api.example.com:8443/a/b?api-version=v1&x=%2F",
    "http://localhost:8080/v1": "http://localhost:8080/v1",
    "http://127.0.0.1:1": "http://127.0.0.1:1",
    "http://[::1]:9/v1": "http://[::1]:9/v1",
}


@pytest.mark.parametrize(("url", "kept"), KEPT.items())
def test_urls_that_are_taken(url: str, kept: str) -> None:
    """A base URL keeps its port, path and query; a slash at the end of the path makes no difference."""
    assert kept == from_environment(base_url=url, environment={}).base_url


SECRET = "hunter2-secret"  # what must not be shown

REFUSED_URLS: dict[str, Any] = {
    "user and password": f"https://user:{SECRET}@api.example.com/v1",
    "user alone": f"https://{SECRET}@api.example.com/v1",
    "fragment": f"https://api.example.com/v1#{SECRET}",
    "plain http": "http://api.example.com/v1",
    "plain http to another machine of the network": "http://192.168.1.7/v1",
    "ftp": "ftp://api.example.com",
    "file": f"file:///{SECRET}",
    "no scheme": "api.example.com/v1",
    "no host": "https:///v1",
    "nothing": "",
    "a backslash": "https://api.example\\@evil.example",
    "an international name": "https://münchen.example",
    "a space": "https://api.example .com/v1",
    "a newline at the end": "https://api.example.com/v1\n",
    "a newline inside": "https://api.example.com/v1\r\nX: y",
    "bad brackets": f"https://[::{SECRET}/v1",
    "a port that is a password": f"https://user:{SECRET}#@api.example.com/v1",
    "a port out of range": "https://api.example.com:70000/v1",
    "bytes": b"https://api.example.com/v1",
}


@pytest.mark.parametrize("url", REFUSED_URLS.values(), ids=REFUSED_URLS.keys())
def test_urls_that_are_refused(url: Any) -> None:
    """A URL that would leak a key, or cannot work, is refused by name, and none of it but the host is repeated."""
    text = refusal(base_url=url)
    assert text.startswith("base_url (OPENAI_BASE_URL)")
    assert "hunter2" not in text


def test_plain_http_can_be_allowed() -> None:
    """The refusal of plain http says how to have it all the same."""
    url = "http://api.example.com/v1"
    assert "allow_http=True" in refusal(base_url=url)
    assert url == from_environment(base_url=url, allow_http=True, environment={}).base_url
    azure = azure_from_environment(endpoint="http://proxy.example", allow_http=True, environment={})
    assert "http://proxy.example/openai/v1" == azure.base_url


@hypothesis_settings(deadline=None, max_examples=500)
@given(url=st.from_regex(r"https?://[\[\]@:/?#%&=.a-z0-9é\\-]{0,25}", fullmatch=True))
def test_no_url_fails_later(url: str) -> None:
    """Whatever is taken as a base URL is one for the HTTP library too, with the same host."""
    try:
        taken = from_environment(base_url=url, allow_http=True, environment={}).base_url
    except ConfigurationError:
        return
    assert URL(taken).host


@pytest.mark.parametrize("name", ["organization", "project"])
@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\x00b", " a", "a\t", "ä", "a\x7f", 7])
def test_header_values_that_are_refused(name: str, value: Any) -> None:
    """What cannot stand in a header is refused, and the argument and its variable are named."""
    text = refusal(**{name: value})
    assert text.startswith(f"{name} (OPENAI_")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "é", "a" * 100 + "\n"])
def test_header_names_that_are_refused(name: str) -> None:
    """What is not a header name is refused, in a short sentence."""
    with pytest.raises(ConfigurationError, match="not a header name") as caught:
        checked_headers({name: "value"})
    assert len(str(caught.value)) < 100


def test_headers_that_are_taken() -> None:
    """Ordinary headers are taken as they are, and an empty value is one."""
    headers = {"X-Tenant": "a b", "x_y~z": "", "OpenAI-Beta": "evals=v1; q=0.5"}
    assert headers == checked_headers(headers)


BAD_KEYS: dict[str, Any] = {
    "newline at the end": f"{SECRET}\n",
    "CR LF inside": f"sk-\r\n{SECRET}",
    "NUL": f"{SECRET}\x00",
    "not ASCII": f"{SECRET}é",
    "empty": "",
    "a space inside": f"sk {SECRET}",
    "spaces around": f" {SECRET} ",
    "bytes": SECRET.encode(),
    "with its scheme": f"Bearer {SECRET}",
    "a number": 7,
}


def azure_client(api_key: Any) -> EvalsClient:
    return EvalsClient.azure(endpoint="https://a.example", api_key=api_key)


@pytest.mark.parametrize("make", [EvalsClient, azure_client])
@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_keys_that_are_refused(make: Any, key: Any) -> None:
    """A key that cannot be one is refused when the client is made, and never shown; nothing is stripped in silence."""
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        make(api_key=key)
    assert "hunter2" not in f"{caught.value!r} {caught.value}"


AZURE = {
    ("https://n.openai.azure.com", None): "https://n.openai.azure.com/openai/v1",
    ("https://n.openai.azure.com/", None): "https://n.openai.azure.com/openai/v1",
    ("https://n.openai.azure.com/openai/v1", None): "https://n.openai.azure.com/openai/v1",
    ("https://n.openai.azure.com/openai/v1/", "preview"): "https://n.openai.azure.com/openai/v1?api-version=preview",
    ("https://n.openai.azure.com/openai", "2025-04-01"): "https://n.openai.azure.com/openai?api-version=2025-04-01",
    ("https://n.openai.azure.com?a=b&api-version=1", "2"): "https://n.openai.azure.com/openai/v1?a=b&api-version=2",
    ("https://n.openai.azure.com?api-version=1", None): "https://n.openai.azure.com/openai/v1?api-version=1",
    ("https://f.example/api/projects/p", None): "https://f.example/api/projects/p/openai/v1",
    ("https://f.example/api/projects/openai", None): "https://f.example/api/projects/openai/openai/v1",
    ("https://f.example/api/projects/openai-evals", None): "https://f.example/api/projects/openai-evals/openai/v1",
    ("https://f.example/api/projects/p/openai/v1", None): "https://f.example/api/projects/p/openai/v1",
}


@pytest.mark.parametrize(("given", "url"), AZURE.items(), ids=[f"{url} {version}" for url, version in AZURE])
def test_azure_urls(given: tuple[str, str | None], url: str) -> None:
    """An endpoint of a resource or a project becomes the base URL, however much of it was written."""
    endpoint, version = given
    assert url == azure_from_environment(endpoint=endpoint, api_version=version, environment={}).base_url
    assert url == azure_from_environment(api_version=version, environment={"AZURE_OPENAI_ENDPOINT": endpoint}).base_url


def test_azure_key() -> None:
    """Azure's key comes from its own variable, and never from OpenAI's: it would go to another company."""
    found = azure_from_environment(environment=FULL)
    assert ("azure-environment", None, None) == (plain(found.api_key), found.organization, found.project)
    assert "mine" == plain(azure_from_environment(api_key="mine", environment=FULL).api_key)
    without = {name: value for name, value in FULL.items() if name != "AZURE_OPENAI_API_KEY"}
    assert azure_from_environment(environment=without).api_key is None


def test_azure_endpoint_is_named_in_refusals() -> None:
    """A refusal names the argument that was given, and the variable that could be."""
    with pytest.raises(ConfigurationError, match=r"^endpoint \(AZURE_OPENAI_ENDPOINT\) must not contain a user"):
        azure_from_environment(endpoint="https://me@n.openai.azure.com", environment={})
    with pytest.raises(ConfigurationError, match="pass endpoint= or set AZURE_OPENAI_ENDPOINT"):
        azure_from_environment(environment={})


def test_secrets_show_themselves_to_nobody() -> None:
    """A secret is in no text form of the settings, and is neither copied nor pickled."""
    found = from_environment(api_key=SECRET, webhook_secret=SECRET, environment={})
    assert SECRET == plain(found.api_key)
    for text in (str(found), repr(found), f"{found.api_key}", repr(found.api_key), str(dir(found))):
        assert SECRET not in text
    with pytest.raises(TypeError, match="cannot be pickled or copied") as caught:
        pickle.dumps(found)
    assert SECRET not in str(caught.value)
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        copy.deepcopy(found)
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        copy.copy(found.api_key)


def test_headers_of_the_environment() -> None:
    """OPENAI_CUSTOM_HEADERS has one header a line; a line that is none is refused without showing its value."""
    assert {"X-Team": "blue", "X-Note": "a: b"} == from_environment(environment=FULL).headers
    for lines in ("sk-without-a-colon", "X-Team: blue\nbad name: sk-1", "X-Team: é"):
        with pytest.raises(ConfigurationError) as caught:
            from_environment(environment={"OPENAI_CUSTOM_HEADERS": lines})
        assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("path", ["/openai/deployments/gpt-4o/chat/completions", "/openai/deployments/gpt-4o"])
def test_the_url_of_a_deployment_is_told_from_the_endpoint(path: str) -> None:
    """A pasted deployment URL gives an error that says what to write instead."""
    url = f"https://a.openai.azure.com{path}?api-version=2024-10-21"
    with pytest.raises(
        ConfigurationError, match=r"use https://a\.openai\.azure\.com, and pass .*'gpt-4o' as the `model`"
    ):
        azure_from_environment(endpoint=url, environment={})
    with pytest.raises(ConfigurationError, match=r"use https://a\.openai\.azure\.com/openai/v1, and pass"):
        from_environment(base_url=url, environment={})
