"""``locust -f load_tests/locustfile.py --headless -u 32 -r 4 -t 5m -H http://localhost:8000``: users of all surfaces.

They read answers as they are made, think, and ask again. Some leave in the middle, and some are cut off and come back.
Beside locust's own rows, which end with the headers of a response, there are these for each surface:

- ``first token`` and ``first picture``: milliseconds from the request to the first of each;
- ``gap``: milliseconds from one text to the next, or from a picture to the text behind it;
- ``answer``: milliseconds to the end. A broken stream, a failed answer, and a resumed one with an event lost or twice,
  are failures of this row;
- ``within SLO``: the same, but those that missed the objective are failures: its rate less its failures is the goodput,
  which is also printed at the end.

A refusal (429, 503) is a failure of locust's own row, after which the user waits as long as he is told. A closed loop
like this one slows down with its server; :mod:`load_tests.open_loop` does not.

locust comes with the extra ``load``.
"""

import json
import logging
import random
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, cast

import gevent  # type: ignore[import-untyped]
from locust import HttpUser, events, task
from locust.env import Environment
from locust.runners import Runner, WorkerRunner

Kind = Literal["text", "picture", "end", "failed"]
Kinds = tuple[Kind, ...]
Ending = Literal["end", "failed", "left", "broken"]
COLOURS = ("red", "blue", "green", "yellow", "purple")
SHAPES = ("circle", "star", "square", "triangle")
REFUSALS = (429, 503)
IMAGES = {"max": 2}
MAX_TOKENS = 96
WITHIN_SLO = "within SLO"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    name: str
    data: str
    id: str


def server_sent_events(lines: Iterable[str]) -> Iterator[Event]:
    """Read them, https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation."""
    name, id, data = "", "", list[str]()
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line and data:
            yield Event(name, "\n".join(data), id)
            name, data = "", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            id = value


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: ArgumentParser) -> None:
    """Our own options."""
    parser.add_argument("--think", type=float, default=3.0, help="Seconds between two answers of a user, in the mean")
    parser.add_argument("--leaves", type=float, default=0.1, help="Share of answers that are left in the middle")
    parser.add_argument("--resumes", type=float, default=0.2, help="Of documents, those read over a broken connection")
    parser.add_argument("--answers", type=int, default=0, help="Stop after so many; 0: at the end of the time")
    parser.add_argument("--slo-first-token", type=float, default=0.5, help="Seconds to the first text")
    parser.add_argument("--slo-first-picture", type=float, default=10.0, help="Seconds to the first picture")
    parser.add_argument("--slo-gap", type=float, default=0.5, help="Seconds between texts, where no picture comes")


def options(environment: Environment) -> Namespace:
    """What locust was started with."""
    return cast(Namespace, environment.parsed_options)


class SLOMissedError(Exception):
    """An answer came, but later than it should."""


class BrokenAnswerError(Exception):
    """An answer did not come to a good end."""


class Timing:
    """Times of one answer, as its reader sees them.

    Args:
        environment: of locust, which is told of them.
        surface: where the answer was asked for.
    """

    def __init__(self, environment: Environment, surface: str) -> None:
        self._tell_locust = environment.events.request.fire
        self._options = options(environment)
        self._surface = surface
        self._begin = time.perf_counter()
        self._latest: tuple[float, Kind] | None = None
        self._first: dict[Kind, float] = {}
        self._longest_gap = 0.0

    def came(self, kind: Kind) -> None:
        """Text or a picture came."""
        now = time.perf_counter()
        if kind not in self._first:
            self._first[kind] = now - self._begin
            self._tell("first token" if kind == "text" else "first picture", now - self._begin)
        if kind == "text" and self._latest is not None:
            since, before = self._latest
            self._tell("gap", now - since)
            if before == "text":
                self._longest_gap = max(self._longest_gap, now - since)
        self._latest = now, kind

    def ended(self, error: BrokenAnswerError | None) -> None:
        """The answer ended, well or not."""
        seconds = time.perf_counter() - self._begin
        self._tell("answer", seconds, error)
        self._tell(WITHIN_SLO, seconds, error or self._missed())

    def _missed(self) -> SLOMissedError | None:
        slo = self._options
        seen = {
            "first token": (self._first.get("text", 0.0), slo.slo_first_token),
            "first picture": (self._first.get("picture", 0.0), slo.slo_first_picture),
            "gap": (self._longest_gap, slo.slo_gap),
        }
        missed = next((name for name, (seconds, limit) in seen.items() if seconds > limit), None)
        return SLOMissedError(missed) if missed else None

    def _tell(self, what: str, seconds: float, error: Exception | None = None) -> None:
        self._tell_locust(  # type: ignore[no-untyped-call]
            request_type=what,
            name=self._surface,
            response_time=1000 * seconds,
            response_length=0,
            exception=error,
            context={},
        )


class Reader(HttpUser):
    """Somebody who asks for an answer, reads it as it is made, and thinks."""

    abstract = True
    surface: str
    path: str

    @staticmethod
    def kinds_of(event: Event) -> Kinds:
        """What an event brings."""
        raise NotImplementedError

    def wait_time(self) -> float:
        """Seconds to think."""
        return random.expovariate(1 / options(self.environment).think)

    def body(self) -> dict[str, Any]:
        """What to ask for."""
        raise NotImplementedError

    @task
    def read(self) -> None:
        """Read an answer, or the beginning of one."""
        timing = Timing(self.environment, self.surface)
        with closing(self.stream("POST", self.path, json={**self.body(), "stream": True})) as received:
            leaves = random.random() < options(self.environment).leaves
            _, ending = self.follow(timing, received, random.randint(1, 20) if leaves else None)
        self.tell(timing, ending)

    def follow(
        self, timing: Timing, received: Iterator[Event], stop_after: int | None = None
    ) -> tuple[list[str], Ending]:
        """Read events to the end, or so many. Returns their ids, and what became of the answer."""
        ids: list[str] = []
        for event in received:
            ids.append(event.id)
            for kind in self.kinds_of(event):
                if kind in ("end", "failed"):
                    return ids, kind
                timing.came(kind)
            if len(ids) == stop_after:
                return ids, "left"
        return ids, "broken" if ids else "left"  # who was refused has seen nothing

    def tell(self, timing: Timing, ending: Ending) -> None:
        """Tell of an answer that its reader has not left."""
        if ending != "left":
            timing.ended(None if ending == "end" else BrokenAnswerError(ending))

    def stream(self, method: str, path: str, **request: Any) -> Generator[Event, None, None]:
        """The events of a stream; none if the server refuses. Closing them hangs up."""
        name = path if method == "POST" else f"{self.path}/{{id}}"
        with (
            self.client.request(method, path, name=name, stream=True, catch_response=True, **request) as response,
            closing(response),
        ):
            if response.ok:
                response.success()
                lines = response.iter_lines(chunk_size=None)  # None: as they come
                yield from server_sent_events(line.decode() for line in lines)
                return
            response.failure(f"{response.status_code}: {response.text[:200]}")
            if response.status_code in REFUSALS:
                time.sleep(float(response.headers.get("Retry-After", 1)))


def wish() -> str:
    """What a user would like to see."""
    first, second = (f"{random.choice(COLOURS)} {random.choice(SHAPES)}" for _ in range(2))
    return random.choice((f"Draw two pictures: a {first}, then a {second}.", f"Tell me a story about a {first}."))


class InterleavedUser(Reader):
    """Reads documents; is cut off now and then, and comes back for the rest."""

    weight = 4
    surface, path = "interleaved", "/v1/interleaved"

    def body(self) -> dict[str, Any]:
        return {"input": wish(), "max_tokens": MAX_TOKENS, "images": IMAGES}

    @staticmethod
    def kinds_of(event: Event) -> Kinds:
        match event.name:
            case "text.delta":
                return ("text",)
            case "image.completed":
                return ("picture",)
            case "document.completed":
                return ("end",)
            case "document.failed":
                return ("failed",)
        return ()

    @task
    def read(self) -> None:
        if random.random() < options(self.environment).resumes:
            self.resume()
        else:
            super().read()

    def resume(self) -> None:
        """Read a stored document over a broken connection, every event once."""
        timing = Timing(self.environment, f"{self.surface}, resumed")
        body = {**self.body(), "stream": True, "store": True}
        with closing(self.stream("POST", self.path, json=body)) as received:
            if (started := next(received, None)) is None:
                return
            first, ending = self.follow(timing, received, stop_after=random.randint(1, 20))
        ids = [started.id, *first]
        if ending == "left":
            rest = f"{self.path}/{json.loads(started.data)['id']}?stream=true"
            with closing(self.stream("GET", rest, headers={"Last-Event-ID": ids[-1]})) as received:
                second, ending = self.follow(timing, received)
            ids += second
        once = ids == [str(number) for number in range(len(ids))]
        self.tell(timing, ending if once else "broken")


class ChatUser(Reader):
    """Chats, with a client of OpenAI's."""

    weight = 4
    surface, path = "chat", "/v1/chat/completions"

    def body(self) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": wish()}], "max_tokens": MAX_TOKENS, "images": IMAGES}

    @staticmethod
    def kinds_of(event: Event) -> Kinds:
        if event.data == "[DONE]":
            return ("end",)
        chunk = json.loads(event.data)
        if "error" in chunk:
            return ("failed",)
        delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
        return ("picture",) if delta.get("images") else ("text",) if delta.get("content") else ()


class ResponsesUser(Reader):
    """Asks for responses that are not stored."""

    weight = 2
    surface, path = "responses", "/v1/responses"

    def body(self) -> dict[str, Any]:
        return {"input": wish(), "max_output_tokens": MAX_TOKENS, "images": IMAGES, "store": False}

    @staticmethod
    def kinds_of(event: Event) -> Kinds:
        match event.name:
            case "response.output_text.delta":
                return ("text",)
            case "response.output_item.done" if json.loads(event.data)["item"]["type"] == "image_generation_call":
                return ("picture",)
            case "response.completed" | "response.incomplete":
                return ("end",)
            case "response.failed" | "error":
                return ("failed",)
        return ()


class ImageUser(Reader):
    """Wants a picture, and sees it come."""

    weight = 1
    surface, path = "images", "/v1/images/generations"

    def body(self) -> dict[str, Any]:
        return {"prompt": f"a {random.choice(COLOURS)} {random.choice(SHAPES)}", "partial_images": 1}

    @staticmethod
    def kinds_of(event: Event) -> Kinds:
        match event.name:
            case "image_generation.completed":
                return ("picture", "end")
            case "error":
                return ("failed",)
        return ()


@events.init.add_listener  # type: ignore[untyped-decorator]
def count_answers(environment: Environment, **_: Any) -> None:
    """Stop after as many answers as were asked for, and print the goodput."""
    ended = 0

    def count(request_type: str, **_: Any) -> None:
        nonlocal ended
        ended += request_type == WITHIN_SLO
        if request_type == WITHIN_SLO and ended == options(environment).answers:
            gevent.spawn(cast(Runner, environment.runner).quit)  # not by a user, who would wait for his own end

    if not isinstance(environment.runner, WorkerRunner):
        environment.events.test_stop.add_listener(lambda **_: logger.info(goodput(environment)))  # type: ignore[no-untyped-call]
    environment.events.request.add_listener(count)  # type: ignore[no-untyped-call]


def goodput(environment: Environment) -> str:
    """Answers within the SLO, and the SLO; from locust's own counts, which a master has of all its workers."""
    total, slo = environment.stats.total, options(environment)
    rows = [row for (_, what), row in environment.stats.entries.items() if what == WITHIN_SLO]
    ended, late = sum(row.num_requests for row in rows), sum(row.num_failures for row in rows)
    seconds = max((total.last_request_timestamp or 0) - total.start_time, 1e-9)
    return (
        f"goodput: {(ended - late) / seconds:.2f} answers a second; {ended - late} of {ended} answers within the SLO: "
        f"first token in {slo.slo_first_token:g} s, first picture in {slo.slo_first_picture:g} s, "
        f"no gap above {slo.slo_gap:g} s"
    )
