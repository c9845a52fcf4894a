"""Seeds of the steps of an answer, so that one seed repeats all of it."""

import hashlib
import secrets

SEED_BITS = 32
"""Every JSON reader holds 32 bits exactly, and every random generator takes them."""


def derived_seed(seed: int, index: int) -> int:
    """The seed of the step ``index`` of an answer: the given one for step 0, then hashes of it and the index.

    So a picture that is drawn first shows the very seed that was asked for. The hash is BLAKE2b over the decimal
    digits of both, which no version of Python or of a library changes.
    """
    if index == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=SEED_BITS // 8)
    return int.from_bytes(digest.digest(), "little")


def random_seed() -> int:
    """A seed for whoever asked for none."""
    return secrets.randbits(SEED_BITS)
