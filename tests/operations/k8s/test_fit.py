"""The manifests fit DreamServe: its settings, ports, probes, drains, images, metrics, checkpoints."""

import hashlib
import os
import re
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from k8s.check import FOLDER, Rendered
from server.app import create_ops_app
from server.http_server import LAST_BYTES_S
from server.observe.probes import probes
from server.service import LAST_EVENT_LIMIT_S, Service
from server.settings import PREFIX, Settings
from tests.operations.k8s.manifests import Pods, all_pods, of_kind, one, pods_of, selects, settings_of

ROOT = FOLDER.parent
END_S = 15
"""For what comes after the drain: the end of vLLM, or of the diffusion engine."""


def servers(rendered: Sequence[Rendered]) -> list[Pods]:
    return all_pods(rendered, "server")


def workers(rendered: Sequence[Rendered]) -> list[Pods]:
    return all_pods(rendered, "worker")


def test_settings_are_settings_and_get_where_they_belong(
    rendered: Sequence[Rendered], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pods in [*servers(rendered), *workers(rendered)]:
        settings, environment = settings_of(pods, monkeypatch), pods.environment()
        assert settings.redis.url is not None
        assert settings.log.format == "json"
        listening = settings.server.host if pods.name == "server" else settings.worker.host
        assert listening == "0.0.0.0"  # noqa: S104 - a pod is reached from outside
        own = f"{PREFIX}{pods.name}__".upper()
        other = f"{PREFIX}{'worker' if pods.name == 'server' else 'server'}__".upper()
        assert any(name.startswith(own) for name in environment)
        assert not any(name.startswith(other) for name in environment), "a change would restart those it is not for"


def test_servers_and_workers_agree_on_what_they_share(
    rendered: Sequence[Rendered], monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in rendered:
        shared = [
            (settings.redis, settings.model, settings.limits.model_copy(update={"image_timeout_s": 0}))
            for settings in (settings_of(pods, monkeypatch) for pods in pods_of(each) if pods.name != "redis")
            if settings.redis.url is not None
        ]
        assert all(this == shared[0] for this in shared)


def test_ports_are_those_that_are_listened_to(rendered: Sequence[Rendered], monkeypatch: pytest.MonkeyPatch) -> None:
    for pods in servers(rendered):
        settings = settings_of(pods, monkeypatch).server
        assert pods.ports == {"http": settings.port, "ops": settings.ops_port}
    for pods in workers(rendered):
        assert pods.ports == {"ops": settings_of(pods, monkeypatch).worker.port}


def test_whoever_leads_to_a_port_leads_to_one_that_is_there(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        ports = {pods.name: pods.ports for pods in pods_of(each)}
        services = {service["metadata"]["name"]: service for service in of_kind(each, "Service")}
        for service in services.values():
            target = ports[service["spec"]["selector"]["app.kubernetes.io/name"]]
            for port in service["spec"]["ports"]:
                assert port["port"] == target[port["targetPort"]]
        for route in of_kind(each, "HTTPRoute"):
            for backend in [backend for rule in route["spec"]["rules"] for backend in rule.get("backendRefs", ())]:
                if "kind" not in backend:
                    assert backend["port"] == ports["server"]["http"]
        for monitor in of_kind(each, "ServiceMonitor"):
            labels = monitor["spec"]["selector"]
            [service] = [service for service in services.values() if selects(labels, service["metadata"]["labels"])]
            assert {end["port"] for end in monitor["spec"]["endpoints"]} <= {
                port["name"] for port in service["spec"]["ports"]
            }
        for monitor in of_kind(each, "PodMonitor"):
            assert {end["port"] for end in monitor["spec"]["podMetricsEndpoints"]} <= ports["worker"].keys()
        for policy in of_kind(each, "NetworkPolicy"):
            selected = [pods for pods in pods_of(each) if selects(policy["spec"]["podSelector"], pods.labels)]
            names = [port["port"] for rule in policy["spec"].get("ingress", ()) for port in rule["ports"]]
            assert all(name in pods.ports for name in names for pods in selected), policy["metadata"]["name"]


def test_the_ops_port_is_reached_from_prometheus_and_the_endpoint_picker_alone(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        allowed = {
            policy["metadata"]["name"]
            for policy in of_kind(each, "NetworkPolicy")
            for rule in policy["spec"].get("ingress", ())
            if {"port": "ops"} in rule["ports"]
        }
        assert allowed <= {"prometheus-to-ops", "endpoint-picker-to-server"}


def test_the_inference_pool_means_the_ports_of_the_server(rendered: Sequence[Rendered]) -> None:
    [option] = [each for each in rendered if each.name == "components/inference-pool"]
    [server] = [pods for pods in pods_of(option) if pods.name == "server"]
    [picker] = [pods for pods in pods_of(option) if pods.name == "endpoint-picker"]
    [pool] = of_kind(option, "InferencePool")
    [config] = [volume["configMap"]["name"] for volume in picker.spec["volumes"]]
    picking = yaml.safe_load(one(option, "ConfigMap", config)["data"]["picking.yaml"])

    assert pool["spec"]["targetPorts"] == [{"number": server.ports["http"]}]
    assert pool["spec"]["endpointPickerRef"]["port"]["number"] == picker.ports["grpc"]
    assert f"--model-server-metrics-port={server.ports['ops']}" in picker.main["args"]
    assert f"--pool-name={pool['metadata']['name']}" in picker.main["args"]
    plugins = {plugin["type"] for plugin in picking["plugins"]}
    assert {each["pluginRef"] for profile in picking["schedulingProfiles"] for each in profile["plugins"]} <= plugins


def test_probes_ask_what_there_is_to_ask_and_mean_it(rendered: Sequence[Rendered]) -> None:
    ops = create_ops_app(Service(Settings(auth={"enabled": False}), open_backend=None))  # type: ignore[arg-type]
    paths = {
        "server": {route.path for route in ops.routes},
        "worker": {route.path for route in probes(lambda: None, lambda: None, lambda: None).routes},
    }
    for pods in [*servers(rendered), *workers(rendered)]:
        asked = {kind: pods.main[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert {kind: get["path"] for kind, get in asked.items()} == {
            "startup": "/health/started",
            "readiness": "/health/ready",
            "liveness": "/health/live",
        }
        assert {get["path"] for get in asked.values()} <= paths[pods.name]
        assert {get["port"] for get in asked.values()} == {"ops"}


def test_servers_have_the_time_to_end_that_they_take(
    rendered: Sequence[Rendered], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pods in servers(rendered):
        settings = settings_of(pods, monkeypatch).server
        before = pods.main["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = settings.shutdown_grace_s + LAST_EVENT_LIMIT_S + LAST_BYTES_S
        liveness = pods.main["livenessProbe"]
        readiness = pods.main["readinessProbe"]

        assert settings.shutdown_delay_s == 0, "the preStop hook does that"
        assert pods.spec["terminationGracePeriodSeconds"] >= before + drain + END_S
        # A server whose model has died ends by itself; the kubelet must not cut what it still finishes.
        assert liveness["periodSeconds"] * liveness["failureThreshold"] >= drain
        assert before >= readiness["periodSeconds"], "gateways that look at readiness see it in time"
        # One that hangs is not waited for as if it were draining.
        hangs = {pods.main[f"{kind}Probe"]["terminationGracePeriodSeconds"] for kind in ("startup", "liveness")}
        assert max(hangs) < before + settings.shutdown_grace_s


def test_workers_have_the_time_to_end_that_they_take(
    rendered: Sequence[Rendered], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pods in workers(rendered):
        drain = settings_of(pods, monkeypatch).worker.drain_s
        assert pods.spec["terminationGracePeriodSeconds"] >= drain + END_S
        assert "lifecycle" not in pods.main, "it takes no more jobs at once"


def test_streams_are_not_timed_and_the_host_is_one(
    rendered: Sequence[Rendered], monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in rendered:
        hosts = {
            listener["hostname"] for gateway in of_kind(each, "Gateway") for listener in gateway["spec"]["listeners"]
        }
        for route in of_kind(each, "HTTPRoute"):
            hosts |= set(route["spec"]["hostnames"])
            for rule in route["spec"]["rules"]:
                if "backendRefs" in rule:
                    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
        if hosts:
            [server] = [pods for pods in pods_of(each) if pods.name == "server"]
            assert [settings_of(server, monkeypatch).files.public_url] == [f"https://{host}" for host in hosts]


def test_images_have_the_version_of_the_project_and_the_targets_of_its_dockerfiles(
    rendered: Sequence[Rendered],
) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for pods in all_pods(rendered):
        for container in pods.containers:
            repository, _, tag = container["image"].rpartition(":")
            assert re.match(r"v?\d+\.\d+", tag), container["image"]
            if (name := repository.rpartition("/")[2]).startswith("dreamserve-"):
                device = "cpu" if pods.overlay.name == "overlays/dev" else "cuda"
                dockerfile = (ROOT / "docker" / f"{device}.Dockerfile").read_text()
                assert tag == f"{version}-{device}"
                assert f" AS {name.removeprefix('dreamserve-')}\n" in dockerfile


def test_each_gpu_pod_has_a_gpu(rendered: Sequence[Rendered]) -> None:
    for pods in [*servers(rendered), *workers(rendered)]:
        gpus = [pods.main["resources"][kind].get("nvidia.com/gpu") for kind in ("requests", "limits")]
        assert gpus == ([None, None] if pods.overlay.name == "overlays/dev" else ["1", "1"])


def test_shared_memory_and_places_to_write_are_there(rendered: Sequence[Rendered]) -> None:
    for pods in servers(rendered):
        mounts = {mount["mountPath"]: mount["name"] for mount in pods.main["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pods.spec["volumes"]}
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"  # noqa: S108
        assert "emptyDir" in volumes[mounts["/tmp"]]  # noqa: S108


def test_keys_and_checkpoints_are_where_the_settings_say(
    rendered: Sequence[Rendered], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pods in [*servers(rendered), *workers(rendered)]:
        settings, mounts = settings_of(pods, monkeypatch), {mount["mountPath"] for mount in pods.main["volumeMounts"]}
        if pods.name == "server":
            assert str(settings.auth.keys_file.parent) in mounts  # type: ignore[union-attr]
        if pods.overlay.name != "overlays/dev":
            assert str(settings.model.path.parent) in mounts


@pytest.mark.parametrize("broken", [None, "diffusion/config.json", "tokenizer.json", "SHA256SUMS"])
def test_the_init_step_lets_a_whole_checkpoint_pass_and_no_other(
    rendered: Sequence[Rendered], tmp_path: Path, broken: str | None
) -> None:
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "diffusion").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "diffusion/config.json"):
        (checkpoint / name).write_text(name)
    files = [file for file in checkpoint.rglob("*") if file.is_file()]
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  ./{file.relative_to(checkpoint)}\n" for file in files]
    (checkpoint / "SHA256SUMS").write_text("".join(sums))
    if broken == "SHA256SUMS":
        (checkpoint / broken).unlink()
    elif broken:
        (checkpoint / broken).write_text("half of it")
    passes = {}
    [overlay] = [each for each in rendered if each.name == "overlays/gpu"]
    for pods in pods_of(overlay):
        [step] = pods.spec["initContainers"]
        environment = {**os.environ, "DREAMSERVE_MODEL__PATH": str(checkpoint)}
        done = subprocess.run([*step["command"], *step["args"]], env=environment, capture_output=True)
        passes[pods.name] = done.returncode == 0
    read_by_workers = broken in ("diffusion/config.json", "SHA256SUMS")
    assert passes == {"server": broken is None, "worker": not read_by_workers}


def test_the_readme_names_what_there_is() -> None:
    text = (FOLDER / "README.md").read_text()
    for path in re.findall(r"(?:k8s|docker)/[\w./-]+[\w]", text):
        assert (ROOT / path).exists(), path
