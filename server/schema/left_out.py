"""Fields of answers that are left out where others would be null."""

from pydantic import Field


def is_none(value: object) -> bool:
    """Whether a field is left out."""
    return value is None


LeftOut = Field(exclude_if=is_none)
"""Marks a field that is left out when it is None."""
