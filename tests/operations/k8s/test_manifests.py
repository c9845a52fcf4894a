"""The manifests are what they seem: valid, closed, and whole."""

from collections.abc import Sequence
from dataclasses import replace
from textwrap import indent

import pytest

from k8s import check
from k8s.check import CheckError, Rendered
from tests.operations.k8s.manifests import NAME, all_pods, of_kind, pods_of, selects, strings

NOT_IN_FILES = {"api-keys", "redis", "tls", "weights-source"}
"""Secrets that the operator makes, see k8s/README.md."""


def test_everything_is_valid_for_its_schemas(rendered: Sequence[Rendered]) -> None:
    check.validate(rendered)


def test_nothing_is_dangerous(rendered: Sequence[Rendered]) -> None:
    check.harden(rendered)


def test_the_files_are_tidy() -> None:
    check.lint()


def test_what_is_wrong_is_found(rendered: Sequence[Rendered]) -> None:
    """Of a resource of Kubernetes its schema tells, and of custom ones all that is wrong at once."""
    wrong = {
        "request: 0s": ("request: 0 s", "/spec/rules/0/timeouts/request"),
        "backendRefs:": ("backends:", '"backends"\' does not exist'),
        "pollingInterval:": ("polingInterval:", '"polingInterval"\' does not exist'),
        "scrapeTimeout:": ("timeout:", '"timeout"\' does not exist'),
        "failureMode: FailOpen": ("failureMode: Open", "failureMode must be equal to one of the allowed values"),
        "number: 8000": ("number: 80000", "number must be <= 65535"),
    }
    [option] = [each for each in rendered if each.name == "components/inference-pool"]
    text = option.text
    for right, (slip, _) in wrong.items():
        assert right in text
        text = text.replace(right, slip)
    with pytest.raises(CheckError) as found:
        check.validate([replace(option, text=text)])
    assert [told for _, told in wrong.values() if told not in str(found.value)] == []

    text = option.text.replace("readinessProbe:", "readynessProbe:")
    with pytest.raises(CheckError, match="readynessProbe"):
        check.validate([replace(option, text=text)])


def test_the_alert_rules_make_a_prometheus_rule() -> None:
    """As README.md applies them."""
    head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: dreamserve}\nspec:\n"
    rules = (check.FOLDER.parent / "docker/prometheus/rules/dreamserve.yml").read_text()
    check.validate([Rendered("rules", head + indent(rules, "  "))])


def test_a_privileged_container_is_found(rendered: Sequence[Rendered]) -> None:
    dev = rendered[0]
    text = dev.text.replace("allowPrivilegeEscalation: false", "privileged: true")
    with pytest.raises(CheckError, match="CKV_K8S_16"):
        check.harden([replace(dev, text=text)])


def test_all_pods_keep_to_the_restricted_profile(rendered: Sequence[Rendered]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    volumes = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    for pods in all_pods(rendered):
        security = pods.spec["securityContext"]
        assert security["runAsNonRoot"], pods
        assert security["runAsUser"] >= 10_000, pods
        assert security["seccompProfile"]["type"] == "RuntimeDefault", pods
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pods.spec.keys(), pods
        for volume in pods.spec["volumes"]:
            assert volume.keys() - {"name"} <= volumes, pods
        for container in pods.containers:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, pods
            assert security["readOnlyRootFilesystem"], pods
            assert security["capabilities"] == {"drop": ["ALL"]}, pods
            assert not any("hostPort" in port for port in container.get("ports", ())), pods


def test_nobody_has_rights_in_the_cluster_but_the_endpoint_picker_to_see(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        assert not of_kind(each, "ClusterRole", "ClusterRoleBinding")
        roles = of_kind(each, "Role")
        assert [role["metadata"]["name"] for role in roles] in ([], ["endpoint-picker"])
        assert {verb for role in roles for rule in role["rules"] for verb in rule["verbs"]} <= {"get", "list", "watch"}
        for pods in pods_of(each):
            if pods.name != "endpoint-picker":
                assert pods.spec["automountServiceAccountToken"] is False, pods


def test_whatever_is_selected_is_there(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        labels = [pods.labels for pods in pods_of(each)]
        selectors = [document["spec"]["selector"] for document in of_kind(each, "PodDisruptionBudget", "PodMonitor")]
        selectors += [{"matchLabels": document["spec"]["selector"]} for document in of_kind(each, "Service")]
        selectors += [document["spec"]["selector"] for document in of_kind(each, "InferencePool")]
        for policy in of_kind(each, "NetworkPolicy"):
            peers = [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]
            here = [peer for rule in peers for peer in [*rule.get("from", ()), *rule.get("to", ())]]
            selectors += [policy["spec"]["podSelector"]]
            selectors += [peer["podSelector"] for peer in here if peer.keys() == {"podSelector"}]
        for selector in selectors:
            assert any(selects(selector, these) for these in labels), (each.name, selector)


def test_whatever_is_referred_to_is_there_or_made_by_the_operator(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        named = {(document["kind"], document["metadata"]["name"]) for document in each.documents}
        made = named | {("Secret", name) for name in NOT_IN_FILES}
        for pods in pods_of(each):
            references = set()
            for volume in pods.spec["volumes"]:
                match volume:
                    case {"persistentVolumeClaim": claim}:
                        references.add(("PersistentVolumeClaim", claim["claimName"]))
                    case {"configMap": source}:
                        references.add(("ConfigMap", source["name"]))
                    case {"secret": source}:
                        references.add(("Secret", source["secretName"]))
            for container in pods.containers:
                for source in container.get("envFrom", ()):
                    kind = "ConfigMap" if "configMapRef" in source else "Secret"
                    references.add((kind, source[f"{kind[0].lower()}{kind[1:]}Ref"]["name"]))
                for variable in container.get("env", ()):
                    if "secretKeyRef" in variable.get("valueFrom", {}):
                        references.add(("Secret", variable["valueFrom"]["secretKeyRef"]["name"]))
            if name := pods.spec.get("priorityClassName"):
                references.add(("PriorityClass", name))
            if name := pods.spec.get("serviceAccountName"):
                references.add(("ServiceAccount", name))
            assert references <= made, (each.name, pods.owner, references - made)
        for scaler in of_kind(each, "HorizontalPodAutoscaler", "ScaledObject"):
            assert ("Deployment", scaler["spec"]["scaleTargetRef"]["name"]) in named


def test_nobody_may_talk_or_listen_unless_a_policy_says_so(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        if each.name == "fetch-weights":
            continue
        policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind(each, "NetworkPolicy")}
        assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        for name, policy in policies.items():
            # A rule without peers or ports would let in, or out to, everybody; outwards a port may be enough.
            assert all(rule.get("from") and rule.get("ports") for rule in policy.get("ingress", ())), name
            assert all(rule.get("ports") for rule in policy.get("egress", ())), name


def test_nothing_is_of_the_latest_version_whichever_that_is(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        assert [text for text in strings(each.documents) if text == "latest" or ":latest" in text] == []


def test_no_secret_is_in_a_file(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        for secret in of_kind(each, "Secret"):
            assert each.name == "overlays/dev", secret
            assert secret["metadata"]["name"].startswith("redis-")
        assert not any("password" in text.lower() for text in strings(each.documents)), each.name


def test_each_of_our_pods_says_what_it_needs(rendered: Sequence[Rendered]) -> None:
    for pods in all_pods(rendered):
        for container in pods.containers:
            resources = container["resources"]
            assert resources["requests"].keys() >= {"cpu", "memory", "ephemeral-storage"}, (pods.owner, container)
            assert resources["limits"].keys() >= {"memory", "ephemeral-storage"}, (pods.owner, container)


def test_servers_and_workers_are_spread_and_go_one_after_another(rendered: Sequence[Rendered]) -> None:
    for each in rendered:
        for pods in pods_of(each):
            if pods.name in ("server", "worker"):
                spread = {each["topologyKey"] for each in pods.spec["topologySpreadConstraints"]}
                assert spread == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
                assert any(
                    selects(budget["spec"]["selector"], {NAME: pods.name})
                    for budget in of_kind(each, "PodDisruptionBudget")
                )
