"""`with_options`: the errors of the package name arguments of Python; the command line names options and variables."""

import re
from collections.abc import Mapping


OPTIONS: Mapping[str, str] = {
    "no Azure endpoint: pass endpoint= or set": "no Azure endpoint: add --base-url URL, or set",
    "pass allow_http=True": "add --allow-http",
    "pass the key as api_key": "put the key into OPENAI_API_KEY, or with --azure into AZURE_OPENAI_API_KEY",
    "base_url (OPENAI_BASE_URL)": "--base-url (or OPENAI_BASE_URL)",
    "endpoint (AZURE_OPENAI_ENDPOINT)": "--base-url (or AZURE_OPENAI_ENDPOINT)",
    "organization (OPENAI_ORG_ID)": "OPENAI_ORG_ID",
    "project (OPENAI_PROJECT_ID)": "OPENAI_PROJECT_ID",
    "webhook_secret (OPENAI_WEBHOOK_SECRET)": "OPENAI_WEBHOOK_SECRET",
    " (RegradeOptions.models)": "",
    " (RegradeOptions.python)": "",
    ", or first_answer=...": "",
    ", or EvalsClient(max_body=...)": "",
}
"""Words of an error, and what the command line calls the same."""

IDS: Mapping[str, str] = {
    "api_key": "the key (OPENAI_API_KEY or AZURE_OPENAI_API_KEY)",
    "eval_id": "EVAL_ID",
    "run_id": "RUN_ID",
    "after": "--after",
}
"""Arguments that an error begins with."""

ENDPOINT: Mapping[str, str] = {
    'models."*": base_url': "--model-endpoint",
    'models."*": ': "--model-endpoint: ",
    "check base_url,": "check --model-endpoint,",
    "set allow_http = true": "use --models with a map that sets allow_http = true",
    "name the environment variable of the key as api_key_env": "put the key into EVALS_MODEL_API_KEY",
    "the key of api_key_env": "the key in EVALS_MODEL_API_KEY",
}
"""Words of an error about a model map, and what they are with --model-endpoint."""


def replaced(text: str, words: Mapping[str, str]) -> str:
    """Replace words in a text."""
    for word, instead in words.items():
        text = text.replace(word, instead)
    return text


def with_options(text: str) -> str:
    """Replace arguments of Python in an error by options and variables."""
    first = re.match(rf"(?:{'|'.join(IDS)})\b(?!=)", text)
    if first is not None:
        text = IDS[first[0]] + text[first.end() :]
    return replaced(text, OPTIONS)
