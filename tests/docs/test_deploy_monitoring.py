"""The Grafana dashboard and the alert rules in docs/deploy: they are well formed, and name metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import promql_parser
import pytest
import yaml
from tests.docs.test_docs import ROOT

from newswire.relay.served import FAMILIES as RELAY
from newswire.server.metrics import FAMILIES as SERVE
from newswire.serving.metrics import Family
from newswire.serving.served_app import SHARED

DEPLOY: Final = ROOT / "docs" / "deploy"
DASHBOARD: Final[dict[str, Any]] = json.loads((DEPLOY / "grafana.json").read_text())
RULES: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())
FAMILIES: Final[dict[str, Family]] = {
    sample: family for family in (*SERVE, *RELAY, *SHARED) for sample in family.samples
}
# What Prometheus adds to each series, and what a dashboard of Grafana fills in.
TARGET: Final = {"job", "instance"}
VARIABLES: Final = {"$__rate_interval": "5m", "$job": ".*"}


def expressions() -> Iterator[Any]:
    """Every expression of the two files."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield pytest.param(target["expr"], target["legendFormat"], id=f"grafana: {panel['title']}")
    for rule in RULES["groups"][0]["rules"]:
        yield pytest.param(rule["expr"], "", id=f"alert: {rule['alert']}")


def selectors(tree: Any, around: tuple[str, ...] = ()) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The selectors of series in an expression, and the functions around each."""
    match tree:
        case promql_parser.VectorSelector():
            yield tree, around
        case promql_parser.MatrixSelector():
            yield tree.vector_selector, around
        case promql_parser.Call():
            for argument in tree.args:
                yield from selectors(argument, (*around, tree.func.name))
        case promql_parser.AggregateExpr():
            yield from selectors(tree.expr, around)
        case promql_parser.BinaryExpr():
            yield from selectors(tree.lhs, around)
            yield from selectors(tree.rhs, around)
        case promql_parser.ParenExpr():
            yield from selectors(tree.expr, around)


@pytest.mark.parametrize(("expression", "legend"), [*expressions()])
def test_each_metric_exists_and_is_used_as_what_it_is(expression: str, legend: str) -> None:
    """Counters and histograms by their rate or increase, gauges as they are; only labels and values that there are."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    found = list(selectors(promql_parser.parse(expression)))
    assert found
    labels = set(TARGET)
    for selector, around in found:
        family = FAMILIES[selector.name]
        labels |= set(family.labels)
        by_change = bool({"rate", "increase"} & set(around))
        assert by_change == (family.kind != "gauge"), selector.name
        assert ("histogram_quantile" in around) == selector.name.endswith("_bucket")
        for matcher in selector.matchers.matchers:
            assert matcher.name in {*family.labels, *TARGET}, matcher.name
            if family.values and matcher.name in family.labels:
                assert set(matcher.value.split("|")) <= set(family.values), matcher.value
    named = set(re.findall(r"\{\{(\w+)\}\}", legend)) | {
        label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")
    }
    assert named <= labels | {"le"}


def test_the_panels_stand_beside_each_other() -> None:
    """Each has an id of its own, a place that no other has, a unit, and a data source that its user chooses."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_each_alert_says_what_to_do() -> None:
    """A severity, a summary with the server, a description; and no name twice."""
    rules = RULES["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "$labels.instance" in rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")
        assert re.fullmatch(r"\d+m", rule.get("for", "0m"))


def test_the_pages_name_metrics_that_there_are() -> None:
    """In prose and in code, with or without the ending of a sample."""
    known = set(FAMILIES) | {f"newswire_{family.name}" for family in FAMILIES.values()}
    for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*/*.md"), DEPLOY / "alerts.yaml"]:
        named = set(re.findall(r"\bnewswire_[a-z_]+[a-z]\b", page.read_text()))
        tables = {"newswire_outbox", "newswire_publish"}  # of PostgreSQL and SQLite
        strange = {name for name in named - known - tables if page.name in ("metrics.md", "server.md", "alerts.yaml")}
        assert not strange, page.name
