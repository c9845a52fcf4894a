"""The run: some requests to settle, rest, all the others, rest."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import h11
import httpx

from load_tests.fuzz.description import JSON, Description
from load_tests.fuzz.drafting import KnownIds, draw_up
from load_tests.fuzz.http import Request, Response, exchange
from load_tests.fuzz.verdict import faults
from load_tests.service.deployment import Deployment
from load_tests.service.holdings import Holdings, at_rest

REPORT_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is fuzzed.

    Attributes:
        requests: in all.
        settling: of them, those before what the service holds is first looked at.
        first: number of the first; with ``requests`` 1 this makes one request again.
        concurrency: requests at one time.
        deadline_s: a request that takes longer hangs.
        rest_s: how long the service may take to come to rest.
        seed: decides all requests.
    """

    requests: int
    settling: int
    first: int
    concurrency: int
    deadline_s: float
    rest_s: float
    seed: int


@dataclass
class Findings:
    """What came of the requests.

    Attributes:
        statuses: of the responses; 0 for none.
        operations: asked for.
        mutations: done.
        faults: what the service did that it must not do, with the number of the request.
        slowest_s: the longest that a request took.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found.

    Attributes:
        findings: of all requests.
        settled: what the service held after the first of them.
        last: what it held after all of them.
        leaks: of that, what it should not.
    """

    findings: Findings
    settled: Holdings
    last: Holdings
    leaks: Mapping[str, str]


class Fuzzer:
    """Sends requests by their numbers and looks at what comes back.

    Args:
        service: that is fuzzed.
        description: what it says of itself.
        headers: that every right request has.
        plan: how much is fuzzed.
        folder: for the requests that something came of.

    Attributes:
        findings: so far.
    """

    def __init__(
        self, service: Deployment, description: Description, headers: Mapping[str, str], plan: Plan, folder: Path
    ) -> None:
        url = httpx.URL(service.url)
        self._host, self._port = url.host, url.port or 80
        self._description = description
        self._operations = list(description.operations.values())
        self._headers = headers
        self._plan = plan
        self._folder = folder
        self._known = KnownIds()
        self.findings = Findings()

    async def send(self, numbers: range) -> None:
        """Send requests, some at a time."""
        waiting = iter(numbers)

        async def keep_sending() -> None:
            for number in waiting:
                await self._send(number)
                if (number + 1) % REPORT_EVERY == 0:
                    print(f"{number + 1} requests, {len(self.findings.faults)} faults", flush=True)

        async with asyncio.TaskGroup() as senders:
            for _ in range(self._plan.concurrency):
                senders.create_task(keep_sending())

    async def _send(self, number: int) -> None:
        request = draw_up(self._plan.seed, number, self._operations, self._known, self._headers)
        begin = perf_counter()
        try:
            async with asyncio.timeout(self._plan.deadline_s):
                response = await exchange(self._host, self._port, request)
        except TimeoutError:
            self._note(request, None, [f"no whole answer in {self._plan.deadline_s:g} s"])
        except h11.RemoteProtocolError as error:
            self._note(request, None, [f"the response is no HTTP: {error}"])
        except OSError as error:
            self._note(request, None, [f"the server cannot be reached: {error}"])
        else:
            self.findings.slowest_s = max(self.findings.slowest_s, perf_counter() - begin)
            self._note(request, response, list(faults(request, response, self._description)))
            for id in ids_of(response):
                self._known.add(id)

    def _note(self, request: Request, response: Response | None, found: list[str]) -> None:
        self.findings.statuses[0 if response is None else response.status] += 1
        self.findings.operations[request.operation] += 1
        self.findings.mutations.update(request.mutations or ("none",))
        if found:
            file = self._folder / f"{request.number}.http"
            file.write_bytes(request.encoded())
            done = ", ".join(request.mutations) or "nothing"
            self.findings.faults += [f"{request.number} ({request.operation}; {done}): {what}" for what in found]


def ids_of(response: Response | None) -> Iterator[str]:
    """What can be asked for by its id, of what a response tells."""
    if response is None or response.status != 200:
        return
    if id := response.headers.get("x-document-id"):
        yield id
    if response.media_type == JSON and response.is_whole:
        answer = json.loads(response.body)
        if isinstance(answer, dict) and isinstance(answer.get("id"), str):
            yield answer["id"]
        for piece in response.body.split(b"/v1/files/images/")[1:]:
            yield piece[:64].partition(b'"')[0].decode("latin-1")


async def fuzz(
    service: Deployment, client: httpx.AsyncClient, headers: Mapping[str, str], plan: Plan, folder: Path
) -> Outcome:
    """Fuzz a service that nobody else uses.

    Args:
        service: to fuzz.
        client: to ask it what it holds.
        headers: that every right request has.
        plan: how much.
        folder: for the requests that something came of.
    """
    description = Description.of((await client.get("/openapi.json")).json())
    fuzzer = Fuzzer(service, description, headers, plan, folder)
    settled_at, end = plan.first + plan.settling, plan.first + plan.requests
    await fuzzer.send(range(plan.first, settled_at))
    settled, _ = await at_rest(service, client, None, plan.rest_s)
    await fuzzer.send(range(settled_at, end))
    last, leaks = await at_rest(service, client, settled, plan.rest_s)
    return Outcome(fuzzer.findings, settled, last, leaks)
