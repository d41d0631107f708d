"""How the documentation is built: `sphinx-build -n -W -b html docs OUT`.

Nothing is fetched unless the tag `online` is given (`-t online`): then names of other projects become links.
"""

import builtins
import importlib
import re
from importlib.metadata import version as version_of
from typing import Any, is_typeddict

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

from evals_async import models


project = "evals-async"
copyright = "the evals-async developers"  # the name that Sphinx reads
version = release = version_of("evals-async")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx_copybutton", "sphinx_llm_friendly"]
exclude_patterns = ["examples"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"evals-async {release}"

# --- the reference ---------------------------------------------------------------------------------------------------

default_role = "name_or_code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 90
python_use_unqualified_type_names = True

intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "aiohttp": ("https://docs.aiohttp.org/en/stable", None),
    }
    if tags.has("online")  # type: ignore[name-defined]  # noqa: F821  # Sphinx puts it here
    else {}
)

# A reference to a public name must lead somewhere. Signatures also name what is not public, which is shown as text, and
# names of others, which cannot be looked up without a network.
nitpick_ignore_regex = [
    ("py:.*", r"(?!evals_async\b).*"),
    ("py:.*", r"evals_async\.(?!models\.|server\.|webhooks\.)[a-z_]+\..*"),
    ("py:.*", r"evals_async\.(models|server)\.[a-z_]+\..*"),
]

PUBLIC = ("evals_async", "evals_async.models", "evals_async.server")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(\(\))?")


def name_or_code(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Single backticks in docstrings: code, and a link where it is the name of something in the reference."""
    text = text.replace("\x00", "\\")  # docutils' mark for an escape: in code a backslash is a backslash
    literal = nodes.literal(rawtext, text, classes=["py"])
    if not NAME.fullmatch(text):
        return [literal], []
    reference = addnodes.pending_xref(
        rawtext, literal, refdomain="py", reftype="obj", reftarget=text.removesuffix("()"), refexplicit=True, mild=True
    )
    environment = inliner.document.settings.env
    reference["py:module"] = environment.ref_context.get("py:module")
    reference["py:class"] = environment.ref_context.get("py:class")
    return [reference], []


def public_places() -> dict[str, str]:
    """Where the reference has what is made elsewhere: `evals_async.errors.NotFound` is at `evals_async.NotFound`."""
    places: dict[str, str] = {}
    for place in reversed(PUBLIC):
        module = importlib.import_module(place)
        for name in module.__all__:
            made_in = getattr(getattr(module, name), "__module__", None)
            places[f"{made_in}.{name}"] = f"{place}.{name}"
    return places


PLACES = public_places()
ALIASES = {
    stringify_annotation(getattr(models, name), "smart"): f"~evals_async.models.{name}"
    for name in ("DataSourceConfigInput", "GraderInput", "RunDataSourceInput")
}


def at_public_place(app: Sphinx, env: Any, node: addnodes.pending_xref, contnode: nodes.Element) -> Any:
    """The reference for a name that signatures and docstrings know by the module it is made in."""
    place = PLACES.get(node["reftarget"])
    if node.get("refdomain") != "py" or place is None:
        return None
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", place, node, contnode)


def excused(app: Sphinx, domain: Any, node: addnodes.pending_xref) -> bool | None:
    """No warning for single backticks that turned out to be plain code."""
    return True if node.get("mild") else None


def unlink_builtins(app: Sphinx, document: nodes.document) -> None:
    """`object` and `bytes` in a signature are Python's, not the fields of that name that some model has."""
    for reference in list(document.findall(addnodes.pending_xref)):
        if reference.get("refdomain") == "py" and hasattr(builtins, reference["reftarget"]):
            reference.replace_self(nodes.Text(reference["reftarget"]))


def readable(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """No signature for models, whose fields follow one by one; the names of long unions in all others."""
    if what == "class" and (issubclass(obj, models.Model) or is_typeddict(obj)):
        return "", None
    for union, alias in ALIASES.items():
        signature = signature and signature.replace(union, alias)
    return signature, returns


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", unlink_builtins)
    app.connect("autodoc-process-signature", readable)
    app.add_role("name_or_code", name_or_code)
    app.connect("missing-reference", at_public_place)
    app.connect("warn-missing-reference", excused)
