"""API keys, and the file that says what each may do. A server holds hashes alone.

A key that is made here is 256 random bits. Those cannot be guessed, so a plain SHA-256 of it gives nothing away: salt
and slow hashes are for passwords, which can. The file is TOML, with a table for each caller::

    [keys.alice]
    sha256 = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
    weight = 2.0
    requests_per_minute = 60

``sha256`` may be a list, so that a caller can go over from one key to the next. What a table leaves out is not limited.
"""

import hashlib
import re
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from server.guard.caller import Caller, CallerLimits

PREFIX = "ds-"
RANDOM_BYTES = 32
SHORTEST = 16  # characters of a key that somebody has made up
HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")

CALLER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

CallerId = Annotated[str, Field(pattern=rf"^{CALLER_ID.pattern}$")]
SHA256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
PerMinute = Annotated[int | None, Field(ge=1)]


class KeysError(ValueError):
    """There are no keys, or what should be some is none. The message repeats nothing that may be a key."""


@dataclass(frozen=True, slots=True)
class APIKey:
    """A key, as far as a server knows it.

    Attributes:
        digest: SHA-256 of the key.
        caller: whose it is.
    """

    digest: bytes = field(repr=False)
    caller: Caller


class CallerTable(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid")

    sha256: Annotated[list[SHA256], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
    weight: float = Field(1.0, gt=0, le=1000, allow_inf_nan=False)
    requests_per_minute: PerMinute = None
    tokens_per_minute: PerMinute = None
    images_per_minute: PerMinute = None
    streams: PerMinute = None

    def caller(self, id: str) -> Caller:
        """The caller of this table."""
        limits = CallerLimits(
            self.requests_per_minute, self.tokens_per_minute, self.images_per_minute, streams=self.streams
        )
        return Caller(id, self.weight, limits)


class KeyFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")

    keys: dict[CallerId, CallerTable] = Field(default_factory=dict)


def new_key() -> str:
    """A key that nobody has."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


def table_of(caller_id: str, key: str) -> str:
    """The table of the file for a new key."""
    return f'[keys.{caller_id}]\nsha256 = "{digest_of(key.encode()).hex()}"\n'


def read_file(text: str) -> tuple[APIKey, ...]:
    """The keys of a file.

    Raises:
        KeysError: it is not such a file. Says where.
    """
    try:
        callers = KeyFile.model_validate(tomllib.loads(text)).keys
    except tomllib.TOMLDecodeError as error:
        raise KeysError(f"not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"] if step != "[key]")
        raise KeysError(f"{where}: {first['msg']}") from None
    return distinct(
        APIKey(bytes.fromhex(sha256), table.caller(id)) for id, table in callers.items() for sha256 in table.sha256
    )


def read_list(text: str) -> tuple[APIKey, ...]:
    """The keys of a list: keys themselves, or ``sha256:`` and the hash of one, parted by commas.

    Callers are named by the beginning of the hash, which stays the same however the list is ordered.

    Raises:
        KeysError: one of them is none.
    """
    return distinct(APIKey(digest, Caller(f"key-{digest.hex()[:8]}")) for digest in map(listed, text.split(",")))


def listed(entry: str) -> bytes:
    """The digest of an entry of a list."""
    key = entry.strip()
    if hashed := HASH.fullmatch(key):
        return bytes.fromhex(hashed[1])
    if key.startswith("sha256:"):
        raise KeysError("what follows sha256: must be 64 hexadecimal digits")
    if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
        raise KeysError(f"a key has at least {SHORTEST} characters of printable ASCII, and no space")
    return digest_of(key.encode())


def distinct(keys: Iterable[APIKey]) -> tuple[APIKey, ...]:
    """The keys, each of one caller.

    Raises:
        KeysError: one is there twice.
    """
    callers: dict[bytes, Caller] = {}
    for key in keys:
        if key.digest in callers:
            raise KeysError(f"{callers[key.digest].id} and {key.caller.id} have the same key")
        callers[key.digest] = key.caller
    return tuple(APIKey(digest, caller) for digest, caller in callers.items())
