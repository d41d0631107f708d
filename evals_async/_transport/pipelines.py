"""The pipelines of a client and its copies: one for each set of credentials and base URL."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

from evals_async._transport.pipeline import Pipeline


MOST = 1000  # pipelines that are kept although no client uses them


class Pipelines:
    """Keeps one pipeline for each identity, so that all clients with one key share one limiter and one retry budget.

    A pipeline that a client holds, or that has running calls, is always found. Of the unused pipelines, the `most`
    latest ones are kept. Copies may be made in other threads: web frameworks run plain functions there.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.alive: WeakValueDictionary[str, Pipeline] = WeakValueDictionary()
        self.recent: OrderedDict[str, Pipeline] = OrderedDict()
        self.lock = threading.RLock()  # reentrant, because the garbage collector may end a call that was forgotten

    def get(self, identity: str, make: Callable[[], Pipeline]) -> Pipeline:
        """Return the pipeline of `identity`. Call `make` if there is none."""
        with self.lock:  # two threads at once get the same pipeline
            found = self.alive.get(identity)
            if found is None:
                found = self.alive[identity] = make()
        self.touch(found)
        return found

    def touch(self, pipeline: Pipeline) -> None:
        """Count `pipeline` as the latest one."""
        with self.lock:
            self.recent[pipeline.identity] = pipeline
            self.recent.move_to_end(pipeline.identity)
            if len(self.recent) > self.most:
                self.recent.popitem(last=False)
