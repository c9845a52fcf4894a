"""``dreamserve generate`` against a server that asks for a key."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import app
from server.client.generate import Exit
from tests.api.asking import ALICE, keys_of_alice_and_bob
from tests.api.serving import scripted_engine
from tests.cli.conftest import StartServer
from tests.scripted.pool import ScriptedPool
from tests.scripted.script import EOS


@pytest.fixture
def arguments(start_server: StartServer, tmp_path: Path) -> list[str]:
    url = start_server(scripted_engine(["Hello.", EOS]), ScriptedPool(), keys_of_alice_and_bob(tmp_path))
    return ["generate", "Say something.", "--url", url, "--out", str(tmp_path / "out")]


def test_a_key_is_given_as_an_option(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, [*arguments, "--api-key", ALICE])

    assert result.exit_code == Exit.OK
    assert "Hello." in result.output


def test_a_key_is_found_in_the_environment(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSERVE_API_KEY", ALICE)
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == Exit.OK
    assert ALICE not in result.output


def test_without_a_key_it_is_said_that_one_is_asked_for(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == Exit.REFUSED
    assert "no API key" in result.output


def test_help_shows_no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSERVE_API_KEY", ALICE)

    assert ALICE not in CliRunner().invoke(app, ["generate", "--help"]).output
