"""What is in the manifests, in the words of the tests."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from k8s.check import Document, Rendered
from server.settings import PREFIX, Settings

NAME = "app.kubernetes.io/name"


@dataclass(frozen=True)
class Pods:
    """The pods of one workload.

    Attributes:
        overlay: that they are in.
        owner: such as ``Deployment/server``.
        labels: of each.
        spec: of each.
    """

    overlay: Rendered
    owner: str
    labels: dict[str, str]
    spec: Document

    @property
    def name(self) -> str:
        """What they are."""
        return self.labels[NAME]

    @property
    def main(self) -> Document:
        """The container that does the work."""
        [container] = self.spec["containers"]
        return container

    @property
    def containers(self) -> list[Document]:
        """That one, and those before it."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """By their names."""
        return {port["name"]: port["containerPort"] for port in self.main.get("ports", [])}

    def environment(self, container: Document | None = None) -> dict[str, str]:
        """Of a container; what comes from a Secret is told by its name and key."""
        found: dict[str, str] = {}
        container = container or self.main
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                found |= one(self.overlay, "ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                reference = variable["valueFrom"]["secretKeyRef"]
                found[variable["name"]] = f"secret:{reference['name']}/{reference['key']}"
            elif "value" in variable:
                found[variable["name"]] = variable["value"]
        return found


def of_kind(rendered: Rendered, *kinds: str) -> list[Document]:
    """Resources of some kinds."""
    return [document for document in rendered.documents if document["kind"] in kinds]


def one(rendered: Rendered, kind: str, name: str) -> Document:
    """The resource of a kind and a name."""
    [found] = [document for document in of_kind(rendered, kind) if document["metadata"]["name"] == name]
    return found


def pods_of(rendered: Rendered) -> list[Pods]:
    """The pods of all workloads."""
    workloads = of_kind(rendered, "Deployment", "StatefulSet", "Job")
    return [
        Pods(
            rendered,
            f"{workload['kind']}/{workload['metadata']['name']}",
            workload["spec"]["template"]["metadata"]["labels"],
            workload["spec"]["template"]["spec"],
        )
        for workload in workloads
    ]


def all_pods(rendered: Sequence[Rendered], *names: str) -> list[Pods]:
    """The pods of all overlays; of some names, or of all."""
    return [pods for each in rendered for pods in pods_of(each) if not names or pods.name in names]


def settings_of(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What a server or a worker makes of its environment. A setting that there is not is an error."""
    with monkeypatch.context() as environment:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            environment.delenv(name)
        for name, value in pods.environment().items():
            environment.setenv(name, "redis://redis" if value == "secret:redis/url" else value)
        return Settings()


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector means what has these labels."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        {"In": labels.get(each["key"]) in each.get("values", ())}[each["operator"]]
        for each in selector.get("matchExpressions", ())
    )


def strings(value: Any) -> Iterator[str]:
    """All strings anywhere in a resource."""
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from strings(each)
        case list():
            for each in value:
                yield from strings(each)
