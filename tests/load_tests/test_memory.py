"""The memory benchmark of the pool."""

import pytest

from load_tests.pool.bench import FULL, QUICK, Scale
from load_tests.pool.memory import REPORT_EVERY


@pytest.mark.parametrize("scale", [FULL, QUICK])
def test_memory_is_reported_at_the_jobs_that_are_compared(scale: Scale) -> None:
    assert scale.settling_jobs % REPORT_EVERY == 0
    assert scale.watched_jobs % REPORT_EVERY == 0
