"""The pipelines of a client and its copies: one for each set of credentials and base URL."""

from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

from evals_async._transport.pipeline import Pipeline


MOST = 1000  # sets of credentials whose limits are remembered while nobody uses them


class Pipelines:
    """Finds the pipeline of an identity again, so that all copies with one key have one limiter and one retry budget.

    A pipeline that a client holds, or that has calls under way, is always found. Of the others the `most` that were
    asked for last are remembered.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.alive: WeakValueDictionary[str, Pipeline] = WeakValueDictionary()
        self.recent: OrderedDict[str, Pipeline] = OrderedDict()

    def get(self, identity: str, make: Callable[[], Pipeline]) -> Pipeline:
        """The pipeline of that identity; one that `make` makes, if there is none."""
        found = self.alive.get(identity)
        if found is None:
            found = self.alive[identity] = make()
        self.recent[identity] = found
        self.recent.move_to_end(identity)
        if len(self.recent) > self.most:
            self.recent.popitem(last=False)
        return found
