"""One method per endpoint. Each resource has a `Caller`, which sends requests, decodes responses and reads
listings.

Each module imports only from the modules before it in this list: `_requests`, `_uploads`, `_caller`, `_raw`, `_many`,
`output_items`, `runs`, `evals`, `files`, `graders`.
"""

from evals_async._omit import OMIT, Omit
from evals_async.resources._caller import CallDefaults, Caller
from evals_async.resources._raw import RawResponse, ResponseHeaders
from evals_async.resources._requests import CallOptions
from evals_async.resources._run_keys import RunKey
from evals_async.resources.evals import Evals
from evals_async.resources.files import Files
from evals_async.resources.graders import Graders
from evals_async.resources.output_items import OutputItems
from evals_async.resources.runs import Runs


__all__ = [
    "OMIT",
    "CallDefaults",
    "CallOptions",
    "Caller",
    "Evals",
    "Files",
    "Graders",
    "Omit",
    "OutputItems",
    "RawResponse",
    "ResponseHeaders",
    "RunKey",
    "Runs",
]
