"""Keeping one job's failure from the others."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def attempt(call: Callable[[], Result]) -> Result | Exception:
    """What a call returns, or the exception that it raises.

    Raises:
        torch.AcceleratorError: the device is in a state in which nothing will work again; nobody's fault to bear alone.
    """
    try:
        return call()
    except torch.AcceleratorError:
        raise
    except Exception as error:
        return error


def isolate(call: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result | Exception]:
    """Run a batched call so that an item that makes it fail fails alone.

    A batch that raises is halved and each half tried again, down to single items: a culprit among n costs about 2 log n
    more calls, and a batch that is too big for the memory goes through in parts. The call must have no lasting effect
    when it raises.

    Returns:
        A result or an exception for each item.
    """
    if not items:
        return []
    outcome = attempt(lambda: call(items))
    if not isinstance(outcome, Exception):
        return list(outcome)
    if len(items) == 1:
        return [outcome]
    # Its traceback holds the frames of the call, and they all the memory that the halves need.
    del outcome
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return isolate(call, items[:middle]) + isolate(call, items[middle:])
