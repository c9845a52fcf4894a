"""How text is sampled by default: what the checkpoint says, as far as it says anything."""

from pathlib import Path

import pytest

from server.backend import TextDefaults


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, TextDefaults()),
        ("{}", TextDefaults()),
        ('{"temperature": 0.7, "top_p": 0.9, "top_k": 20}', TextDefaults(0.7, 0.9, 20)),
        ('{"min_p": 0.1, "repetition_penalty": 1.2}', TextDefaults(min_p=0.1, repetition_penalty=1.2)),
        ('{"top_k": null, "do_sample": true}', TextDefaults()),
        ('{"do_sample": false}', TextDefaults(temperature=0.0)),
        ('{"do_sample": false, "temperature": 0.7}', TextDefaults(temperature=0.7)),
    ],
)
def test_the_generation_config_is_followed_where_it_says_something(
    config: str | None, expected: TextDefaults, tmp_path: Path
) -> None:
    if config is not None:
        (tmp_path / "generation_config.json").write_text(config)

    assert TextDefaults.from_checkpoint(tmp_path) == expected
