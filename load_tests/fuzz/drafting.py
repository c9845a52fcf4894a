"""Requests by their numbers: which operation, which body, what is broken."""

import random
from collections import deque
from collections.abc import Mapping, Sequence

from load_tests.fuzz import values
from load_tests.fuzz.description import Operation
from load_tests.fuzz.http import Request
from load_tests.fuzz.mutations import MUTATIONS, Draft
from load_tests.fuzz.samples import SAMPLES

UNTOUCHED_SHARE = 0.15
"""Of the requests, those that nothing is wrong with: the service must go on serving, and make what others read."""
LEAVING_SHARE = 0.08
KNOWN = 64


class KnownIds:
    """Ids of what the service has made lately, so that not every request for something ends with 404."""

    def __init__(self) -> None:
        self._latest: deque[str] = deque(maxlen=KNOWN)

    def add(self, id: str) -> None:
        """Note one."""
        self._latest.append(id)

    def any(self, dice: random.Random) -> str:
        """One of them, of whatever kind."""
        return dice.choice(self._latest) if self._latest else "doc_none"

    def of(self, prefix: str, dice: random.Random) -> str:
        """One of a kind, if there is one."""
        ids = [id for id in self._latest if id.startswith(prefix)]
        return dice.choice(ids) if ids else f"{prefix}none"


PREFIXES: Mapping[str, str] = {
    "document_id": "doc_",
    "completion_id": "chatcmpl-",
    "response_id": "resp_",
    "image_id": "file_",
}
"""Of the ids that paths take, by the names of their parameters."""


def draw_up(
    seed: int, number: int, operations: Sequence[Operation], known: KnownIds, headers: Mapping[str, str]
) -> Request:
    """The request of a number. With another service its ids are others; all else is the same.

    Args:
        seed: of the run.
        number: in the run.
        operations: to choose from.
        known: ids to ask for.
        headers: that every right request has.

    Raises:
        KeyError: an operation takes a body, and there are no samples for it.
    """
    dice = random.Random(f"{seed}-{number}")
    # Those that make something are most of the ways in.
    weights = [5 if operation.method == "POST" and "{" not in operation.path else 1 for operation in operations]
    (operation,) = dice.choices(operations, weights)
    draft = Draft(dice, operation.method, path_of(operation, known, dice))
    draft.headers += [*headers.items(), ("Host", "localhost")]
    if operation.path in SAMPLES and operation.method == "POST":
        draft.body = SAMPLES[operation.path](dice)
    elif operation.method in ("POST", "PUT", "PATCH") and "{" not in operation.path:
        raise KeyError(f"no samples for {operation.name}")
    if operation.path == "/v1/responses" and draft.body is not None and dice.random() < 0.1:
        draft.body["previous_response_id"] = known.of("resp_", dice)
    if operation.events is not None and operation.method == "GET" and dice.random() < 0.7:
        draft.query += [("stream", "true"), ("starting_after", str(dice.randrange(10)))]
    if dice.random() > UNTOUCHED_SHARE:
        mutate(draft)
    leaves = dice.expovariate(10) if dice.random() < LEAVING_SHARE else None
    return finished(draft, number, operation, leaves)


def path_of(operation: Operation, known: KnownIds, dice: random.Random) -> str:
    """The path of an operation with ids in their places; some of them wild."""
    path = operation.path
    for name, prefix in PREFIXES.items():
        choice = dice.random()
        id = known.of(prefix, dice) if choice < 0.6 else known.any(dice) if choice < 0.8 else values.text(dice)[:1000]
        path = path.replace(f"{{{name}}}", id)
    return path.replace("{model}", dice.choice(("scripted", "dreamllm-tiny", values.text(dice)[:1000])))


def mutate(draft: Draft) -> None:
    """Do one to three things to a request."""
    kinds, weights = list(MUTATIONS), list(MUTATIONS.values())
    for mutation in draft.dice.choices(kinds, weights, k=draft.dice.choice((1, 1, 1, 2, 3))):
        mutation(draft)
        draft.mutations.append(mutation.__name__)


def finished(draft: Draft, number: int, operation: Operation, leaves_after_s: float | None) -> Request:
    """The draft as it goes over the wire."""
    content = draft.written()
    given = {name.lower() for name, _ in draft.headers}
    if draft.content is not None or draft.body is not None:
        if "content-type" not in given:
            draft.headers.append(("Content-Type", "application/json"))
        if not {"content-length", "transfer-encoding"} & given:
            draft.headers.append(("Content-Length", str(len(content))))
    headers = tuple((_latin(name), _latin(value)) for name, value in draft.headers)
    # Several Hosts, or one with letters that no host has, make it no request.
    wild_host = sum(name == b"Host" for name, _ in headers) > 1
    upgrades = "upgrade" in given
    return Request(
        number=number,
        operation=operation.name,
        method=_latin(draft.method),
        target=draft.target(),
        headers=headers,
        body=content,
        is_http=draft.is_http and not wild_host and not upgrades,
        leaves_after_s=leaves_after_s,
        mutations=tuple(draft.mutations),
    )


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")
