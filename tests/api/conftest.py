"""An app for tests that only ask it something."""

from collections.abc import AsyncIterator

import pytest

from tests.api.serving import Running, in_memory
from tests.scripted.engine import ScriptedEngine
from tests.scripted.script import EOS


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    """An app in memory whose model says one sentence and stops, whatever it is asked."""
    async with in_memory(ScriptedEngine([["Hello.", EOS]], one_turn_for_all=True)) as app:
        await app.ready()
        yield app
