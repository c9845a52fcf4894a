"""Alerts and dashboard: what they ask for exists, they fire when they should, and the runbook says what to do."""

import json
import re
import runpy
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from server.settings import AdmissionSettings
from tests.operations.programs import program
from tests.operations.test_metrics import LABELS, families

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "docker" / "grafana"
DASHBOARD = GRAFANA / "dashboards" / "dreamserve.json"
PROMETHEUS = ROOT / "docker" / "prometheus"
RULES = PROMETHEUS / "rules" / "dreamserve.yml"
TESTS = PROMETHEUS / "tests" / "dreamserve.yml"
RUNBOOK = ROOT / "docs" / "runbook.md"
PROMETHEUS_OWN = {"up"}
LABELS_OF_TARGETS = {"instance", "job", "le"}
"""That Prometheus adds, and that of buckets."""
OPEN_LABELS = {"route", "status"}
"""Whose values come from outside, so that no list of them is complete."""
SERIES = ("", "_total", "_bucket", "_sum", "_count")


def rules() -> list[dict[str, Any]]:
    """The alerts."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Every query of alerts and dashboard, by whose it is."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def selectors_in(expression: Any, grouped: frozenset[str] = frozenset()) -> Iterator[tuple[Any, frozenset[str]]]:
    """What a parsed query asks for: each metric with its matchers, and the labels that it is grouped by."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression, grouped
        return
    if isinstance(expression, promql_parser.AggregateExpr) and expression.modifier is not None:
        grouped |= set(expression.modifier.labels)
    parts = [getattr(expression, part, None) for part in ("lhs", "rhs", "expr", "vector_selector", "param")]
    for part in [*parts, *getattr(expression, "args", [])]:
        if part is not None:
            yield from selectors_in(part, grouped)


def values_in(matcher: Any) -> set[str]:
    """The values that a matcher names, one or several parted by bars."""
    return set(matcher.value.split("|")) if re.fullmatch(r"[\w|]+", matcher.value) else set()


def counted() -> dict[str, dict[str, set[str]]]:
    """Of each metric its labels, and of each label the values that are there from the start."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in families():
        labels: dict[str, set[str]] = {label: set() for label in LABELS.get(family.name, ())}
        for sample in family.samples:
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
        found |= {family.name + suffix: labels for suffix in SERIES}
    return found


def names_of_vllm() -> set[str]:
    """What vLLM's source makes; it registers them only when an engine starts."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "v1" / "metrics" / "loggers.py").read_text()
    return set(re.findall(r'name="(vllm:\w+)"', source))


def test_every_metric_that_is_asked_for_exists() -> None:
    named = {family.name for family in families()} | names_of_vllm()
    series = {name + suffix for name in named for suffix in SERIES} | PROMETHEUS_OWN
    asked = [
        (whose, {selector.name for selector, _ in selectors_in(promql_parser.parse(query))})
        for whose, query in queries()
    ]
    assert all(names for _, names in asked)
    assert [(whose, names - series) for whose, names in asked if names - series] == []


def test_every_label_and_value_that_is_asked_for_exists() -> None:
    there, missing = counted(), []
    for whose, query in queries():
        for selector, grouped in selectors_in(promql_parser.parse(query)):
            labels, matchers = there.get(selector.name, {}), selector.matchers.matchers
            asked = grouped | {matcher.name for matcher in matchers}
            missing += [(whose, selector.name, label) for label in asked - labels.keys() - LABELS_OF_TARGETS]
            for matcher in matchers:
                if matcher.name not in OPEN_LABELS | LABELS_OF_TARGETS:
                    unknown = values_in(matcher) - labels.get(matcher.name, set())
                    missing += [(whose, selector.name, f"{matcher.name}={value}") for value in unknown]
    assert missing == []


def test_the_kv_cache_is_told_of_before_admission_keeps_it_from_filling() -> None:
    [rule] = [rule for rule in rules() if rule["alert"] == "DreamServeKVCacheFull"]
    assert float(rule["expr"].rpartition("> ")[2]) < AdmissionSettings().max_kv_usage


def test_the_dashboard_is_what_its_program_writes() -> None:
    written = runpy.run_path(str(GRAFANA / "dashboard.py"))["dashboard"]()
    assert json.loads(DASHBOARD.read_text()) == written


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", PROMETHEUS / "prometheus.yml"), ("check", "rules", RULES), ("test", "rules", TESTS)],
    ids=["the configuration is valid", "the rules are valid", "alerts fire when they should"],
)
def test_promtool_says_that(arguments: tuple[str | Path, ...]) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_a_test() -> None:
    played = yaml.safe_load(TESTS.read_text())["tests"]
    fired = {each["alertname"] for test in played for each in test.get("alert_rule_test", []) if each["exp_alerts"]}
    for test in played:
        for each in test.get("promql_expr_test", []):
            fired |= {name for sample in each["exp_samples"] for name in re.findall(r'"(\w+)"', sample["labels"])}
    assert {rule["alert"] for rule in rules()} <= fired


def test_the_runbook_has_a_paragraph_for_each_alert_and_for_no_other() -> None:
    sections = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    paragraphs = {title: text.strip() for title, _, text in (section.partition("\n") for section in sections)}
    alerts = {rule["alert"]: rule["annotations"] for rule in rules()}
    assert paragraphs.keys() == alerts.keys()
    for alert, annotations in alerts.items():
        assert annotations["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
        assert len(paragraphs[alert]) > 100, alert
        assert set(re.findall(r"DreamServe\w+", paragraphs[alert])) <= alerts.keys()


def test_the_runbook_points_at_panels_that_there_are() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    titles = {dashboard["title"], *(panel["title"] for panel in dashboard["panels"])}
    text = re.sub(r"`[^`]*`", "", RUNBOOK.read_text())
    pointed_at = {" ".join(title.split()) for title in re.findall(r"\*([^*]+)\*", text)}
    assert pointed_at
    assert pointed_at <= titles
