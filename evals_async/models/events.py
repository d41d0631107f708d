"""Webhook events about runs. `webhooks` verifies the signature of an event before it is decoded.

https://platform.openai.com/docs/api-reference/webhook-events
"""

from datetime import datetime
from typing import Literal, TypeAlias

import attrs

from evals_async.models.base import Model, Unknown, moment


@attrs.frozen(kw_only=True, repr=False, eq=False)
class RunReference(Model):
    """The run of an event. The API does not send the id of its eval, so store it yourself."""

    id: str


@attrs.frozen(kw_only=True, repr=False, eq=False)
class RunEvent(Model):
    """The fields of all events about runs."""

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
        """When the event happened, in UTC."""
        return moment(self.created_at)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class RunSucceededEvent(RunEvent):
    """A run was completed."""

    type: Literal["eval.run.succeeded"] = "eval.run.succeeded"


@attrs.frozen(kw_only=True, repr=False, eq=False)
class RunFailedEvent(RunEvent):
    """A run failed."""

    type: Literal["eval.run.failed"] = "eval.run.failed"


@attrs.frozen(kw_only=True, repr=False, eq=False)
class RunCanceledEvent(RunEvent):
    """A run was canceled."""

    type: Literal["eval.run.canceled"] = "eval.run.canceled"


WebhookEvent: TypeAlias = RunSucceededEvent | RunFailedEvent | RunCanceledEvent | Unknown
"""An event about a run, or an unknown event."""
