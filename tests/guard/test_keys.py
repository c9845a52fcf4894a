"""API keys: what a server keeps of them, what is refused as one, and a file that changes while it is in force."""

import asyncio
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from server.cli import app
from server.guard.caller import Caller, CallerLimits
from server.guard.key_ring import KeyRing, open_keys
from server.guard.keys import PREFIX, KeysError, digest_of, new_key, read_file, read_list, table_of
from server.settings import AuthSettings, Settings
from tests.api.serving import until

ALICE, BOB = new_key(), new_key()


def write(path: Path, *tables: str) -> Path:
    """Replace a file as a careful editor does: by another one."""
    path.with_suffix(".new").write_text("\n".join(tables))
    path.with_suffix(".new").replace(path)
    return path


def caller_of(ring: KeyRing, key: str) -> str | None:
    found = ring.caller_of(key.encode())
    return found and found.id


def test_a_new_key_cannot_be_guessed() -> None:
    keys = {new_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(key.startswith(PREFIX) and len(key) == len(PREFIX) + 43 for key in keys)  # 256 bits in base64


def test_a_table_gives_its_caller_weight_and_limits() -> None:
    limits = "weight = 2.5\nrequests_per_minute = 60\ntokens_per_minute = 5000\nimages_per_minute = 7\nstreams = 3\n"
    [key] = read_file(table_of("alice", ALICE) + limits)

    assert key.digest == digest_of(ALICE.encode())
    assert key.caller == Caller("alice", 2.5, CallerLimits(requests=60, tokens=5000, images=7, streams=3))


def test_what_a_table_leaves_out_is_not_limited() -> None:
    [key] = read_file(table_of("alice", ALICE))

    assert key.caller == Caller("alice", 1.0, CallerLimits(None, None, None, None))


def test_a_caller_may_have_two_keys_while_he_changes_from_one_to_the_other() -> None:
    old, new = (digest_of(key.encode()).hex() for key in (ALICE, BOB))
    ring = KeyRing(read_file(f'[keys.alice]\nsha256 = ["{old}", "{new}"]'))

    assert caller_of(ring, ALICE) == caller_of(ring, BOB) == "alice"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ALICE, "not TOML"),
        (f'[keys]\nalice = "{ALICE}"', "keys.alice"),
        (f'[keys.alice]\nsha256 = "{ALICE}"', "keys.alice.sha256.0"),
        ("[keys.alice]\nweight = 1", "keys.alice.sha256"),
        (f"{table_of('alice', ALICE)}weight = 0", "keys.alice.weight"),
        (f"{table_of('alice', ALICE)}streams = 0", "keys.alice.streams"),
        (f"{table_of('alice', ALICE)}request_per_minute = 5", "keys.alice.request_per_minute"),
        (f'[keys."al ice"]\nsha256 = "{"0" * 64}"', "keys.al ice"),
        (table_of("alice", ALICE) + table_of("bob", ALICE), "alice and bob have the same key"),
    ],
)
def test_a_file_that_is_none_is_refused_and_the_refusal_repeats_no_key(text: str, said: str) -> None:
    with pytest.raises(KeysError) as refused:
        read_file(text)

    assert said in str(refused.value)
    assert ALICE not in str(refused.value)


def test_a_list_has_keys_and_hashes_whose_callers_are_named_by_these() -> None:
    hashed = digest_of(BOB.encode()).hex()
    keys = read_list(f"{ALICE}, sha256:{hashed}")

    assert [key.digest for key in keys] == [digest_of(ALICE.encode()), digest_of(BOB.encode())]
    assert keys[1].caller == Caller(f"key-{hashed[:8]}")
    assert {key.caller for key in read_list(f"sha256:{hashed},{ALICE}")} == {key.caller for key in keys}


@pytest.mark.parametrize("text", ["", "short", f"{ALICE},", f"{ALICE} {BOB}", "sha256:12", "ключ-ключ-ключ-ключ"])
def test_what_is_no_list_of_keys_is_refused(text: str) -> None:
    with pytest.raises(KeysError) as refused:
        read_list(text)

    assert not text or text not in str(refused.value)


@given(st.binary(max_size=200))
def test_no_other_bytes_are_a_key(guess: bytes) -> None:
    ring = KeyRing(read_list(f"{ALICE},{BOB}"))

    assert ring.caller_of(guess) is None
    assert ring.caller_of(ALICE.encode() + guess) is None or not guess


def test_every_key_is_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    ring, compared = KeyRing(read_list(f"{ALICE},{BOB}")), list[bytes]()

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr("server.guard.key_ring.hmac.compare_digest", compare)
    for key in (ALICE, BOB, new_key()):
        caller_of(ring, key)

    assert compared == 3 * [digest_of(ALICE.encode()), digest_of(BOB.encode())]


def test_a_server_without_keys_names_both_ways_out() -> None:
    with pytest.raises(KeysError, match=r"(?s)auth\.keys_file.*--no-auth"):
        open_keys(AuthSettings())

    assert open_keys(AuthSettings(enabled=False)) is None


def test_keys_come_from_the_environment_and_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "keys.toml", table_of("bob", BOB))
    monkeypatch.setenv("DREAMSERVE_AUTH__KEYS", ALICE)
    monkeypatch.setenv("DREAMSERVE_AUTH__KEYS_FILE", str(file))
    settings = Settings()
    ring = open_keys(settings.auth)

    assert ring is not None
    assert caller_of(ring, ALICE) == f"key-{digest_of(ALICE.encode()).hex()[:8]}"
    assert caller_of(ring, BOB) == "bob"
    assert ALICE not in repr(settings)


def test_settings_that_are_wrong_repeat_no_key() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(auth={"enabled": ALICE, "keys": ALICE, "keyfile": ALICE})  # type: ignore[arg-type]

    assert refused.value.error_count() == 2
    assert ALICE not in str(refused.value)


async def test_a_key_that_is_added_or_taken_away_counts_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.guard.key_ring.LOOK_EVERY_S", 0.001)
    file = write(tmp_path / "keys.toml", table_of("alice", ALICE))
    ring = KeyRing(path=file)
    async with ring.watched():
        write(file, table_of("alice", ALICE), table_of("bob", BOB))
        await until(lambda: caller_of(ring, BOB) == "bob")
        assert caller_of(ring, ALICE) == "alice"
        write(file, table_of("bob", BOB))
        await until(lambda: caller_of(ring, ALICE) is None)
        assert caller_of(ring, BOB) == "bob"

    assert not [task for task in asyncio.all_tasks() if task.get_name() == "watch of the keys"]


async def test_a_broken_file_leaves_the_keys_as_they_were_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "keys.toml", table_of("alice", ALICE))
    ring = KeyRing(path=file)
    write(file, f'[keys.bob]\nsha256 = "{BOB}"')
    for _ in range(3):
        await ring.refresh()

    assert caller_of(ring, ALICE) == "alice"
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "keys.bob.sha256" in record.getMessage()
    assert BOB not in caplog.text

    write(file, table_of("bob", BOB))
    await ring.refresh()
    assert (caller_of(ring, ALICE), caller_of(ring, BOB)) == (None, "bob")


async def test_a_file_that_is_away_for_a_moment_locks_nobody_out(tmp_path: Path) -> None:
    file = write(tmp_path / "keys.toml", table_of("alice", ALICE))
    ring = KeyRing(path=file)
    file.unlink()
    await ring.refresh()
    assert caller_of(ring, ALICE) == "alice"

    write(file, table_of("bob", BOB))
    await ring.refresh()
    assert caller_of(ring, ALICE) is None


async def test_a_file_that_is_emptied_takes_all_keys_away(tmp_path: Path) -> None:
    file = write(tmp_path / "keys.toml", table_of("alice", ALICE))
    ring = KeyRing(path=file)
    write(file, "")
    await ring.refresh()

    assert caller_of(ring, ALICE) is None


async def test_a_file_that_is_changed_in_place_and_looks_as_old_as_before_is_read_again(tmp_path: Path) -> None:
    file = write(tmp_path / "keys.toml", table_of("alice", ALICE))
    written = file.stat().st_mtime_ns
    ring = KeyRing(path=file)
    file.write_text(table_of("carol", BOB))
    os.utime(file, ns=(written, written))
    await ring.refresh()

    assert (caller_of(ring, ALICE), caller_of(ring, BOB)) == (None, "carol")


async def test_a_file_that_could_not_be_read_is_read_when_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "keys.toml", table_of("alice", ALICE))
    ring = KeyRing(path=file)
    write(file, table_of("bob", BOB))
    with monkeypatch.context() as refused:
        refused.setattr(Path, "read_text", unreadable)
        await ring.refresh()
    assert caller_of(ring, ALICE) == "alice"
    file.chmod(0o644)
    await ring.refresh()

    assert (caller_of(ring, ALICE), caller_of(ring, BOB)) == (None, "bob")


def unreadable(_: Path, **__: object) -> str:
    """What reading a file of another user does. Tests may run as root, who may read all."""
    raise PermissionError(13, "Permission denied")


async def test_a_mounted_secret_that_is_switched_over_is_read_again(tmp_path: Path) -> None:
    """As Kubernetes does it: the path is a link to a link, and the inner one is replaced."""
    for name, table in (("one", table_of("alice", ALICE)), ("two", table_of("bob", BOB))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.toml").write_text(table)
        os.utime(tmp_path / name / "keys.toml", (1, 1))  # no newer than the other
    (tmp_path / "data").symlink_to("one")
    ring = KeyRing(path=tmp_path / "data" / "keys.toml")
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "data")
    await ring.refresh()

    assert (caller_of(ring, ALICE), caller_of(ring, BOB)) == (None, "bob")


def test_the_command_makes_a_key_and_its_table() -> None:
    result = CliRunner().invoke(app, ["key", "alice"])
    [key] = read_file(result.stdout)

    assert result.exit_code == 0
    assert key.caller == Caller("alice")
    assert key.digest == digest_of(result.stderr.strip().encode())
    assert result.stderr.strip() not in result.stdout


def test_the_command_refuses_a_name_that_the_file_would() -> None:
    assert CliRunner().invoke(app, ["key", "al ice"]).exit_code == 2


def test_serve_without_keys_does_not_start_and_names_both_ways_out() -> None:
    result = CliRunner().invoke(app, ["serve"])

    assert result.exit_code == 2
    assert "--no-auth" in result.output
    assert "auth.keys_file" in result.output
