"""The template language of graders."""

import pytest

from evals_async.grading.templates import TemplateError, render


NAMESPACES: dict[str, object] = {
    "item": {
        "name": "Ada",
        "n": 5,
        "f": 0.5,
        "yes": True,
        "none": None,
        "list": [1, ["x", "y"]],
        "deep": {"a b": {"ä": "found"}},
        "braces": "{{ item.name }}",
        "0": "zero",
    },
    "sample": {"output_tools": [{"function": {"name": "look_up", "arguments": {"q": 1}}}]},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("no placeholder", "no placeholder"),
        ("{{item.name}}", "Ada"),
        ("{{ item.name }}", "Ada"),
        ("{{\n item.name\t}}", "Ada"),
        ("<{{item.name}}, {{item.name}}>", "<Ada, Ada>"),
        ("{{item.n}}/{{item.f}}/{{item.yes}}/{{item.none}}", "5/0.5/true/"),
        ("{{item.list}}", '[1,["x","y"]]'),
        ("{{item.list[0]}}{{item.list[1][1]}}", "1y"),
        ("{{sample.output_tools[0].function.name}}", "look_up"),
        ("{{sample.output_tools[0].function.arguments}}", '{"q":1}'),
        ("{{item.deep.a b.ä}}", "found"),
        ("{{item.0}}", "zero"),
        ("{{item.braces}}", "{{ item.name }}"),
        ("{ {item.name} } {{{{ }}", None),
        ("{item.name}", "{item.name}"),
        ("{{item.name", "{{item.name"),
    ],
)
def test_placeholders_are_filled(template: str, text: str | None) -> None:
    """Strings as they are, null as nothing, all else as JSON; what is filled in is not looked at again."""
    if text is None:
        with pytest.raises(TemplateError):
            render(template, NAMESPACES)
    else:
        assert render(template, NAMESPACES) == text


@pytest.mark.parametrize(
    "path",
    [
        *("item.missing", "item.name.more", "item.list[2]", "item.list.0", "item[0]", "other.name"),
        *("", " ", ".", ".item", "item.", "item..name", "item.list[", "item.list[x]", "item.list[-1]", "[0]"),
        *("item.name | upper", "1 + 1", "item.__class__", "item.list[99999999999999999999]"),
    ],
)
def test_what_is_not_there_is_an_error(path: str) -> None:
    """A path that is malformed or leads nowhere raises; nothing is evaluated."""
    with pytest.raises(TemplateError):
        render("{{" + path + "}}", NAMESPACES)


@pytest.mark.parametrize("hostile", ["{{" * 50_000, "{{" + " " * 100_000, "{{" + "a" * 100_000 + "{"])
def test_rendering_takes_linear_time(hostile: str) -> None:
    """Text that only looks like placeholders is left as it is, quickly."""
    assert render(hostile, NAMESPACES) == hostile
