"""The report in a browser: it opens from disk, sorts, filters, lists and plays, at any width."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from evaluate.report import write as report
from evaluate.runs.predictions import KEY
from evaluate.scores import score, side_by_side
from evaluate.scores.pairs import make_statistics
from features.common.folders import Folders
from features.utterances import Table, write_table
from tests.evaluate import made
from tests.models.synthetic import rows

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
WIDTHS = (1280, 400)
N = 300
NINE = (
    *("Anger", "Boredom", "Calmness", "Concentration", "Determination"),
    *("Excitement", "Interest", "Sadness", "Tiredness"),
)
A4 = 717
"""Width in CSS pixels between the margins that Chromium prints with."""
LONG = "a-name-without-a-blank-that-is-longer-than-a-telephone-is-wide-" * 2


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Headless Chromium that keeps what its pages say on the console."""
    if CHROMIUM is None or DRIVER is None:
        missing = "chromium" if CHROMIUM is None else "chromedriver"
        pytest.skip(f"{missing} is not on the path: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing (extra dev)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for one in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{one}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a sweep of layers and of fusions, with names that mean harm, and recordings."""
    top = tmp_path_factory.mktemp("browser")
    made_runs, root = top / "runs", top / "data" / "mine"
    recipe = made.recipe(top, "classification")
    head = recipe.head.model_copy(update={"layer": ["last", 0, 10, 9, "mean"]})
    recipe = recipe.model_copy(update={"head": head})
    for i, member in enumerate(("one", "one@0", "one@10", "one@9", "one@mean", "two", "mean")):
        title = {"two": LONG, "mean": made.UNLUCKY}.get(member, member)
        frame = made.classification(N, right=0.4 + 0.05 * i)
        frame.loc[frame["pred"] == "sadness", "pred"] = "anger"  # a class without a single hit
        chosen = {"": [made.choice(i / 10)]}
        record = {"title": title, "notes": [made.UNLUCKY], "chosen": chosen}
        made.finish(recipe, made_runs, member, frame, record)
    table = rows(N, "mine").assign(utterance=[f"u{i:03}" for i in range(N)])
    table["path"] = [f"{made.UNLUCKY.replace('/', '|')} #{i}.wav" for i in range(N)]
    table["emotion"] = [made.LABELS[i % 3] for i in range(N)]
    root.mkdir(parents=True)
    for path in table["path"][: N - 1]:
        sf.write(root / path, np.zeros(800), 16_000)
    about = {"title": made.UNLUCKY, "licence": "", "citation": ""}
    write_table(top / "stores" / "mine", Table(table, {"emotion": made.LABELS}, (), [], about))
    scored = score.score_all(recipe, Folders(stores=top / "stores", runs=made_runs))
    make_statistics(recipe, scored, made_runs)
    return report.make_report(
        recipe, Folders(stores=top / "stores", runs=made_runs, data=top / "data")
    )[0].parent


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on two folders of runs with long names and labels that mean harm."""
    top = tmp_path_factory.mktemp("compared")
    recipe = made.recipe(top, "classification", "[evaluate]\nbootstrap = 100\n")
    sides = [recipe.model_copy(update={"name": f"{LONG}{one}"}) for one in "ab"]
    for i, side in enumerate(sides):
        for j, member in enumerate(("one", LONG, "mean")):
            frame = made.classification(N, right=0.4 + 0.1 * i + 0.1 * i * j)
            made.finish(side, top, member, frame)
        score.score_all(side, Folders(runs=top))
    found = side_by_side.compare(*(top / side.name for side in sides))
    return report.make_comparison(found)


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on nine targets with names as long as those of Hume-Prosody."""
    top = tmp_path_factory.mktemp("nine")
    recipe = made.recipe(top).model_copy(update={"targets": NINE})
    for i, member in enumerate(("one", "two", "mean")):
        frame = made.regression(noise=0.2 + 0.1 * i, partitions=("test",))
        for j, target in enumerate(NINE):
            own = made.TARGETS[j % len(made.TARGETS)]
            for side in ("true", "pred"):
                frame[f"{target}_{side}"] = frame[f"{own}_{side}"]
        columns = [f"{target}_{side}" for target in NINE for side in ("true", "pred")]
        title = "a large model + a set of features + another one" if member == "two" else member
        made.finish(recipe, top / "runs", member, frame[[*KEY, *columns]], {"title": title})
    make_statistics(recipe, score.score_all(recipe, Folders(runs=top / "runs")), top / "runs")
    return report.make_report(
        recipe, Folders(stores=top / "stores", runs=top / "runs", data=top / "data")
    )[0].parent


@pytest.fixture
def page(browser, folder: Path):
    """Open a page at a width; at the end nothing may have been said on the console.

    A page is named by its file below `folder`, or by its whole path.
    """

    def show(
        name: str | Path, width: int = 1280, colours: str = "light", media: str = "screen"
    ) -> object:
        send = browser.execute_cdp_cmd
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        send("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": colours}
        send("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
        browser.get((folder / name).as_uri())
        return browser

    browser.get_log("browser")
    yield show
    assert browser.get_log("browser") == []


def find(browser, selector: str) -> list:
    return browser.find_elements("css selector", selector)


def texts(browser, selector: str) -> list[str]:
    return [one.text for one in find(browser, selector)]


def column(browser, table: str, place: int) -> list[str]:
    """What a column shows, row by row, without the notes."""
    cells = find(browser, f"{table} tbody tr > :nth-child({place + 1})")
    return [one.text.split("\n")[0].split(" ")[0] for one in cells if one.is_displayed()]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_overflows_or_cuts_a_text(page, folder: Path, compared: Path, width: int) -> None:
    names = sorted(folder.glob("*.html"))
    assert len(names) == 13
    for name in (*names, compared):
        browser = page(name, width)
        browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, name
        # An element that hides what does not fit has to scroll, or be for screen readers alone.
        cut = browser.execute_script(
            """return [...document.querySelectorAll('body *')].filter(e =>
                 e.scrollWidth > e.clientWidth + 1 && e.clientWidth
                 && getComputedStyle(e).overflowX !== 'auto'
                 && getComputedStyle(e).overflowX !== 'visible'
                 && !e.classList.contains('unseen') && e.localName !== 'input')
               .map(e => e.outerHTML.slice(0, 200))"""
        )
        assert cut == [], name


def test_a_table_of_nine_targets_fits(page, nine: Path) -> None:
    browser = page(nine / "index.html")
    (region,) = find(browser, ".scroll[aria-label='Every target of every run']")
    assert region.get_property("scrollWidth") <= region.get_property("clientWidth")
    assert len(region.find_elements("css selector", "thead th")) == 1 + len(NINE)


def test_names_of_rows_stay_in_sight(page, folder: Path) -> None:
    browser = page("comparisons.html", 400)
    region = find(browser, ".scroll")[0]
    first = region.find_element("css selector", "tbody th")
    assert browser.execute_script(
        "arguments[0].scrollLeft = 1e4; return arguments[0].scrollLeft", region
    )
    assert first.rect["x"] == pytest.approx(region.rect["x"], abs=1)
    assert first.value_of_css_property("font-weight") == "400"  # bold print is for the best


def test_no_table_is_wider_than_a_printed_page(
    page, folder: Path, compared: Path, nine: Path
) -> None:
    for name in (*folder.glob("*.html"), *nine.glob("*.html"), compared):
        browser = page(name, A4, media="print")
        wide = browser.execute_script(
            """document.querySelectorAll('details').forEach(d => d.open = true);
               const end = document.querySelector('main').getBoundingClientRect().right;
               return [...document.querySelectorAll('table, caption')].filter(e =>
                 e.getBoundingClientRect().right > end + 1).map(e => e.textContent)"""
        )
        assert wide == [], name
        assert browser.execute_script("return document.documentElement.scrollWidth") <= A4, name


def test_no_label_becomes_an_element(page, folder: Path, compared: Path) -> None:
    for path in (*folder.glob("*.html"), compared):
        browser = page(path)
        inline = browser.execute_script(
            "return [...document.scripts].filter(s => !s.src && s.type !== 'application/json')"
            ".length"
        )
        assert inline == 0, path.name
        if path.name != "provenance.html" and path != compared:
            continue
        assert made.UNLUCKY in browser.page_source.replace("&lt;", "<").replace("&gt;", ">")


def test_pictures_are_there_and_follow_the_page(page) -> None:
    inks = []
    for scheme in ("light", "dark"):
        browser = page("index.html", colours=scheme)
        (picture,) = find(browser, "figure svg")
        assert picture.size["width"] > 300
        assert picture.size["height"] > 100
        inks.append(
            browser.execute_script("return getComputedStyle(document.querySelector('svg')).color")
        )
    assert len(set(inks)) == 2
    assert len(find(page("layers.html"), "figure svg")) == 1


def test_a_click_on_a_column_sorts_by_its_numbers(page) -> None:
    browser = page("index.html")
    button = find(browser, "table.sorts thead button")[1]
    models = 6
    for order in ("ascending", "descending"):
        button.click()
        values = [float(one) for one in column(browser, "table.sorts", 1)]
        assert values[:models] == sorted(values[:models], reverse=order == "descending")
        header = button.find_element("xpath", "..")
        assert header.get_attribute("aria-sort") == order
    find(browser, "table.sorts thead button")[0].click()
    assert header.get_attribute("aria-sort") is None
    assert column(browser, "table.sorts", 0)[1:3] == ["one", "one@0"]


def test_two_folders_of_runs_sort_by_their_difference(page, compared: Path) -> None:
    browser = page(compared)
    assert len(find(browser, "figure svg")) == 1
    table = "[aria-label^='Recall of every class'] table"
    (button,) = (one for one in find(browser, f"{table} button") if one.text.startswith("A minus"))
    before = column(browser, table, 4)
    button.click()
    values = [float(one) for one in column(browser, table, 4)]
    assert values == sorted(map(float, before))
    assert len(values) == 2 * len(made.LABELS)


def test_layers_sort_as_numbers_above_the_rule_and_below_it(page) -> None:
    browser = page("layers.html")
    button = find(browser, "table.sorts thead button")[0]
    button.click()
    assert column(browser, "table.sorts", 0) == ["0", "9", "10", "last", "mean"]
    button.click()
    assert column(browser, "table.sorts", 0) == ["10", "9", "0", "mean", "last"]


def test_what_has_no_number_stands_last_whichever_way(page) -> None:
    browser = page("model-one.html")
    table = "[aria-label^='Scores per class'] table"
    (button,) = (one for one in find(browser, f"{table} button") if one.text.startswith("prec"))
    for reverse in (False, True):
        button.click()
        *values, last = column(browser, table, 1)
        assert last == "undefined"
        assert values == sorted(values, reverse=reverse)
        assert len(values) == 2


def test_a_filter_leaves_the_rows_with_its_words(page) -> None:
    browser = page("index.html")
    field = find(browser, ".filter input")[0]
    field.send_keys("ONE@1")
    assert column(browser, "table.sorts", 0) == ["one@10"]
    assert texts(browser, ".filter [role=status]")[0] == "1 of 7"
    field.clear()
    field.send_keys(" ")
    assert len(column(browser, "table.sorts", 0)) == 7


def test_a_cell_of_the_confusion_matrix_lists_its_utterances(page, folder: Path) -> None:
    browser = page("model-one.html")
    frame = made.classification(N, right=0.4)
    frame.loc[frame["pred"] == "sadness", "pred"] = "anger"
    members = frame[(frame["true"] == made.UNLUCKY) & (frame["pred"] == "anger")]["utterance"]
    assert len(members) > 25
    (button,) = [
        one
        for one in find(browser, ".confusion td button")
        if one.get_attribute("aria-label")
        == f"{len(members)} of {made.UNLUCKY}, predicted anger: list them"
    ]
    assert button.text.split("\n")[0] == str(len(members))
    button.click()
    title = f"{len(members)} of {made.UNLUCKY}, predicted anger"
    assert texts(browser, ".heard h3") == [title]
    assert browser.switch_to.active_element.text == title  # where a screen reader goes on
    assert texts(browser, ".utterances li > span") == list(members[:25])
    more = find(browser, ".heard > button")[0]
    assert more.text == f"Show more ({len(members) - 25} left)"
    while more.is_displayed():
        more.click()
    assert [one.split("\n")[0] for one in texts(browser, ".utterances li")] == list(members)
    assert len(find(browser, ".utterances audio")) == len(members) - ("u299" in set(members))


def test_recordings_play_from_the_disk(page) -> None:
    browser = page("model-one.html")
    find(browser, ".confusion td button")[0].click()
    browser.set_script_timeout(20)
    duration = browser.execute_async_script(
        """const [done] = arguments, audio = document.querySelector('.utterances audio');
           audio.addEventListener('loadedmetadata', () => done(audio.duration));
           audio.addEventListener('error', () => done(String(audio.error.message)));
           audio.load();"""
    )
    assert duration == pytest.approx(0.05)


def test_everything_can_be_reached_by_the_keyboard(page) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = page("model-one.html")
    wanted = browser.execute_script(
        "return document.querySelectorAll('main button, main input, main a, main audio').length"
    )
    reached = set()
    body = browser.find_element("css selector", "body")
    body.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"
    for _ in range(20 * wanted):
        active = browser.switch_to.active_element
        if active.tag_name == "body":
            break
        if browser.execute_script("return !!arguments[0].closest('main')", active):
            reached.add(active.id)
        if browser.execute_script("return arguments[0].matches('.confusion td button')", active):
            last = active
        active.send_keys(Keys.TAB)
    controls = find(browser, "main button, main input, main a, main audio")
    assert {one.id for one in controls} <= reached
    last.send_keys(Keys.ENTER)
    assert len(find(browser, ".heard h3")) == 1


def test_all_is_there_without_scripts(page, browser) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page("model-one.html")
        assert find(browser, "button, input") == []  # nothing that would do nothing
        assert len(find(browser, ".confusion tbody tr")) == len(made.LABELS)
        assert len(find(browser, "table audio")) > 10
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_page_prints_with_its_details(page, browser) -> None:
    page("provenance.html")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {})["data"]
    shut = browser.execute_script("return document.querySelectorAll('details:not([open])').length")
    assert len(printed) > 10_000
    assert shut == 0
