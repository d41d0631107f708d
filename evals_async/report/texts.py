"""Prepare untrusted text for a page: show invisible characters, cut long texts, indent JSON.

The templates escape HTML. Pure functions.
"""

import json
import math
import re
from collections.abc import Mapping

import attrs

from evals_async._json import JSONValue, as_array, as_object
from evals_async._numbers import float_of


LONGEST = 20_000  # characters of one text on a page
DEEPEST = 100  # levels of JSON on a page
INDENTED = 200_000  # characters; longer JSON is not indented

# Control characters except tab and newline, characters that change the direction of writing, and lone surrogates.
INVISIBLE = re.compile(
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069"
    "\\ud800-\\udfff]"
)
DATA_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]+")
LARGEST_IMAGE = 2_000_000  # characters of a data: URL


@attrs.frozen
class Text:
    """A text on a page. `cut` is the number of characters that were removed at its end."""

    text: str
    cut: int = 0


def shown(text: str, longest: int = LONGEST) -> Text:
    """Replace invisible characters by escapes, and keep at most `longest` characters."""
    kept = INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text[:longest].replace("\r\n", "\n"))
    return Text(kept, max(0, len(text) - longest))


def one_line(text: str, longest: int = 160) -> str:
    """Return the beginning of the text on one line, at most `longest` characters."""
    kept = " ".join(text[: 4 * longest].split())
    return shown(kept if len(kept) <= longest else kept[: longest - 1] + "…").text


def json_text(value: object) -> str:
    """Return a value as indented JSON; a string is returned without a change."""
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False, indent=2)


def plain(value: object, depth: int = 0) -> JSONValue:
    """Convert a value to types that the JSON encoder supports; others become strings. Deeper levels become `…`."""
    fields, entries = as_object(value), as_array(value)
    if depth > DEEPEST and (fields or entries):
        return "…"
    if fields is not None:
        return {str(name): plain(field, depth + 1) for name, field in fields.items()}
    if entries is not None:
        return [plain(entry, depth + 1) for entry in entries]
    return value if isinstance(value, str | int | float) or value is None else str(value)


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot contain, by escapes, as the store does in ids."""
    return text.encode("utf-8", "backslashreplace").decode()


def number_of(value: float | None) -> float | None:
    """Return a number as a finite float; `None` if it is too large for one."""
    found = None if value is None else float_of(value)
    return found if found is not None and math.isfinite(found) else None


def tidy_json(text: str) -> str:
    """Indent a text that contains JSON; other texts are returned without a change."""
    if text[:1] not in "{[" or len(text) > INDENTED:
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text


@attrs.frozen
class Part:
    """One part of a message: a text, an image whose data is in the page, or the kind of another part."""

    text: Text
    image: str | None = None
    kind: str | None = None


def parts_of(content: object, depth: int = 0) -> list[Part]:
    """Return the parts of a message's content, which may be any JSON value."""
    if content is None or depth > DEEPEST:
        return []
    if isinstance(content, str):
        return [Part(shown(content))]
    entries = as_array(content)
    if entries is not None:
        return [part for entry in entries for part in parts_of(entry, depth + 1)]
    fields = as_object(content)
    return [Part(shown(json_text(content)))] if fields is None else [part_of(fields)]


def part_of(fields: Mapping[str, object]) -> Part:
    text, kind = fields.get("text"), str(fields.get("type") or "")
    if isinstance(text, str):
        return Part(shown(text))
    image = fields.get("image_url")
    found = as_object(image)
    address = image if found is None else found.get("url")
    if isinstance(address, str):
        if len(address) <= LARGEST_IMAGE and DATA_IMAGE.fullmatch(address):
            return Part(Text(""), image=address, kind="image")
        return Part(shown(address, 500), kind="image")
    audio = as_object(fields.get("input_audio"))
    if audio is not None:
        size = len(str(audio.get("data") or "")) * 3 // 4
        return Part(Text(f"{audio.get('format') or 'sound'}, {size:,} bytes"), kind="audio")
    return Part(shown(json_text(fields)), kind=kind or None)
