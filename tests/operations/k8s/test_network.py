"""The NetworkPolicies as a network plugin enforces them: who has to talk may, and nobody else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Literal
from urllib.parse import urlsplit

from k8s.check import Rendered
from tests.operations.k8s.manifests import NAME, of_kind, pods_of, selects

OURS = "dreamserve"
NAMESPACE = "kubernetes.io/metadata.name"
"""Label that Kubernetes gives to each namespace."""


@dataclass(frozen=True)
class Peer:
    """Whoever talks or listens.

    Attributes:
        namespace: that it runs in; empty outside of the cluster.
        labels: of its pod.
        ports: that it listens on, by their names.
        address: outside of the cluster.
    """

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    address: str = ""


GATEWAY = Peer("envoy-gateway-system")
PROMETHEUS = Peer("monitoring", {NAME: "prometheus"})
COLLECTOR = Peer("monitoring", {NAME: "opentelemetry-collector"})
DNS = Peer("kube-system", {"k8s-app": "kube-dns"})
REDIS_OUTSIDE = Peer(address="10.1.2.3")
INTERNET = Peer(address="203.0.113.7")

Way = tuple[Peer, Peer, int]


def may(rendered: Rendered, way: Way) -> bool:
    """Whether the policies let the first peer reach a TCP port of the second."""
    source, target, port = way
    return _passes(rendered, "egress", source, target, target, port) and _passes(
        rendered, "ingress", target, source, target, port
    )


def _passes(
    rendered: Rendered, direction: Literal["ingress", "egress"], whose: Peer, other: Peer, target: Peer, port: int
) -> bool:
    """Whether the policies for one peer let it talk to the other; without a policy it may. Of others we know none."""
    policies = [
        policy["spec"]
        for policy in of_kind(rendered, "NetworkPolicy")
        if whose.namespace == OURS
        and selects(policy["spec"]["podSelector"], whose.labels)
        and direction.capitalize() in policy["spec"]["policyTypes"]
    ]
    rules = [rule for policy in policies for rule in policy.get(direction, ())]
    peers = "to" if direction == "egress" else "from"
    return not policies or any(
        any(_is_port(each, target, port) for each in rule["ports"])
        and (peers not in rule or any(_is_peer(each, other) for each in rule[peers]))
        for rule in rules
    )


def _is_port(rule: dict[str, Any], target: Peer, port: int) -> bool:
    named = target.ports.get(rule["port"]) if isinstance(rule["port"], str) else rule["port"]
    return named == port and rule.get("protocol", "TCP") == "TCP"


def _is_peer(rule: dict[str, Any], peer: Peer) -> bool:
    if "ipBlock" in rule:
        return bool(peer.address) and ip_address(peer.address) in ip_network(rule["ipBlock"]["cidr"])
    if "namespaceSelector" in rule:
        there = bool(peer.namespace) and selects(rule["namespaceSelector"], {NAMESPACE: peer.namespace})
    else:
        there = peer.namespace == OURS
    return there and selects(rule.get("podSelector", {}), peer.labels)


def ours(rendered: Rendered) -> dict[str, Peer]:
    """The pods, by what they are."""
    return {pods.name: Peer(OURS, pods.labels, pods.ports) for pods in pods_of(rendered)}


def needed(rendered: Rendered) -> Iterator[Way]:
    """Who has to reach whom, as the manifests themselves tell it."""
    peers = ours(rendered)
    for pods in pods_of(rendered):
        here = peers[pods.name]
        yield here, DNS, 53
        if pods.name in ("server", "worker"):
            yield (here, peers["redis"], 6379) if "redis" in peers else (here, REDIS_OUTSIDE, 6379)
        if of_kind(rendered, "ServiceMonitor") and pods.name in ("server", "worker"):
            yield PROMETHEUS, here, here.ports["ops"]
        if collector := pods.environment().get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            yield here, COLLECTOR, urlsplit(collector).port or 0
        if any("rclone" in container["image"] for container in pods.containers):
            yield here, INTERNET, 443
    if of_kind(rendered, "HTTPRoute"):
        yield GATEWAY, peers["server"], peers["server"].ports["http"]
    if "endpoint-picker" in peers:
        picker = peers["endpoint-picker"]
        yield GATEWAY, picker, picker.ports["grpc"]
        yield picker, peers["server"], peers["server"].ports["ops"]
        yield picker, INTERNET, 443  # Kubernetes' API, wherever it is


def test_whoever_has_to_talk_may(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        ways = list(needed(each))
        assert ways
        assert [way for way in ways if not may(each, way)] == [], each.name


def test_nobody_else_may(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        peers, ways = ours(each), list(needed(each))
        everybody = [*peers.values(), GATEWAY, PROMETHEUS, COLLECTOR, REDIS_OUTSIDE, INTERNET]
        inwards = [
            (source, target, port)
            for target in peers.values()
            for port in target.ports.values()
            for source in everybody
        ]
        outwards = [(source, INTERNET, port) for source in peers.values() for port in (80, 443, 6379)]
        assert [way for way in inwards + outwards if way not in ways and may(each, way)] == [], each.name
