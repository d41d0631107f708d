"""The templates of graders and messages: `{{ item.answer }}`, `{{ sample.output_tools[0].function.arguments.city }}`.

Two namespaces, dotted names, `[n]` and `["name"]`; no expressions, no filters, no escaping, as the graders guide has
them. A path may go on inside a string that holds JSON. Pure functions.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import attrs

from evals_async import EvalsError
from evals_async._json import JSONObject, NotJSON, as_array, as_object, parse


PARSED, SHORT = 1024, 10_000  # templates that are remembered, and characters of the longest
PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
STEP = re.compile(r"""\.?([^.\[\]"']+)|\[(\d{1,9})\]|\["([^"]*)"\]|\['([^']*)'\]""")
PART_TYPES = frozenset(
    {
        *("text", "input_text", "output_text", "refusal"),
        *("image_url", "input_image", "input_audio", "file", "input_file"),
    }
)


class TemplateError(EvalsError, ValueError):
    """A placeholder is malformed, or there is nothing where it points to. The text names the placeholder."""


def steps(path: str) -> tuple[str | int, ...]:
    """`item.rows[0].x` taken apart; remembered as templates are."""
    return steps_apart(path) if len(path) <= SHORT else steps_apart.__wrapped__(path)


@lru_cache(maxsize=PARSED)
def steps_apart(path: str) -> tuple[str | int, ...]:
    found: list[str | int] = []
    end = 0
    while end < len(path):
        match = STEP.match(path, end)
        if match is None or (match.group(1) is not None and (end == 0) == match.group().startswith(".")):
            raise TemplateError(f"'{path}' is not a path like item.name or sample.output_tools[0]")
        name, index, *quoted = match.groups()
        found.append(int(index) if index is not None else next(text for text in (name, *quoted) if text is not None))
        end = match.end()
    if not found:
        raise TemplateError("a placeholder is empty")
    return tuple(found)


@attrs.frozen
class Template:
    """A template taken apart: texts, and between them the paths of the placeholders."""

    texts: tuple[str, ...]
    paths: tuple[str, ...]
    whole: str | None
    """The path of a template that is one placeholder and nothing else."""


def parsed(template: str) -> Template:
    """A template taken apart; short ones are remembered, because the same few are filled for every row."""
    return taken_apart(template) if len(template) <= SHORT else taken_apart.__wrapped__(template)


@lru_cache(maxsize=PARSED)
def taken_apart(template: str) -> Template:
    pieces = PLACEHOLDER.split(template)
    texts, paths = tuple(pieces[::2]), tuple(path.strip() for path in pieces[1::2])
    return Template(texts, paths, paths[0] if len(paths) == 1 and not "".join(texts).strip() else None)


def opened(value: object) -> object:
    """A string that holds an object or array of JSON as that; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return parse(value.encode())
        except (NotJSON, UnicodeEncodeError):
            return value
    return value


def lookup(path: str, namespaces: Mapping[str, object]) -> object:
    """The value that a path points to. Raises `TemplateError` where there is none."""
    value: object = namespaces
    for step in steps(path):
        if isinstance(value, str):
            value = opened(value)
        if isinstance(step, str) and (fields := as_object(value)) is not None and step in fields:
            value = fields[step]
        elif isinstance(step, int) and (entries := as_array(value)) is not None and step < len(entries):
            value = entries[step]
        else:
            raise TemplateError(f"there is nothing at {{{{ {path} }}}}")
    return value


def as_text(value: object) -> str:
    """A value in a text: strings as they are, null as nothing, all else as compact JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_text(value)


def json_text(value: object, *, ascii_only: bool = False) -> str:
    """The compact text of a JSON value; its objects may be of any kind of mapping."""
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"), default=dict)


def render(template: str, namespaces: Mapping[str, object]) -> str:
    """The template with its placeholders filled; one that is not closed stays as it is. Raises `TemplateError`."""
    found = parsed(template)
    if not found.paths:
        return template
    pieces = [found.texts[0]]
    for number, path in enumerate(found.paths, 1):
        pieces += (as_text(lookup(path, namespaces)), found.texts[number])
    return "".join(pieces)


def render_value(template: str, namespaces: Mapping[str, object]) -> object:
    """The value itself where the template is one placeholder and nothing else; otherwise as `render`."""
    whole = parsed(template).whole
    return render(template, namespaces) if whole is None else lookup(whole, namespaces)


def render_messages(template: object, namespaces: Mapping[str, object]) -> list[JSONObject]:
    """The messages of a grader or a run, filled.

    `template` is a list of messages; or a path or placeholder (`item.input`, `{{ item.input }}`) that leads to a list
    of messages. In a list, a string of that kind stands for the messages that it leads to. Raises `TemplateError`.
    """
    if isinstance(template, str):
        path = template if PLACEHOLDER.search(template) else f"{{{{ {template} }}}}"
        return messages_of(render_value(path, namespaces), template)
    found: list[JSONObject] = []
    for entry in as_array(template) or ():
        if isinstance(entry, str):
            found += messages_of(render_value(entry, namespaces), entry)
        elif (message := as_object(entry)) is not None:
            found.append(render_message(message, namespaces))
        else:
            raise TemplateError("a message must be an object with a role and a content")
    return found


def messages_of(value: object, path: str) -> list[JSONObject]:
    """A value that stands for messages: a list of them, one of them, or the text of a user."""
    value = opened(value)
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    entries = [as_object(entry) for entry in (as_array(value) or (value,))]
    messages = [entry for entry in entries if entry is not None]
    if not messages or len(messages) != len(entries):
        raise TemplateError(f"{path} is not a list of messages")
    return messages


def render_message(message: JSONObject, namespaces: Mapping[str, object]) -> JSONObject:
    """A message with its content filled; all its other fields stay."""
    return {**message, "content": render_content(message.get("content"), namespaces)}


def render_content(content: object, namespaces: Mapping[str, object]) -> object:
    """A content with its placeholders filled: parts keep their type, and one placeholder may stand for parts."""
    if isinstance(content, str):
        value = render_value(content, namespaces)
        return value if isinstance(value, str) or are_parts(value) else as_text(value)
    if (part := as_object(content)) is not None:
        return {key: entry if key == "type" else render_content(entry, namespaces) for key, entry in part.items()}
    if (entries := as_array(content)) is not None:
        return [part for entry in entries for part in spread(render_content(entry, namespaces))]
    return content


def spread(value: object) -> Sequence[object]:
    """The parts that one entry of a content became: one, or those that its placeholder led to."""
    return (as_array(value) or ()) if are_parts(value) else (value,)


def are_parts(value: object) -> bool:
    """Is this a list of content parts, such as text and image?"""
    kinds = [(as_object(entry) or {}).get("type") for entry in as_array(value) or ()]
    return bool(kinds) and all(isinstance(kind, str) and kind in PART_TYPES for kind in kinds)
