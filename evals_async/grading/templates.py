"""The templates of graders and messages: `{{ item.answer }}`, `{{ sample.output_tools[0].function.name }}`.

Two namespaces, dotted names and `[n]`; no expressions, no filters, no escaping, as the graders guide has them. Pure
functions.
"""

import re
from collections.abc import Mapping

from evals_async._json import as_array, as_object
from evals_async._store import json_text


PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d{1,9})\]")


class TemplateError(ValueError):
    """A placeholder is malformed, or there is nothing where it points to."""


def steps(path: str) -> list[str | int]:
    """`item.rows[0].x` taken apart."""
    found: list[str | int] = []
    end = 0
    while end < len(path):
        match = STEP.match(path, end)
        if match is None or (match.group(2) is None and (end == 0) == match.group().startswith(".")):
            raise TemplateError(f"'{path}' is not a path like item.name or sample.output_tools[0]")
        found.append(match.group(1) if match.group(2) is None else int(match.group(2)))
        end = match.end()
    if not found:
        raise TemplateError("a placeholder is empty")
    return found


def lookup(path: str, namespaces: Mapping[str, object]) -> object:
    """The value that a path points to. Raises `TemplateError` where there is none."""
    value: object = namespaces
    for step in steps(path):
        fields, entries = as_object(value), as_array(value)
        if isinstance(step, str) and fields is not None and step in fields:
            value = fields[step]
        elif isinstance(step, int) and entries is not None and step < len(entries):
            value = entries[step]
        else:
            raise TemplateError(f"there is no {path}")
    return value


def as_text(value: object) -> str:
    """A value in a text: strings as they are, null as nothing, all else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_text(value)


def render(template: str, namespaces: Mapping[str, object]) -> str:
    """The template with its placeholders filled. Raises `TemplateError`."""
    return PLACEHOLDER.sub(lambda match: as_text(lookup(match.group(1).strip(), namespaces)), template)
