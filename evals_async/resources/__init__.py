"""One method per endpoint. Each resource has a `Caller`, which sends requests, decodes responses and reads
listings.

Each module imports only from the modules before it in this list: `_requests`, `_uploads`, `_caller`, `_raw`, `_many`,
`output_items`, `runs`, `evals`, `files`, `graders`.

A module is imported when one of its names is first used.
"""

from evals_async._names import lazy_names


TYPE_CHECKING = False

if TYPE_CHECKING:
    from evals_async.resources._caller import CallDefaults as CallDefaults, Caller as Caller
    from evals_async.resources._raw import RawResponse as RawResponse, ResponseHeaders as ResponseHeaders
    from evals_async.resources._requests import CallOptions as CallOptions
    from evals_async.resources._run_keys import RunKey as RunKey
    from evals_async.resources.evals import Evals as Evals
    from evals_async.resources.files import Files as Files
    from evals_async.resources.graders import Graders as Graders
    from evals_async.resources.output_items import OutputItems as OutputItems
    from evals_async.resources.runs import Runs as Runs

HOMES = {
    "_caller": "CallDefaults Caller",
    "_raw": "RawResponse ResponseHeaders",
    "_requests": "CallOptions",
    "_run_keys": "RunKey",
    "evals": "Evals",
    "files": "Files",
    "graders": "Graders",
    "output_items": "OutputItems",
    "runs": "Runs",
}
"""Which module each name is found in."""

PLACES = {name: module for module, names in HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # to type checkers public is what the imports above rename to itself, and nothing else
    __all__ = sorted(PLACES)  # noqa: PLE0605  # computed
    __getattr__, __dir__ = lazy_names(__name__, PLACES)
