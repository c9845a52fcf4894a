"""A collector of traces: takes what OpenTelemetry's exporters send over HTTP, as protobuf."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.listener import listen
from server.observe.probes import ProbeServer
from tests.redis_server import HOST


@dataclass(frozen=True)
class Span:
    """A span as it was sent.

    Attributes:
        service: that made it.
        name: of it.
        trace_id: in hex.
        id: in hex.
        parent: id of its parent in hex; empty for none.
        begin_ns: Unix time.
        end_ns: Unix time.
        attributes: those that are strings or integers.
        failed: whether its status is an error.
    """

    service: str
    name: str
    trace_id: str
    id: str
    parent: str
    begin_ns: int
    end_ns: int
    attributes: dict[str, str | int]
    failed: bool


@dataclass
class Collector:
    """What was sent to it.

    Attributes:
        url: where to.
        spans: in the order of their arrival.
    """

    url: str
    spans: list[Span] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        """One export."""
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    values = {each.key: each.value for each in span.attributes}
                    self.spans.append(
                        Span(
                            names["service.name"],
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.start_time_unix_nano,
                            span.end_time_unix_nano,
                            {key: value.string_value or value.int_value for key, value in values.items()},
                            span.status.code == span.status.STATUS_CODE_ERROR,
                        )
                    )
        return Response()


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """A collector that listens on this machine."""
    listener = listen(HOST, 0)
    running = Collector(f"http://{HOST}:{listener.getsockname()[1]}")
    server = ProbeServer(Starlette(routes=[Route("/v1/traces", running.take, methods=["POST"])]))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield running
    finally:
        server.should_exit = True
        await serving
