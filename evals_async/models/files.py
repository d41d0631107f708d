"""Uploaded files, as far as evals need them. Their content is bytes, and no model."""

from datetime import datetime
from typing import Literal

import attrs

from evals_async.models.base import Model, moment


@attrs.frozen(kw_only=True, repr=False)
class File(Model):
    """An uploaded file. https://platform.openai.com/docs/api-reference/files/object"""

    object: Literal["file"] | None = None
    id: str
    filename: str | None = None
    #: Its size.
    bytes: int | None = None
    #: Rows for evals have the purpose `evals`; Azure also lists `evals_output`.
    purpose: Literal["evals"] | str | None = None
    #: Seconds since the epoch.
    created_at: int | None = None
    #: Seconds since the epoch.
    expires_at: int | None = None
    status: Literal["uploaded", "processed", "error"] | str | None = None
    status_details: str | None = None

    @property
    def created(self) -> datetime | None:
        """When it was uploaded, in UTC."""
        return moment(self.created_at)

    @property
    def expires(self) -> datetime | None:
        """When the server will delete it, in UTC; `None` if it will not."""
        return moment(self.expires_at)


@attrs.frozen(kw_only=True, repr=False)
class FileDeleted(Model):
    """The response to deleting a file. https://platform.openai.com/docs/api-reference/files/delete

    A response that does not say what was deleted raises `DecodeError`.
    """

    object: Literal["file"] | None = None
    id: str
    deleted: bool
    #: Set by the client, where the server's answer was lost and a second look found the object gone.
    assumed: bool | None = None
