"""What benchmarks are tried on: the real server, as a process, over stand-ins for its models."""

from collections.abc import Iterator

import pytest

from load_tests.service.deployment import Deployment, deployed


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed("scripted", {}, tmp_path_factory.mktemp("scripted")) as service:
        yield service
