"""junit.xml is XML whatever the text, and says of each check what a CI needs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from harness.record.run_directory import RunDirectory

Reported = Callable[..., RunDirectory]


def suite_of(run: RunDirectory) -> ET.Element:
    suite = ET.fromstring(run.junit.read_bytes()).find("testsuite")
    assert suite is not None
    return suite


def cases(suite: ET.Element) -> dict[tuple[str, str], ET.Element]:
    return {(case.get("classname", ""), case.get("name", "")): case for case in suite.iter("testcase")}


def test_one_case_a_check(reported: Reported) -> None:
    suite = suite_of(reported())
    assert {k: suite.get(k) for k in ("name", "tests", "failures", "errors", "skipped", "time")} == {
        "name": "celebrity-cache-kill",
        "tests": "34",
        "failures": "2",
        "errors": "1",
        "skipped": "1",
        "time": "60.000",
    }
    assert len(cases(suite)) == 34


def test_failure_holds_the_evidence(reported: Reported) -> None:
    found = cases(suite_of(reported()))
    failure = found["celebrity-cache-kill.invariant", "durability"].find("failure")
    assert failure is not None
    assert failure.get("message") == "3 violations against 0 violations"
    assert failure.get("type") == "invariant"
    assert "missing from the final walk of user 93" in (failure.text or "")
    assert len((failure.text or "").splitlines()) == 3


def test_classname_has_kind_and_phase(reported: Reported) -> None:
    found = cases(suite_of(reported("pass")))
    assert ("celebrity-cache-kill.slo.cache-down", "feed_read p(99) <= 200ms") in found
    assert all(case.find("failure") is None and case.find("error") is None for case in found.values())


def test_inconclusive_is_an_error_of_that_type(reported: Reported) -> None:
    error = cases(suite_of(reported("inconclusive")))["celebrity-cache-kill.generator", "late arrivals"].find("error")
    assert error is not None
    assert error.get("type") == "inconclusive"
    assert "saturated" in error.get("message", "")


def test_skipped_says_why(reported: Reported) -> None:
    skipped = cases(suite_of(reported()))["celebrity-cache-kill.invariant", "cursor integrity"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "skipped: target lacks signed cursors"


def test_any_text_makes_valid_xml(reported: Reported) -> None:
    suite = suite_of(reported("fail", "]]></failure>&<\x00\x1b[31m\ufffe\"'"))
    text = "".join(failure.text or "" for failure in suite.iter("failure"))
    assert "]]></failure>&<\ufffd\ufffd[31m\ufffd\"'" in text


def test_properties_say_with_what_the_run_was_made(reported: Reported) -> None:
    found = {p.get("name"): p.get("value") for p in suite_of(reported()).iter("property")}
    assert found["seed"] == "42"
    assert found["machine"] == "2 cores, 24.0 GiB, AMD EPYC 7763"
    assert found["commit"] == "d5ac901be7 with local changes"
    assert found["defects"] == "lose-after-ack"
    assert found["command"] == "feedstorm run celebrity-cache-kill"
    assert "defects" not in {p.get("name") for p in suite_of(reported("pass")).iter("property")}


# What the CI systems' schemas agree on (Jenkins' junit-10.xsd, GitLab, Azure): element -> required and optional
# attributes, and children in their order.
WHOLE, NUMBER, ANY = r"\d+", r"\d+(\.\d+)?", r"(?s).*"
COUNTS = {"tests": WHOLE, "failures": WHOLE, "errors": WHOLE, "skipped": WHOLE, "time": NUMBER, "name": r"(?s).+"}
SCHEMA: dict[str, tuple[dict[str, str], dict[str, str], list[str]]] = {
    "testsuites": (COUNTS, {}, ["testsuite"]),
    "testsuite": (COUNTS, {"timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\+00:00)?"}, ["properties", "testcase"]),
    "properties": ({}, {}, ["property"]),
    "property": ({"name": r".+", "value": ANY}, {}, []),
    "testcase": (
        {"name": r"(?s).+", "classname": r"(?s).+", "time": NUMBER},
        {},
        ["skipped", "error", "failure"],
    ),
    "skipped": ({"message": ANY}, {}, []),
    "error": ({"message": r"(?s).+", "type": "inconclusive"}, {}, []),
    "failure": ({"message": r"(?s).+", "type": r"slo|invariant|recovery|witness|generator|stop|baseline"}, {}, []),
}


def problems_of(element: ET.Element) -> list[str]:
    """Why an element and those within it are not as SCHEMA says."""
    required, optional, children = SCHEMA[element.tag]
    problems = [f"{element.tag} lacks {name}" for name in required if name not in element.attrib]
    for name, value in element.attrib.items():
        pattern = {**required, **optional}.get(name)
        if pattern is None or not re.fullmatch(pattern, value):
            problems.append(f"{element.tag}.{name} is {value!r}")
    places = [children.index(child.tag) if child.tag in children else -1 for child in element]
    if -1 in places or places != sorted(places):
        problems.append(f"{element.tag} holds {[child.tag for child in element]}")
    return problems + [problem for child in element for problem in problems_of(child)]


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
@pytest.mark.parametrize("evil", ["", "]]></failure>&<\x00\x1b[31m\"'"])
def test_the_file_is_as_schemas_want_it(reported: Reported, verdict: str, evil: str) -> None:
    root = ET.fromstring(reported(verdict, evil).junit.read_bytes())
    assert problems_of(root) == []
    suite = root[0]
    assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.get(count, "")) == len(suite.findall(f"testcase/{tag}")) == int(root.get(count, ""))
    names = [(case.get("classname"), case.get("name")) for case in suite.findall("testcase")]
    assert len(set(names)) == len(names)


def test_the_schema_notices_what_is_wrong() -> None:
    broken = ET.fromstring('<testsuites name="x" tests="one"><testcase/><testsuite/></testsuites>')
    found = problems_of(broken)
    assert "testsuites.tests is 'one'" in found
    assert "testsuites holds ['testcase', 'testsuite']" in found
    assert "testcase lacks classname" in found


def test_a_failure_says_what_the_machine_alone_took(reported: Reported) -> None:
    messages = [failure.get("message", "") for failure in suite_of(reported()).iter("failure")]
    assert any(text.endswith("1,204 ms (machine alone: 88 ms) against 500 ms") for text in messages), messages
