"""The model map in TOML: what is read, and how what is wrong is told."""

from pathlib import Path

import pytest

from evals_async import ConfigurationError
from evals_async.inference import Endpoint, Models
from evals_async.inference.endpoints import endpoints_of, read_file


TOML = """
[models."gpt-4.1"]
base_url = "http://127.0.0.1:8000/v1"
model = "my-deployment"
headers = { "X-Team" = "evals" }
prices = { input = 2, output = 8.0 }
concurrency = 8

[models."*"]
base_url = "https://models.example/v1"
"""


def test_a_map_is_read(tmp_path: Path) -> None:
    """Every setting of the file arrives; what is not given has its default."""
    file = tmp_path / "models.toml"
    file.write_text(TOML)
    assert endpoints_of(read_file(file)) == {
        "gpt-4.1": Endpoint(
            base_url="http://127.0.0.1:8000/v1",
            model="my-deployment",
            headers={"X-Team": "evals"},
            prices={"input": 2.0, "output": 8.0},
            concurrency=8,
        ),
        "*": Endpoint(base_url="https://models.example/v1"),
    }
    assert Models.from_file(file).names() == ("gpt-4.1", "*")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"the model map is empty: write \[models\.\"NAME\"\]"),
        ("[model.x]\nbase_url = 'http://127.0.0.1'", "no table model"),
        ("[models.x]\nmodel = 'm'", 'models."x" needs a base_url'),
        ("[models.x]\nbase_url = 1", 'models."x".base_url must be a non-empty text'),
        (
            "[models.x]\nbase_url = 'http://127.0.0.1'\nbaseurl = 'x'",
            'models."x" has no setting baseurl; there are: base_url',
        ),
        ("[models.x]\nbase_url = 'http://127.0.0.1'\nconcurrency = 0", 'models."x".concurrency must be a whole number'),
        ("[models.x]\nbase_url = 'http://127.0.0.1'\nallow_http = 1", "must be true or false"),
        (
            "[models.x]\nbase_url = 'http://127.0.0.1'\nheaders = { a = 1 }",
            'models."x".headers must be a non-empty text',
        ),
        ("[models.x]\nbase_url = 'http://127.0.0.1'\nheaders = 'x'", "must be a table of texts"),
        ("[models.x]\nbase_url = 'http://127.0.0.1'\nprices = { in = 1 }", "must be a table such as { input = 2.0"),
        ("[models.x]\nbase_url = 'http://127.0.0.1'\nprices = { input = -1 }", "input must be a number from 0"),
        ("[models.x]\nbase_url = 'http://gpu-box:8000/v1'", r'models\."x": .*plain http to gpu-box'),
        ("[models.x]\nbase_url = 'not a url'", r'models\."x": '),
        ("[models.x", "is not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_map_is_named(text: str, told: str, tmp_path: Path) -> None:
    """Entry and setting are in the error, and nothing was sent."""
    file = tmp_path / "models.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        Models.from_file(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The file is named."""
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read: No such file"):
        Models.from_file(tmp_path / "none.toml")


def test_plain_http_can_be_allowed() -> None:
    """For a machine of one's own network."""
    entry = {"base_url": "http://gpu-box:8000/v1", "allow_http": True}
    assert Models.from_mapping({"models": {"x": entry}}).resolves("x")


def test_a_map_that_is_empty() -> None:
    """There is no map without an entry."""
    with pytest.raises(ConfigurationError, match="empty"):
        Models({})
