"""The local server: the Evals API over a store, for tests, demonstrations and archives.

It shares only errors, the clock and the JSON parser with the client. So a mistake in the client cannot be repeated in
the server.
"""

from evals_async.server.faults import Fault, FaultPlan
from evals_async.server.running import LocalServer, SeenRequest
from evals_async.server.sample import SampleTree, sample_tree
from evals_async.server.threads import ServerThread


__all__ = ["Fault", "FaultPlan", "LocalServer", "SampleTree", "SeenRequest", "ServerThread", "sample_tree"]
