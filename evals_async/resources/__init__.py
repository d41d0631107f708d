"""One method per endpoint. Each resource holds a `Caller` (how to send, decode and page), and knows no client.

Lines above are lower: `base`, `call`, `output_items`, `runs`, `evals`, `files`, `graders`.
"""

from evals_async.resources._caller import Caller, RawResponse
from evals_async.resources._requests import OMIT, CallOptions, Omit
from evals_async.resources.evals import Evals
from evals_async.resources.files import Files
from evals_async.resources.graders import Graders
from evals_async.resources.output_items import OutputItems, RunKey
from evals_async.resources.runs import Runs


__all__ = [
    "OMIT",
    "CallOptions",
    "Caller",
    "Evals",
    "Files",
    "Graders",
    "Omit",
    "OutputItems",
    "RawResponse",
    "RunKey",
    "Runs",
]
