"""`Closing`: what is closed at the end of `async with`."""

from types import TracebackType
from typing import Self


class Closing:
    """Base of the classes that hold something open: `async with` gives the object, and closes it at the end."""

    async def close(self) -> None:
        """Close it. A second time does nothing."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
