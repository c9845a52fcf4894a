"""Traces: OpenTelemetry spans over the whole way of a request, exported by OTLP.

Who wants them names a collector in OpenTelemetry's own environment variables, of which at least
``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``; its SDK understands the others too,
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/. Without them the tracing of the SDK
is not imported, and what is called here are the empty methods of its API. The ``traceparent`` of a caller is passed on
and logged all the same.
"""

import importlib
import logging
import os
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTERS = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}

tracer = trace.get_tracer("dreamserve")
"""Makes all spans. Before :func:`configure_tracing`, and without a collector, they record nothing."""

_propagator = TraceContextTextMapPropagator()
logger = logging.getLogger(__name__)


class TracingError(ValueError):
    """The environment asks for traces that cannot be sent."""


def configure_tracing(service_name: str) -> bool:
    """Export the spans of this process from now on, if the environment says where to. Returns whether it does.

    Args:
        service_name: of this process, where the environment gives no other.

    Raises:
        TracingError: the environment asks for a protocol that there is no exporter for.
    """
    if not wanted(os.environ):
        return False
    protocol = _first(PROTOCOLS, os.environ) or "http/protobuf"
    try:
        exporter = importlib.import_module(EXPORTERS[protocol]).OTLPSpanExporter()
    except KeyError:
        raise TracingError(f"{PROTOCOLS[1]} is {protocol}, and not {' or '.join(EXPORTERS)}") from None
    except ImportError as error:
        raise TracingError(f"traces by {protocol} need the package that has {EXPORTERS[protocol]}") from error

    # Only where spans are wanted: it takes longer to import than all the rest of this file.
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: service_name}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    logger.info("traces go to %s", _first(ENDPOINTS, os.environ))
    return True


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment names a collector of traces, and nothing that switches them off."""
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not off and environment.get("OTEL_TRACES_EXPORTER") != "none" and bool(_first(ENDPOINTS, environment))


def carrier() -> dict[str, str]:
    """The current span as W3C headers, ``traceparent`` and, if there is one, ``tracestate``; empty without a span."""
    headers: dict[str, str] = {}
    _propagator.inject(headers)
    return headers


def context_of(headers: Mapping[str, str]) -> Context:
    """The context in which spans have the span of these headers as their parent. Headers that are wrong do not count.

    Args:
        headers: with names in lower case, as :func:`carrier` gives them and ASGI does.
    """
    return _propagator.extract(headers, context=Context())


def trace_id() -> str | None:
    """Of the current span, in hex."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else None


def fail(span: Span, reason: str) -> None:
    """Mark a span as that of something that went wrong."""
    span.set_status(StatusCode.ERROR, reason)


def _first(names: tuple[str, ...], environment: Mapping[str, str]) -> str | None:
    return next((value for name in names if (value := environment.get(name))), None)
