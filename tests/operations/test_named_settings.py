"""Settings that pages, manifests and images name are settings: a misspelt one would do nothing, or end a start."""

import re
from collections.abc import Iterator
from pathlib import Path

from server.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
PLACES = {
    ".": ("README.md", "docker-compose.yml"),
    "docs": ("**/*.md",),
    "docker": ("**/*.md", "**/*.yml", "**/*.yaml", "*.Dockerfile"),
    "k8s": ("**/*.md", "**/*.yaml", "**/*.env"),
    "server": ("**/*.md",),
}
"""Patterns of files, by folder."""
ENDINGS = {"json", "md", "py", "safetensors", "toml", "yaml"}
"""Of what is a file and no setting."""
SETTINGS = {
    f"{group}.{name}"
    for group, field in Settings.model_fields.items()
    for name in getattr(field.annotation, "model_fields", ())
}
GROUPS = "|".join({setting.partition(".")[0] for setting in SETTINGS})


def named_in(path: Path) -> Iterator[str]:
    """Settings that a file names: as variables of the environment, or by their groups in a page's code or a comment."""
    text = path.read_text()
    for group, name in re.findall(rf"\b{PREFIX}([A-Z_]+?)__([A-Z_]+)", text):
        yield f"{group}.{name}".lower()
    told = "\n".join(re.findall(r"`([^`\n]+)`" if path.suffix == ".md" else r"#(.*)", text))
    for group, name in re.findall(rf"(?<![\w./-])({GROUPS})\.([a-z_]+)\b(?![./(])", told):
        if name not in ENDINGS:
            yield f"{group}.{name}"


def test_what_is_named_as_a_setting_is_one() -> None:
    files = {path for folder, patterns in PLACES.items() for each in patterns for path in (ROOT / folder).glob(each)}
    named = {str(path.relative_to(ROOT)): set(named_in(path)) for path in files}
    assert {"server.ops_port", "worker.drain_s"} <= named["docker-compose.yml"]
    assert "admission.max_picture_wait_s" in named["docs/runbook.md"]
    assert {path: wrong for path, settings in named.items() if (wrong := settings - SETTINGS)} == {}
