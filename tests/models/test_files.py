"""What a file tells about itself."""

import json
from datetime import UTC, datetime

from bodies import payload

from evals_async._codec import decode
from evals_async.models import File


def test_times_of_a_file() -> None:
    """Both times are there as datetimes; a file that stays has no second one."""
    kept = decode(json.dumps(payload("file")).encode(), File)
    expiring = decode(json.dumps(payload("files_page")["data"][1]).encode(), File)
    assert (datetime(2025, 6, 27, 4, 53, 20, tzinfo=UTC), None) == (kept.created, kept.expires)
    assert datetime(2025, 6, 28, 4, 53, 21, tzinfo=UTC) == expiring.expires
