"""What the calls of a process need, loaded in a thread before the first one: modules and decoders."""

from importlib import import_module

from evals_async._codec import converter, prepare
from evals_async._transport import retry
from evals_async._transport.transport import load_network


def load_first() -> None:
    """Load the network library, and make the decoder of runs."""
    from evals_async.models import EvalRun

    load_network()
    prepare(EvalRun)


def load_all() -> None:
    """Load what the calls of a process may need."""
    from evals_async.models import Eval, File, OutputItem

    load_first()
    for name in ("files", "graders"):
        import_module(f"evals_async.resources.{name}")
    converter()
    retry.load()
    prepare(Eval, OutputItem, File)
