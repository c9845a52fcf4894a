"""The scalers ask for what is measured, and see what they should."""

import importlib.util
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from k8s.check import FOLDER, Rendered
from server.observe import metrics as _  # noqa: F401 - so that they are in the registry
from tests.operations.k8s.manifests import of_kind, one, pods_of, settings_of


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\b(?:dreamserve_|vllm:)\w+", query))


def test_what_scales_is_measured(rendered: Sequence[Rendered]) -> None:
    [overlay] = [each for each in rendered if each.name == "overlays/gpu-autoscale"]
    [scaler], [hpa] = of_kind(overlay, "ScaledObject"), of_kind(overlay, "HorizontalPodAutoscaler")
    adapter = yaml.safe_load((FOLDER / "components/autoscaling/prometheus-adapter.yaml").read_text())
    vllm = Path(importlib.util.find_spec("vllm").origin).parent / "v1/metrics/loggers.py"  # type: ignore[union-attr,arg-type]
    ours = {metric.name for metric in REGISTRY.collect()}
    theirs = set(re.findall(r'"(vllm:\w+)"', vllm.read_text()))

    asked = set().union(*(metrics_in(trigger["metadata"]["query"]) for trigger in scaler["spec"]["triggers"]))
    adapted = {rule["name"]["as"]: metrics_in(rule["seriesQuery"]) for rule in adapter["rules"]["custom"]}
    assert asked
    assert asked <= ours
    assert set().union(*adapted.values()) <= theirs
    assert {metric["pods"]["metric"]["name"] for metric in hpa["spec"]["metrics"]} == adapted.keys()
    assert all(trigger["metadata"]["ignoreNullValues"] == "false" for trigger in scaler["spec"]["triggers"])


def test_where_workers_go_to_zero_servers_wait_for_them(
    rendered: Sequence[Rendered], monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in rendered:
        scalers = of_kind(each, "ScaledObject", "HorizontalPodAutoscaler")
        to_zero = any(scaler["spec"].get("minReplicaCount") == 0 for scaler in scalers)
        for pods in pods_of(each):
            if pods.name == "server":
                assert settings_of(pods, monkeypatch).admission.wait_for_workers == to_zero
        for scaler in scalers:
            deployment = one(each, "Deployment", scaler["spec"]["scaleTargetRef"]["name"])
            assert "replicas" not in deployment["spec"], "it would undo what the scaler does"


LOADS = {
    # name: (work ahead in s, jobs waiting, workers, ready, expected work, expected first workers)
    "idle, none": (0, 0, 0, 1, 0, 0),
    "the first job": (0, 1, 0, 1, 0, 1),
    "a crowd before anybody is there": (0, 40, 0, 1, 0, 40),
    "two workers, a minute of work each": (60, 9, 2, 1, 120, 0),
    "two workers, all in their batches": (6, 0, 2, 1, 12, 0),
    "Redis is away": (0, 0, 0, 0, None, None),
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_the_scaler_sees_what_it_should(
    rendered: Sequence[Rendered], promtool: Path, tmp_path: Path, load: tuple[float | None, ...]
) -> None:
    """Two servers that tell of one pool, as Prometheus evaluates it. None is no answer: then KEDA changes nothing."""
    work_ahead, waiting, alive, ready, work, first_workers = load
    [overlay] = [each for each in rendered if each.name == "overlays/gpu-autoscale"]
    [scaler] = of_kind(overlay, "ScaledObject")
    queries = {trigger["name"]: trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]}
    told = {
        "pool_work_ahead_seconds": work_ahead,
        "pool_jobs_waiting": waiting,
        "pool_workers_alive": alive,
        "ready": ready,
    }
    series = [
        {"series": f'dreamserve_{name}{{namespace="dreamserve",pod="{pod}"}}', "values": f"{value}x3"}
        for name, value in told.items()
        for pod in ("server-a", "server-b")
    ]
    expected = {"work": work, "first-workers": first_workers}
    samples = {name: [] if value is None else [{"labels": "{}", "value": value}] for name, value in expected.items()}
    tests = [{"expr": query, "eval_time": "1m", "exp_samples": samples[name]} for name, query in queries.items()]
    file = tmp_path / "tests.yaml"
    file.write_text(json.dumps({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}]}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
