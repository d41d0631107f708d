"""Uploaded files. Their content is bytes and has no model."""

from datetime import datetime
from typing import Literal

import attrs

from evals_async.models.base import Model, moment


@attrs.frozen(kw_only=True, repr=False, eq=False)
class File(Model):
    """An uploaded file. https://platform.openai.com/docs/api-reference/files/object"""

    object: Literal["file"] | None = None
    id: str
    filename: str | None = None
    # : The size in bytes.
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
        """When the server will delete it, in UTC, or `None` if it never will."""
        return moment(self.expires_at)


@attrs.frozen(kw_only=True, repr=False, eq=False)
class FileDeleted(Model):
    """The response after a file was deleted. https://platform.openai.com/docs/api-reference/files/delete

    A response that does not say what was deleted raises `DecodeError`.
    """

    object: Literal["file"] | None = None
    id: str
    deleted: bool
    # : True if the response was lost and the second request found that the object is gone. The client sets it.
    assumed: bool | None = None
