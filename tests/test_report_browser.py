"""The page of `ganrun report` in a real browser: it draws, asks no network for anything, and fits a phone."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from reported import METRIC, copied, summarised, trained

from ganrun.cli.report import main as report

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium, such as Debian's package of that name")

LONG = "tricks=[" + ",".join(["gp", "ema", "diffaugment"] * 8) + "]"
HOSTILE = '"><img src=http://127.0.0.1:9/x onerror=alert(1)><script>alert(2)</script>'
CONTRAST = """() => {
  const channel = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(channel); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const back = (node) => { for (; node; node = node.parentElement) { const c = getComputedStyle(node).backgroundColor;
    if (!/, 0\\)$|transparent/.test(c)) return c; } return "rgb(255, 255, 255)"; };
  return [...document.querySelectorAll("p, td, th, a, summary, button, figcaption, h1, h2, h3, select, code")].filter((n) => n.textContent.trim())
    .map((n) => { const [a, b] = [light(getComputedStyle(n).color), light(back(n))].sort((x, y) => y - x); return [(a + 0.05) / (b + 0.05), n.tagName, n.className]; })
    .sort((x, y) => x[0] - y[0])[0];
}"""  # noqa: E501


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of five configurations; one name is long, one made to do harm, one run unfinished."""
    place = tmp_path_factory.mktemp("browser")
    original = trained(place / "original")
    for number, (batch, seed, quality) in enumerate([(16, 0, 5.0), (16, 1, 7.0), (32, 0, 1.0), (32, 1, 2.0)]):
        copied(original, place / "sweep" / str(number), quality=quality, batch=batch, seed=seed)
    copied(original, place / "sweep" / "4", quality=9.0, typed=[LONG], batch=64)
    copied(original, place / "sweep" / "5", quality=8.0, typed=[HOSTILE], name=HOSTILE)
    summarised(place / "sweep" / "5", diagnostics=[{"rule": "C1", "level": "W", "sentence": HOSTILE + "x" * 500}])
    (copied(original, place / "sweep" / "6", batch=128) / "summary.json").unlink()
    before = os.getcwd()
    os.chdir(place)
    try:
        assert report(["sweep"]) == 0
    finally:
        os.chdir(before)
    return (place / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


class Seen:
    """A page that was opened, with everything that it complained of and asked for."""

    def __init__(self, browser: Any, address: str, width: int = 1280, scheme: str = "light"):
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message) or dialog.dismiss())
        self.page.on("request", lambda request: self.requests.append(request.url.partition(",")[0]))
        self.page.goto(address)
        self.page.wait_for_selector("#chart path")

    def curves(self) -> list[str]:
        """The shapes of the curves that are drawn."""
        return self.page.eval_on_selector_all("#chart path", "all => all.map(one => one.getAttribute('d'))")


@pytest.fixture
def opened(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Seen]:
    seen = Seen(browser, address, **getattr(request, "param", {}))
    yield seen
    seen.context.close()
    assert seen.complaints == []
    assert {url for url in seen.requests if not url.startswith("data:")} == {address}


def test_the_ranking_is_in_order(opened: Seen) -> None:
    rows = opened.page.eval_on_selector_all(
        "#ranking tbody tr", "rows => rows.map(row => [...row.cells].slice(0, 3).map(cell => cell.innerText.trim()))"
    )
    assert [(row[0], row[2]) for row in rows[:4]] == [("1", "1.5 ± 6.4"), ("2", "6 ± 13"), ("3", "8"), ("4", "9")]
    assert rows[0][1] == "batch=32" and HOSTILE in rows[2][1] and rows[4][0] == "\N{EN DASH}"


def test_the_selector_changes_the_curves(opened: Seen) -> None:
    page = opened.page
    assert page.eval_on_selector("#metric", "s => s.selectedOptions[0].text") == METRIC
    before = opened.curves()
    assert len(before) == 6  # of the seven runs one measured no quality
    assert all(path.count("L") == 3 for path in before)
    points = [[float(n) for n in one.split()] for one in before[0].lstrip("M").split("L")]  # 4, 3, 2, 1 at steps 1 to 4
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = points
    wide = page.eval_on_selector("#chart", "chart => chart.clientWidth")
    assert (x0, x3) == (64, wide - 16) and x1 - x0 == pytest.approx(x3 - x2, abs=0.2)
    assert 0 < y1 - y0 == pytest.approx(y3 - y2, abs=0.2)
    page.select_option("#metric", label="loss/generator/total")
    after = opened.curves()
    assert len(after) == 7 and not set(after) & set(before)
    assert "loss/generator/total" in page.inner_text("#chart")
    page.check("#log")
    assert set(opened.curves()) != set(after)


def test_the_legend_hides_and_shows_by_keyboard(opened: Seen) -> None:
    page = opened.page
    page.focus("#legend button >> nth=0")
    page.keyboard.press("Enter")
    assert len(opened.curves()) == 4 and page.get_attribute("#legend button >> nth=0", "aria-pressed") == "false"
    page.keyboard.press("Space")
    assert len(opened.curves()) == 6
    assert page.evaluate("[...document.querySelectorAll('#chart .lit')].length") == 2  # those of the row in focus


def test_the_table_of_values_says_what_is_drawn(opened: Seen) -> None:
    opened.page.click("#curves summary")
    rows = opened.page.eval_on_selector_all(
        "#values tr", "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )
    assert rows[0] == ["batch=32", "0", "1", "1", "4", "4", "1"]
    assert rows[1] == ["batch=32", "1", "2", "2", "4", "5", "1"]


@pytest.mark.parametrize("opened", [{"width": 380}, {"width": 1280}, {"width": 320}], indirect=True)
def test_nothing_is_wider_than_the_screen(opened: Seen) -> None:
    page = opened.page
    for summary in page.query_selector_all("summary"):
        summary.click()
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    over = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(n => !n.closest('.scroll, svg, .hidden, select') && "
        "n.getBoundingClientRect().right > innerWidth + 1).map(n => n.tagName + '.' + n.className)"
    )
    assert over == []
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


@pytest.mark.parametrize("opened", [{"scheme": "light"}, {"scheme": "dark"}], indirect=True, ids=["light", "dark"])
def test_texts_stand_out_in_both_schemes(opened: Seen, request: pytest.FixtureRequest) -> None:
    least, *where = opened.page.evaluate(CONTRAST)
    assert least >= 4.5, where  # WCAG 2.2, AA
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(20, 22, 26)") == ("dark" in request.node.name)


def test_everything_that_acts_is_reached_by_tab_and_has_a_name(opened: Seen) -> None:
    page, names = opened.page, []
    for _ in range(80):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(() => { const n = document.activeElement; return n === document.body ? null : "
            "[n.tagName, n.getAttribute('aria-label') || n.innerText || n.labels?.[0].innerText || '']; })()"
        )
        if found is None:
            break
        names.append(found)
    assert {tag for tag, _ in names} == {"A", "DIV", "SELECT", "INPUT", "BUTTON", "SUMMARY"}
    assert all(name.strip() for _, name in names)
    assert [tag for tag, _ in names].count("BUTTON") == 5
