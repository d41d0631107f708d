"""Webhook events about runs. Whether an event is genuine is decided in `webhooks`, before it becomes one of these.

https://platform.openai.com/docs/api-reference/webhook-events
"""

from datetime import datetime
from typing import Literal, TypeAlias

import attrs

from evals_async.models.base import Model, Unknown, moment


@attrs.frozen(kw_only=True, repr=False)
class RunReference(Model):
    """The run that an event is about. The API does not say to which eval it belongs: keep that yourself."""

    id: str


@attrs.frozen(kw_only=True, repr=False)
class RunEvent(Model):
    """What all events about runs have."""

    #: The same for every delivery of the event.
    id: str
    object: Literal["event"] | None = None
    #: Seconds since the epoch.
    created_at: int | None = None
    data: RunReference

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.data.id

    @property
    def created(self) -> datetime | None:
        """When it happened, in UTC."""
        return moment(self.created_at)


@attrs.frozen(kw_only=True, repr=False)
class RunSucceededEvent(RunEvent):
    """A run was completed."""

    type: Literal["eval.run.succeeded"] = "eval.run.succeeded"


@attrs.frozen(kw_only=True, repr=False)
class RunFailedEvent(RunEvent):
    """A run failed."""

    type: Literal["eval.run.failed"] = "eval.run.failed"


@attrs.frozen(kw_only=True, repr=False)
class RunCanceledEvent(RunEvent):
    """A run was canceled."""

    type: Literal["eval.run.canceled"] = "eval.run.canceled"


WebhookEvent: TypeAlias = RunSucceededEvent | RunFailedEvent | RunCanceledEvent | Unknown
"""An event, of these kinds or of another."""
