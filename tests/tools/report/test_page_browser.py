"""The HTML report in headless Chromium: it renders, filters, and stays responsive."""

from pathlib import Path

import msgspec
import pytest

from tests.tools.report.test_page import with_device_row
from tests.tools.report.verdicts import ADDED, DROPPED, verdict
from tools.report.html.page import PageContent, render_page
from traces.schema.model import EventAwaited, EventRecorded, Recording, Transfer

EVENTS = 100_000


def many_events():
    for number in range(EVENTS // 4):
        stream = ("write", "load")[number % 2]
        yield Transfer(
            step=f"step{number // 5000}",
            direction=("backup", "load")[number % 2],
            pool="KV",
            device_pool="KV",
            plane="kv",
            layer=number % 61,
            device_slots="0-63",
            host_slots="64-127",
            rows=64,
            row_bytes=656,
            bytes=64 * 656,
            backend="kernel",
            stream=stream,
        )
        step = f"step{number // 5000}"
        yield EventRecorded(step=step, name=f"e{number}", stream=stream, layer=None)
        yield EventAwaited(step=step, name=f"e{number}", stream="default")
        yield EventAwaited(step=step, name=f"e{number}", stream="host")


@pytest.fixture
def open_page(browser, tmp_path):
    """Open a page from its content; console errors and requests for other files fail the test."""
    wrong: list[str] = []

    def opened(content: PageContent, *, scheme: str = "light"):
        path = Path(tmp_path, "report.html")
        path.write_text(render_page(content), encoding="utf-8")
        page = browser.new_page(color_scheme=scheme)
        page.on("console", lambda one: wrong.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda one: wrong.append(one.url) if "report.html" not in one.url else None
        )
        page.goto(path.as_uri())
        return page

    yield opened
    assert wrong == []


def content(make_trace, events=()) -> PageContent:
    def side(width: int) -> dict[str, Recording]:
        trace = msgspec.structs.replace(make_trace("nsa_fp8", width=width), events=tuple(events))
        return {"nsa_fp8": Recording(trace=trace, sites=None)}

    return PageContent(verdict=verdict(DROPPED, ADDED), base=side(656), head=side(576))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_shows_verdict_causes_and_canvases(make_trace, open_page, scheme):
    page = open_page(content(make_trace), scheme=scheme)
    assert page.locator("h1").inner_text() == "FAIL native: worktree against golden"
    assert page.locator("article.cause:visible").count() == 2
    assert page.locator("#timelines canvas").count() == 2
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]


def test_filters_hide_causes_and_say_how_many_are_left(make_trace, open_page):
    page = open_page(content(make_trace))
    page.select_option("#filter-level", "interface")
    assert page.locator("article.cause:visible h3").all_inner_texts() == [
        "2. call_added build_kv_only_stack -> helper"
    ]
    assert page.inner_text("#filter-count") == "1 shown"
    page.select_option("#filter-level", "")
    page.fill("#filter-text", "override_kv")
    assert page.locator("article.cause:visible").count() == 1
    page.fill("#filter-text", "")
    assert page.inner_text("#filter-count") == "2 shown"


def test_events_are_reached_by_keyboard_and_as_a_table(make_trace, open_page):
    events = list(many_events())[:8]
    page = open_page(content(make_trace, events))
    page.locator("#timelines canvas").first.focus()
    page.keyboard.press("]")
    assert page.inner_text("#timeline-detail").startswith("base, golden, event 0, write: backup KV")
    page.keyboard.press("]")
    assert "event 1, write: record e0" in page.inner_text("#timeline-detail")
    page.click("#timeline-table summary")
    # The browser fills the table on the toggle event, which comes after the click.
    page.locator("#timeline-table tr").nth(15).wait_for()
    assert page.locator("#timeline-table tr").count() == 16


@pytest.mark.parametrize("width", [1280, 1000, 500])
def test_rows_that_differ_stay_within_their_figure(make_trace, open_page, width):
    base, head = (with_device_row(make_trace, device=656, host=host) for host in (656, 576))
    of = verdict(DROPPED)
    page = open_page(PageContent(verdict=of, base={"nsa_fp8": base}, head={"nsa_fp8": head}))
    page.set_viewport_size({"width": width, "height": 800})
    assert page.locator("figure .bad").first.inner_text() == "differs by -80 B"
    outside = """() => [...document.querySelectorAll("figure .bad")].filter((one) =>
        one.getBoundingClientRect().right > one.closest("figure").getBoundingClientRect().right)"""
    assert page.evaluate(f"({outside})().length") == 0


def accessibility_faults(page) -> list[str]:
    """Return the rules that axe finds broken in a page with everything unfolded."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    return [fault["id"] for fault in axe.Axe().run(page).response["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault(make_trace, open_page, scheme):
    page = open_page(content(make_trace, list(many_events())[:8]), scheme=scheme)
    assert accessibility_faults(page) == []


def test_axe_finds_a_field_without_a_name_and_text_without_contrast(make_trace, open_page):
    """Control."""
    page = open_page(content(make_trace))
    page.evaluate(
        "document.querySelector('label:has(#filter-kind)').replaceWith(...document.querySelectorAll('#filter-kind'))"
    )
    page.evaluate("document.querySelector('header p').style.color = '#ddd'")
    assert accessibility_faults(page) == ["color-contrast", "select-name"]


def test_everything_that_can_be_pressed_is_reached_by_tab(make_trace, open_page):
    page = open_page(content(make_trace, list(many_events())[:8]))
    wanted = page.locator("a, input, select, summary, canvas, [tabindex='0']").count()
    reached = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)")
        )
    assert len(reached) == wanted


def test_hundred_thousand_events_are_drawn_and_zoomed(make_trace, open_page):
    page = open_page(content(make_trace, many_events()))
    page.locator("#timelines canvas").first.focus()
    for key in ("+", "+", "+", "ArrowRight", "]", "Home"):
        page.keyboard.press(key)
    drawn = page.evaluate(
        """() => {
            const canvas = document.querySelector("#timelines canvas");
            const pen = canvas.getContext("2d");
            const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
            return data.some((value) => value !== 0);
        }"""
    )
    assert drawn
    assert "100000 events" in page.inner_text("#timelines h3 >> nth=0")
