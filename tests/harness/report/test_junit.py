"""junit.xml is XML whatever the text, and says of each check what a CI needs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

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
