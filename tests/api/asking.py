"""Servers that ask for a key, and those who have one."""

from pathlib import Path
from typing import Any

from server.guard.keys import new_key, table_of

ALICE, BOB = new_key(), new_key()


def bearer(key: str) -> dict[str, str]:
    """The header of a caller."""
    return {"Authorization": f"Bearer {key}"}


def keys_of_alice_and_bob(folder: Path, *limits_of_alice: str) -> dict[str, Any]:
    """Settings of a server that knows both, with lines for Alice's table."""
    file = folder / "keys.toml"
    file.write_text("\n".join([table_of("bob", BOB) + table_of("alice", ALICE), *limits_of_alice]))
    return {"keys_file": file}
