"""``make k8s-check``: all that can be applied renders, is valid for its schemas and passes the linters, offline.

Runs in the environment ``.k8s`` (requirements/k8s). Whether all this fits DreamServe's ports, settings and metrics is
for tests/operations/k8s/ to see.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
ENVIRONMENT = FOLDER.parent / ".k8s"
TOOLS = ENVIRONMENT / "bin"
KUBERNETES = "1.37.0"
OVERLAYS = ("overlays/dev", "overlays/gpu", "overlays/gpu-autoscale", "fetch-weights")
OPTIONS = ("inference-pool", "weights-object-store", "tracing")
"""Components that no overlay has: they are checked on top of overlays/gpu-autoscale, each alone and all together."""

ACCEPTED = {
    "CKV_K8S_11": "CPU limits: a throttled event loop delays every stream; requests share the CPU fairly",
    "CKV_K8S_15": "pull always: versions are never pushed twice, and a registry that is away must stop no restart",
    "CKV_K8S_35": "secrets in the environment: the Redis URL is a setting, and settings come from there",
    "CKV_K8S_43": "digests: they are of the operator's own registry; overlays/gpu has the place for them",
}
"""What checkov does not like, and why it stays."""

Document = dict[str, Any]


class CheckError(Exception):
    """What a check found; its text is for people."""


@dataclass(frozen=True)
class Rendered:
    """What `kubectl apply -k` would send.

    Attributes:
        name: of what was rendered.
        text: YAML.
    """

    name: str
    text: str

    @cached_property
    def documents(self) -> list[Document]:
        """The resources."""
        return list(yaml.safe_load_all(self.text))


def render_all() -> list[Rendered]:
    """All that there is to apply.

    Raises:
        CheckError: something does not render.
    """
    alone = [render_options(name) for name in OPTIONS]
    return [*map(render, OVERLAYS), *alone, render_options(*OPTIONS)]


def render(name: str) -> Rendered:
    """A folder of k8s/.

    Raises:
        CheckError: it does not render.
    """
    return Rendered(name, run("kubectl", "kustomize", str(FOLDER / name)))


def render_options(*names: str) -> Rendered:
    """Components on top of the overlay that has all others.

    Raises:
        CheckError: it does not render.
    """
    with tempfile.TemporaryDirectory() as folder:
        to = os.path.relpath(FOLDER, Path(folder).resolve())
        kustomization = {
            "namespace": "dreamserve",
            "resources": [f"{to}/overlays/gpu-autoscale"],
            "components": [f"{to}/components/{name}" for name in names],
        }
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return Rendered(f"components/{'+'.join(names)}", run("kubectl", "kustomize", folder))


def validate(rendered: Iterable[Rendered]) -> None:
    """Against the schemas of Kubernetes and of the custom resources, in which no unknown field is allowed.

    Raises:
        CheckError: a resource is not valid.
    """
    built_in, custom = [], []
    for each in rendered:
        of_kubernetes = [document for document in each.documents if is_built_in(document)]
        custom += [document for document in each.documents if document not in of_kubernetes]
        built_in.append(Rendered(each.name, yaml.safe_dump_all(of_kubernetes)))
    with files_of(built_in) as files:
        run("kubernetes-validate", "--strict", "--quiet", "--kubernetes-version", KUBERNETES, *map(str, files))
    run("node", str(FOLDER / "validate.mjs"), str(ENVIRONMENT / "node_modules"), stdin=json.dumps(custom))


def is_built_in(document: Document) -> bool:
    """Whether Kubernetes itself knows a resource; those of its special interest groups are custom ones too."""
    group = document["apiVersion"].rpartition("/")[0]
    return "." not in group or group in ("networking.k8s.io", "rbac.authorization.k8s.io", "scheduling.k8s.io")


def harden(rendered: Iterable[Rendered]) -> None:
    """Against what checkov knows to be dangerous.

    Raises:
        CheckError: something is.
    """
    options = ("--framework", "kubernetes", "--compact", "--quiet", "--skip-download")
    with files_of(rendered) as files:
        run("checkov", "--directory", str(files[0].parent), *options, "--skip-check", ",".join(ACCEPTED))


def lint() -> None:
    """The YAML as it is written.

    Raises:
        CheckError: it is untidy.
    """
    run("yamllint", "--strict", "--config-file", str(FOLDER / ".yamllint"), str(FOLDER))


@contextmanager
def files_of(rendered: Iterable[Rendered]) -> Iterator[list[Path]]:
    """A file for each, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for each in rendered:
            files.append(Path(folder, f"{each.name.replace('/', '-')}.yaml"))
            files[-1].write_text(each.text)
        yield files


def run(tool: str, *arguments: str, stdin: str = "") -> str:
    """The output of a tool of the environment.

    Raises:
        CheckError: it failed.
    """
    command = [str(TOOLS / tool), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise CheckError(f"{tool} {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Check everything, tell of everything, and return the exit code."""
    try:
        rendered = render_all()
    except CheckError as error:
        print(f"does not render: {error}")
        return 1
    for each in rendered:
        print(f"{each.name}: {len(each.documents)} resources")
    checks: dict[str, Callable[[], None]] = {
        f"valid for Kubernetes {KUBERNETES} and for the custom resources": lambda: validate(rendered),
        "not dangerous (checkov)": lambda: harden(rendered),
        "tidy (yamllint)": lint,
    }
    failed = 0
    for name, check in checks.items():
        try:
            check()
        except CheckError as error:
            failed += 1
            print(f"NOT {name}\n{error}")
        else:
            print(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
