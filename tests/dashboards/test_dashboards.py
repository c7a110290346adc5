"""What is generated is up to date, and Prometheus' own checks pass."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards import rules, targets
from dashboards.__main__ import FOLDER, generated
from dashboards.board import metrics_in
from dashboards.boards import BOARDS


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    return found


def check(promtool: str, *words: str | Path) -> None:
    done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_committed_files_are_what_would_be_generated_now() -> None:
    wanted = generated()
    stale = [str(path) for path, text in wanted.items() if (FOLDER / path).read_text() != text]
    assert not stale, f"{', '.join(stale)}: run `python -m dashboards generate`"
    assert {path.relative_to(FOLDER) for path in FOLDER.glob("grafana/*")} <= set(wanted)


def test_boards_are_told_apart_and_each_panel_is_explained() -> None:
    assert len({board.uid for board in BOARDS}) == len(BOARDS)
    for board in BOARDS:
        titles = [panel.title for row in board.rows for panel in row.panels]
        assert len(set(titles)) == len(titles), board.uid
        for row in board.rows:
            assert all(panel.about.endswith(".") and panel.queries for panel in row.panels), row.title
        document = json.loads((FOLDER / "grafana" / f"{board.uid}.json").read_text())
        references = [panel["targets"] for panel in document["panels"] if panel["type"] != "row"]
        assert all(len({query["refId"] for query in queries}) == len(queries) for queries in references)


def test_rules_and_configuration_are_valid(promtool: str) -> None:
    check(promtool, "check", "rules", FOLDER / "prometheus" / "rules.yml")
    check(promtool, "check", "config", FOLDER / "prometheus" / "prometheus.yml")


def test_each_alert_fires_when_it_should(promtool: str) -> None:
    check(promtool, "test", "rules", FOLDER / "prometheus" / "rules_test.yml")


def test_queries_of_the_boards_are_promql(promtool: str, tmp_path: Path) -> None:
    queries = [query for board in BOARDS for query in board.queries()]
    replaced = [query.replace("$region", ".*").replace("$__rate_interval", "1m") for query in queries]
    records = [{"record": f"board:query:{number}", "expr": query} for number, query in enumerate(replaced)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": records}]}))
    check(promtool, "check", "rules", tmp_path / "queries.yml")


def test_series_that_boards_and_alerts_share_are_recorded() -> None:
    recorded = {recorded.name for recorded in rules.RECORDED}
    asked = [query for board in BOARDS for query in board.queries()] + rules.expressions()
    used = {name for query in asked for name in metrics_in(query) if ":" in name}
    assert used == recorded


def test_prometheus_finds_every_process_of_a_stack(promtool: str, tmp_path: Path) -> None:
    endpoints = {
        "regions": {
            "eu": {"metrics": {"api-0": "http://127.0.0.1:7001/metrics?own", "graph": "http://127.0.0.1:7002/metrics"}}
        }
    }
    with pytest.raises(targets.StackAbsent, match="feedstorm up"):
        targets.write_configuration(tmp_path, tmp_path / "out")
    (tmp_path / "endpoints.json").write_text(json.dumps(endpoints))
    written = targets.write_configuration(tmp_path, tmp_path / "out")
    check(promtool, "check", "config", written)
    api, graph = json.loads((tmp_path / "out" / "targets.json").read_text())
    assert api["targets"] == ["127.0.0.1:7001"]
    assert api["labels"]["__param_own"] == ""
    assert (graph["labels"]["region"], graph["labels"]["part"]) == ("eu", "graph")
