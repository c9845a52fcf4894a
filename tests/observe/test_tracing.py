"""Traces: off unless the environment names a collector, and then as the environment says."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from server.observe.tracing import TracingError, configure_tracing, context_of, wanted

COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}

PROCESS = """
import json, sys
import server.interleave.interceptor, server.pool.redis.pool, server.observe.requests
from opentelemetry import trace
from server.observe.tracing import carrier, configure_tracing, tracer
on = configure_tracing("dreamserve-test")
sdk = [name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))]
with tracer.start_as_current_span("a") as span:
    headers = carrier()
resource = dict(span.resource.attributes) if span.is_recording() or hasattr(span, "resource") else {}
print(json.dumps({"on": on, "sdk": sdk, "headers": headers, "service": resource.get("service.name")}))
sys.stdout.flush()
import os
os._exit(0)  # without sending anything
"""


def process(**environment: str) -> Any:
    """What a server or worker would do in this environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], env={**clean, **environment}, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def sampled(headers: dict[str, str]) -> bool:
    """By the flags, https://www.w3.org/TR/trace-context-2/#sampled-flag."""
    return bool(int(headers["traceparent"][-2:], 16) & 1)


def test_without_a_collector_the_sdk_is_not_even_imported_and_spans_are_empty() -> None:
    assert process() == {"on": False, "sdk": [], "headers": {}, "service": None}


def test_with_a_collector_spans_are_recorded_under_the_name_of_the_process() -> None:
    report = process(**COLLECTOR)
    assert report["on"]
    assert sampled(report["headers"])
    assert report["service"] == "dreamserve-test"


def test_the_environment_names_the_service_and_chooses_the_sampler() -> None:
    named = process(**COLLECTOR, OTEL_SERVICE_NAME="mine")
    unsampled = process(**COLLECTOR, OTEL_TRACES_SAMPLER="always_off")
    assert named["service"] == "mine"
    assert not sampled(unsampled["headers"])


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        (COLLECTOR, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector"}, False),
        ({**COLLECTOR, "OTEL_SDK_DISABLED": "true"}, False),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_traces_are_wanted_where_the_environment_names_a_collector(environment: dict[str, str], on: bool) -> None:
    assert wanted(environment) is on


def test_a_protocol_that_there_is_no_exporter_for_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TracingError, match="http/json"):
        configure_tracing("dreamserve-test")


@pytest.mark.parametrize("traceparent", ["", "garbage", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "a" * 10_000])
def test_a_traceparent_that_is_none_does_not_count(traceparent: str) -> None:
    assert not context_of({"traceparent": traceparent})
