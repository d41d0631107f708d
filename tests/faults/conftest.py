"""The harnesses' assertions explain themselves, as those of the tests do."""

import pytest


pytest.register_assert_rewrite("faults.harness", "transport.harness")
