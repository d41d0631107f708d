"""The template language of graders."""

import pytest

from evals_async.grading.templates import SHORT, TemplateError, render, render_messages, steps_apart, taken_apart


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
    "sample": {
        "output_tools": [
            {"function": {"name": "look_up", "arguments": {"q": 1}}},
            {"function": {"name": "quote", "arguments": ' {"symbols": ["A", "B"]}'}},
        ],
        "broken": "{not json",
    },
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
        ("{{sample.output_tools[1].function.arguments.symbols}}", '["A","B"]'),
        ("{{sample.output_tools[1].function.arguments.symbols[1]}}", "B"),
        ("{{sample.output_tools[1]['function'][\"name\"]}}", "quote"),
        ("{{item.deep.a b.ä}}", "found"),
        ("{{sample.output_text}", "{{sample.output_text}"),
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
        *("sample.broken.x", "item['missing']", "item['name"),
        *("item.missing", "item.name.more", "item.list[2]", "item.list.0", "item[0]", "other.name"),
        *("", " ", ".", ".item", "item.", "item..name", "item.list[", "item.list[x]", "item.list[-1]", "[0]"),
        *("item.name | upper", "1 + 1", "item.__class__", "item.list[99999999999999999999]"),
    ],
)
def test_what_is_not_there_is_an_error(path: str) -> None:
    """A path that is malformed or leads nowhere raises; nothing is evaluated."""
    with pytest.raises(TemplateError):
        render("{{" + path + "}}", NAMESPACES)


def test_the_error_names_the_placeholder() -> None:
    """Who has fifty placeholders is told which one."""
    with pytest.raises(TemplateError, match=r"no value at \{\{ item\.missing \}\}"):
        render("{{item.name}} {{ item.missing }}", NAMESPACES)


TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "{{ item.x }}"}]
ROW: dict[str, object] = {
    "input": TALK,
    "as_json": '[{"role": "user", "content": "Hi"}]',
    "x": "filled",
    "n": 3,
    "url": "https://example.com/cat.png",
    "parts": [{"type": "text", "text": "A"}, {"type": "image_url", "image_url": {"url": "https://example.com/1.png"}}],
}


@pytest.mark.parametrize(
    ("template", "messages"),
    [
        ("item.input", TALK),
        ("{{ item.input }}", TALK),
        ("item.as_json", TALK[:1]),
        ("item.x", [{"role": "user", "content": "filled"}]),
        (
            [{"role": "system", "content": "Say {{item.x}}"}, "{{ item.input }}"],
            [{"role": "system", "content": "Say filled"}, *TALK],
        ),
        ([{"role": "user", "content": "{{item.n}}"}], [{"role": "user", "content": "3"}]),
        ([{"role": "user", "content": "{{ item.parts }}"}], [{"role": "user", "content": ROW["parts"]}]),
        (
            [{"role": "user", "type": "message", "content": {"type": "input_text", "text": "<{{item.x}}>"}}],
            [{"role": "user", "type": "message", "content": {"type": "input_text", "text": "<filled>"}}],
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "{{item.url}}"}, "{{item.parts}}"]}],
            [
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": ROW["url"]}, *TALK[:0], *ROW["parts"]],  # type: ignore[misc]  # a list
                }
            ],
        ),
    ],
)
def test_messages_are_filled(template: object, messages: object) -> None:
    """A reference stands for messages, parts keep their type, and what was filled in is not filled again."""
    assert render_messages(template, {"item": ROW}) == messages


@pytest.mark.parametrize("template", ["item.n", "item.missing", "item.parts[0].type.x", [3], [["x"]]])
def test_what_is_no_list_of_messages_is_an_error(template: object) -> None:
    """A reference to a number, and an entry that is no message, raise."""
    with pytest.raises(TemplateError):
        render_messages(template, {"item": ROW})


@pytest.mark.parametrize("hostile", ["{{" * 50_000, "{{" + " " * 100_000, "{{" + "a" * 100_000 + "{"])
def test_rendering_takes_linear_time(hostile: str) -> None:
    """Text that only looks like placeholders is left as it is, quickly."""
    assert render(hostile, NAMESPACES) == hostile


def test_short_templates_are_remembered_and_long_ones_are_filled() -> None:
    """What is remembered has a bound, in number and in size; a long template or path gives what a short one gives."""
    kept = taken_apart.cache_info().currsize, steps_apart.cache_info().currsize
    long = "x" * SHORT
    assert render(long + "{{ item.name }}", NAMESPACES) == long + "Ada"
    assert render(f'{{{{ item["{long}y"] }}}}', {"item": {long + "y": 1}}) == "1"
    with pytest.raises(TemplateError):
        render(f"{{{{ item.{long} }}}}", NAMESPACES)
    assert taken_apart.cache_info().currsize - kept[0] == 0
    assert steps_apart.cache_info().currsize <= kept[1] + 1  # `item.name`
