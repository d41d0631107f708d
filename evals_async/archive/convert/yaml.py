"""Write JSON values as YAML 1.2: nested values as blocks, strings as JSON strings, comments at the top.

It is enough for a configuration file, so no YAML library is needed.
"""

from collections.abc import Sequence

from evals_async import _json, encode
from evals_async._json import JSONObject, as_array, as_object


# Words that older versions of YAML read as a boolean or as null.
WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def document(value: JSONObject, comments: Sequence[str] = ()) -> str:
    """Return the YAML text of a mapping, with comments at the top."""
    head = [f"# {line}" for comment in comments for line in comment.splitlines()]
    return "\n".join([*head, *lines_of(value, 0)]) + "\n"


def lines_of(value: object, depth: int) -> list[str]:
    """Return the lines of a mapping or sequence, which must not be empty."""
    indent = "  " * depth
    found: list[str] = []
    mapping, sequence = as_object(value), as_array(value)
    for key, entry in (mapping or {}).items():
        name = key if key.isidentifier() and key.lower() not in WORDS else scalar(key)
        if is_block(entry):
            found += [f"{indent}{name}:", *lines_of(entry, depth + 1)]
        else:
            found.append(f"{indent}{name}: {scalar(entry)}")
    for entry in sequence or ():
        if is_block(entry):
            inner = lines_of(entry, depth + 1)
            found += [f"{indent}- {inner[0].lstrip()}", *inner[1:]]
        else:
            found.append(f"{indent}- {scalar(entry)}")
    return found


def is_block(value: object) -> bool:
    return bool(as_object(value)) or bool(as_array(value))


def scalar(value: object) -> str:
    """Return a scalar or an empty collection as JSON, which is valid YAML. Older readers need a point in a float."""
    text = _json.dump(encode(value)).decode()
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text
