"""The local server: the whole Evals API over a store, for tests, for demonstrations, and for archives.

It shares no code with the client except errors, the clock and the JSON parser: it must not agree with the client's
mistakes.
"""

from evals_async.server.faults import Fault, FaultPlan
from evals_async.server.running import LocalServer, SeenRequest
from evals_async.server.sample import SampleTree, sample_tree
from evals_async.server.threads import ServerThread


__all__ = ["Fault", "FaultPlan", "LocalServer", "SampleTree", "SeenRequest", "ServerThread", "sample_tree"]
