"""Settings: the command line over the environment over the file over the defaults."""

import os
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from server.cli import app
from server.settings import DEFAULT_CHECKPOINT, Settings


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DREAMSERVE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "dreamserve.toml"
    path.write_text(
        """
        [server]
        host = "from.file"
        port = 1
        root_path = "/file"

        [limits]
        image_sizes = ["64x64", "32x32"]
        """
    )
    return path


def test_each_source_goes_over_the_next(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSERVE_SERVER__HOST", "from.environment")
    monkeypatch.setenv("DREAMSERVE_SERVER__PORT", "2")

    settings = Settings(config=file, server={"port": 3})  # type: ignore[arg-type]

    assert settings.server.port == 3
    assert settings.server.host == "from.environment"
    assert settings.server.root_path == "/file"
    assert settings.server.shutdown_grace_s == 30
    assert settings.limits.image_sizes == ("64x64", "32x32")


def test_the_environment_may_name_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSERVE_CONFIG", str(file))

    assert Settings().server.host == "from.file"


def test_the_command_line_names_the_file_over_the_environment(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[server]\nhost = "from.other"\n')
    monkeypatch.setenv("DREAMSERVE_CONFIG", str(other))

    assert Settings(config=file).server.host == "from.file"


@pytest.mark.parametrize("text", ["[serve]\nport = 1\n", "[server]\nprot = 1\n", '[server]\nport = "many"\n'])
def test_a_mistake_in_the_file_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)

    with pytest.raises(ValidationError):
        Settings(config=path)


@pytest.mark.parametrize("name", ["DREAMSERVE_SERVER__PROT", "DREAMSERVE_SERVR__PORT", "dreamserve_prot__x"])
def test_a_mistake_in_the_environment_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")

    with pytest.raises(ValidationError):
        Settings()


def test_variables_of_the_client_and_of_kubernetes_are_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSERVE_URL", "http://elsewhere")
    monkeypatch.setenv("DREAMSERVE_PORT", "tcp://10.0.0.1:80")

    Settings()


def test_serve_names_the_variable_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMSERVE_SERVR__PORT", "1")
    result = CliRunner().invoke(app, ["serve"])

    assert result.exit_code == 2
    assert "there is no setting DREAMSERVE_SERVR__PORT" in result.output


def test_serve_says_at_once_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "--no-auth", "--port", str(port)])

    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in result.output


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="there is no file"):
        Settings(config=tmp_path / "nowhere.toml")


def test_every_setting_is_described() -> None:
    for name, group in Settings.model_fields.items():
        fields = getattr(group.annotation, "model_fields", {name: group})
        assert [field for field, info in fields.items() if not info.description] == []


def test_the_embedded_model_is_the_default() -> None:
    assert Settings().model.path == DEFAULT_CHECKPOINT
    assert Settings().model.name == "dreamllm-tiny"


def test_serve_says_where_it_looked_for_a_checkpoint(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["serve", "--model", str(tmp_path)])

    assert result.exit_code == 2
    assert f"there is no checkpoint at {tmp_path}" in result.output


def test_serve_names_the_setting_that_is_wrong() -> None:
    result = CliRunner().invoke(app, ["serve", "--port", "99999"])

    assert result.exit_code == 2
    assert "setting server.port: " in result.output
