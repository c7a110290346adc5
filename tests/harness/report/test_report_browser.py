"""The pages in a real browser: no error, no request, readable verdict, a read-out under the pointer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sample_run import EVIL

from harness.record.run_directory import RunDirectory

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Reported = Callable[..., RunDirectory]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a report; at the end nothing may have complained, asked the network, or opened a dialogue."""
    complaints: list[str] = []
    pages: list[Page] = []

    def open_report(report: Path, width: int = 1280) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialogue: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(r.url))
        page.goto(report.as_uri())
        return page

    yield open_report
    for page in pages:
        page.close()
    assert complaints == []


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_verdict_can_be_read(reported: Reported, open_page: Callable[..., Page], verdict: str) -> None:
    page = open_page(reported(verdict).report)
    assert page.inner_text("#verdict") == verdict.capitalize()
    assert page.title() == f"{verdict.upper()} · celebrity-cache-kill · feedstorm"
    assert "celebrity-cache-kill" in page.inner_text(".headline")


def test_hostile_text_does_nothing(reported: Reported, open_page: Callable[..., Page]) -> None:
    page = open_page(reported("fail", EVIL).report)
    assert EVIL in page.inner_text(".headline")
    assert page.locator("img").count() == 0


def test_pointer_reads_out_a_second(reported: Reported, open_page: Callable[..., Page]) -> None:
    page = open_page(reported().report)
    chart = page.locator("svg.time-chart").nth(1)
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 100)
    readout = page.locator("#readout")
    assert readout.is_visible()
    assert "p95" in readout.inner_text()
    page.mouse.move(box["x"] + 1, box["y"] + 100)
    assert not readout.is_visible()


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_page_never_scrolls_sideways(reported: Reported, open_page: Callable[..., Page], width: int) -> None:
    page = open_page(reported().report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_shows_all_of_a_check(reported: Reported, open_page: Callable[..., Page]) -> None:
    cells = open_page(reported().report, 390).locator(".checks tr:not(.group) td:not(:empty)")
    ends = cells.evaluate_all("cells => cells.map(cell => cell.getBoundingClientRect().right)")
    assert len(ends) > 100
    assert max(ends) <= 390


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_a_suite_leads_to_the_reports_of_its_runs(suite_page: Path, open_page: Callable[..., Page], width: int) -> None:
    page = open_page(suite_page, width)
    assert page.title() == "INCONCLUSIVE · suite · feedstorm"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("link", name="mine & theirs").click()
    assert page.inner_text("#verdict") == "Fail"


def test_a_phone_shows_all_of_a_suite(suite_page: Path, open_page: Callable[..., Page]) -> None:
    cells = open_page(suite_page, 390).locator(".checks tr:not(.group) td:not(:empty)")
    ends = cells.evaluate_all("cells => cells.map(cell => cell.getBoundingClientRect().right)")
    assert len(ends) == 17  # four a run, and what is planted in one of the four
    assert max(ends) <= 390
    assert EVIL in cells.all_inner_texts()[-3]
