"""junit.xml: one test case a check, so that a CI shows each by name, with its evidence as the failure's text.

fail is <failure>, inconclusive is <error type="inconclusive">, what the target cannot do is <skipped>. Inconclusive is
an error, not skipped: CI systems pass a job with skipped cases, and a check that could not be decided must not pass.
All cases have the time 0: a check is a statement on the whole run, whose length is the suite's.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from harness.core.verdict import Check, Outcome
from harness.report.run_data import RunData
from harness.report.wording import against_text

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(data: RunData) -> bytes:
    """The file of one run."""
    return document(data.verdict.scenario, [suite_of(data)])


def document(name: str, suites: Sequence[ET.Element]) -> bytes:
    """A file with these suites, and their sums."""

    def total(key: str) -> str:
        return str(sum(int(suite.get(key, "0")) for suite in suites))

    counts = {key: total(key) for key in ("tests", "failures", "errors", "skipped")}
    time_s = sum(float(suite.get("time", "0")) for suite in suites)
    root = ET.Element("testsuites", {"name": _clean(name), **counts, "time": f"{time_s:.3f}"})
    root.extend(suites)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def suite_of(data: RunData) -> ET.Element:
    """The suite of a run: a case a check."""
    cases = [_case(data.verdict.scenario, check) for check in data.verdict.checks]
    suite = _suite(data.verdict.scenario, cases, data.length_s)
    if data.manifest.started:
        suite.set("timestamp", _clean(data.manifest.started))
    properties = ET.Element("properties")
    for name, value in _facts(data).items():
        ET.SubElement(properties, "property", name=name, value=_clean(value))
    suite.insert(0, properties)
    return suite


def suite_of_one(name: str, case: str, outcome: Outcome | None, kind: str, said: str, time_s: float) -> ET.Element:
    """A suite with a single case, which is `said` to have come out so; None: it could not be decided at all."""
    element = ET.Element("testcase", classname=_clean(name), name=_clean(case), time="0")
    if outcome is not Outcome.PASS:
        tag = "failure" if outcome is Outcome.FAIL else "error"
        ET.SubElement(element, tag, type=kind, message=_clean(said)).text = _clean(said)
    return _suite(name, [element], time_s)


def _suite(name: str, cases: Sequence[ET.Element], time_s: float) -> ET.Element:
    def count(tag: str) -> str:
        return str(sum(case.find(tag) is not None for case in cases))

    suite = ET.Element(
        "testsuite",
        name=_clean(name),
        tests=str(len(cases)),
        failures=count("failure"),
        errors=count("error"),
        skipped=count("skipped"),
        time=f"{time_s:.3f}",
    )
    suite.extend(cases)
    return suite


def _facts(data: RunData) -> dict[str, str]:
    """What the run was made with, as far as it is known."""
    made = data.manifest
    facts = {
        "verdict": str(data.verdict.verdict),
        "seed": str(data.verdict.seed),
        "target": made.target,
        "machine": made.machine_text,
        "kernel": str(made.machine.get("kernel", "")),
        "commit": made.commit,
        "command": made.command,
        "defects": ", ".join(made.defects),
        "run": data.name,
    }
    return {name: value for name, value in facts.items() if value}


def _case(scenario: str, check: Check) -> ET.Element:
    where = f"{scenario}.{check.kind}" + (f".{check.phase}" if check.phase else "")
    case = ET.Element("testcase", classname=_clean(where), name=_clean(check.name), time="0")
    if check.skipped:
        ET.SubElement(case, "skipped", message=_clean(check.reason))
    elif check.verdict == Outcome.FAIL:
        _add_result(case, "failure", str(check.kind), check)
    elif check.verdict == Outcome.INCONCLUSIVE:
        _add_result(case, "error", "inconclusive", check)
    return case


def _add_result(case: ET.Element, tag: str, kind: str, check: Check) -> None:
    message = "; ".join(word for word in (check.reason, against_text(check)) if word) or str(check.verdict)
    result = ET.SubElement(case, tag, type=kind, message=_clean(message))
    result.text = _clean("\n".join(check.evidence) or message)


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
