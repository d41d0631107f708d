"""The templates of graders and messages: `{{ item.answer }}`, `{{ sample.output_tools[0].function.arguments.city }}`.

There are two namespaces, dotted names, `[n]` and `["name"]`, but no expressions, filters or escapes, as in the graders
guide. A path may continue inside a string with JSON.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import attrs

from evals_async import EvalsError
from evals_async._json import JSONObject, NotJSON, as_array, as_object, parse


PARSED, SHORT = 1024, 10_000  # number of cached templates, and characters of the longest cached one
PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
STEP = re.compile(r"""\.?([^.\[\]"']+)|\[(\d{1,9})\]|\["([^"]*)"\]|\['([^']*)'\]""")
PART_TYPES = frozenset(
    {
        *("text", "input_text", "output_text", "refusal"),
        *("image_url", "input_image", "input_audio", "file", "input_file"),
    }
)


MISSING = object()


class TemplateError(EvalsError, ValueError):
    """A placeholder is invalid, or there is no value at its path. The message names the placeholder."""


def steps(path: str) -> tuple[str | int, ...]:
    """Parse a path such as `item.rows[0].x`. The result is cached like templates."""
    return steps_apart(path) if len(path) <= SHORT else steps_apart.__wrapped__(path)


@lru_cache(maxsize=PARSED)
def steps_apart(path: str) -> tuple[str | int, ...]:
    found: list[str | int] = []
    end = 0
    while end < len(path):
        match = STEP.match(path, end)
        if match is None or (match.group(1) is not None and (end == 0) == match.group().startswith(".")):
            raise TemplateError(f"'{path}' is not a valid path like item.name or sample.output_tools[0]")
        name, index, *quoted = match.groups()
        found.append(int(index) if index is not None else next(text for text in (name, *quoted) if text is not None))
        end = match.end()
    if not found:
        raise TemplateError("a placeholder is empty")
    return tuple(found)


@attrs.frozen
class Template:
    """A parsed template: texts, and between them the paths of the placeholders."""

    texts: tuple[str, ...]
    paths: tuple[str, ...]
    whole: str | None
    """The path of a template that is a single placeholder, else `None`."""
    bare: str | None
    """The same, if there are also no spaces around the placeholder."""


def parsed(template: str) -> Template:
    """Parse a template. Short templates are cached, because the same ones are rendered for every row."""
    return taken_apart(template) if len(template) <= SHORT else taken_apart.__wrapped__(template)


@lru_cache(maxsize=PARSED)
def taken_apart(template: str) -> Template:
    pieces = PLACEHOLDER.split(template)
    texts, paths = tuple(pieces[::2]), tuple(path.strip() for path in pieces[1::2])
    around = "".join(texts) if len(paths) == 1 else "several"
    return Template(texts, paths, None if around.strip() else paths[0], None if around else paths[0])


def opened(value: object) -> object:
    """Parse a string with a JSON object or array. Other values are returned unchanged."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return parse(value.encode())
        except (NotJSON, UnicodeEncodeError):
            return value
    return value


def lookup(path: str, namespaces: Mapping[str, object]) -> object:
    """Return the value at a path. Raises `TemplateError` if there is none."""
    value: object = namespaces
    for step in steps(path):
        if isinstance(value, str):
            value = opened(value)
        if (fields := as_object(value)) is not None:
            value = fields.get(step, MISSING) if isinstance(step, str) else MISSING
        elif isinstance(step, int) and (entries := as_array(value)) is not None and step < len(entries):
            value = entries[step]
        else:
            value = MISSING
        if value is MISSING:
            raise TemplateError(f"there is no value at {{{{ {path} }}}}")
    return value


def as_text(value: object) -> str:
    """Return a value as text: a string unchanged, null as an empty text, other values as compact JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_text(value)


def json_text(value: object, *, ascii_only: bool = False) -> str:
    """Return the compact text of a JSON value. Its objects may be any mappings."""
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"), default=dict)


def render(template: str, namespaces: Mapping[str, object]) -> str:
    """Return the rendered template. A placeholder that is not closed is not replaced. Raises `TemplateError`."""
    return rendered(parsed(template), namespaces)


def rendered(found: Template, namespaces: Mapping[str, object]) -> str:
    if found.bare is not None:
        return as_text(lookup(found.bare, namespaces))
    pieces = [found.texts[0]]
    for number, path in enumerate(found.paths, 1):
        pieces += (as_text(lookup(path, namespaces)), found.texts[number])
    return "".join(pieces)


def render_value(template: str, namespaces: Mapping[str, object]) -> object:
    """Return the value if the template is a single placeholder, else the result of `render`."""
    found = parsed(template)
    return rendered(found, namespaces) if found.whole is None else lookup(found.whole, namespaces)


def render_messages(template: object, namespaces: Mapping[str, object]) -> list[JSONObject]:
    """Return the rendered messages of a grader or a run.

    `template` is a list of messages, or the path or placeholder (`item.input`, `{{ item.input }}`) of a list of
    messages. In a list, such a string is replaced by its messages. Raises `TemplateError`.
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
    """Return the messages for a value: a list of messages, one message, or the text of a user."""
    value = opened(value)
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    entries = [as_object(entry) for entry in (as_array(value) or (value,))]
    messages = [entry for entry in entries if entry is not None]
    if not messages or len(messages) != len(entries):
        raise TemplateError(f"{path} is not a list of messages")
    return messages


def render_message(message: JSONObject, namespaces: Mapping[str, object]) -> JSONObject:
    """Return a message with its rendered content. Its other fields are kept."""
    return {**message, "content": render_content(message.get("content"), namespaces)}


def render_content(content: object, namespaces: Mapping[str, object]) -> object:
    """Return a rendered content. Parts keep their type, and a single placeholder may be replaced by parts."""
    if isinstance(content, str):
        value = render_value(content, namespaces)
        return value if isinstance(value, str) or are_parts(value) else as_text(value)
    if (part := as_object(content)) is not None:
        return {key: entry if key == "type" else render_content(entry, namespaces) for key, entry in part.items()}
    if (entries := as_array(content)) is not None:
        return [part for entry in entries for part in spread(render_content(entry, namespaces))]
    return content


def spread(value: object) -> Sequence[object]:
    """Return the parts of a rendered entry of a content: one part, or the parts from its placeholder."""
    return (as_array(value) or ()) if are_parts(value) else (value,)


def are_parts(value: object) -> bool:
    """Whether this is a list of content parts, such as text and image."""
    kinds = [(as_object(entry) or {}).get("type") for entry in as_array(value) or ()]
    return bool(kinds) and all(isinstance(kind, str) and kind in PART_TYPES for kind in kinds)
