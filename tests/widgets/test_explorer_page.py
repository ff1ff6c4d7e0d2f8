"""The explorer's real JavaScript in a browser: the visible content, pointer and keyboard."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("anywidget")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from qwen3_integrations import Embedder, FakeEngine
from qwen3_integrations.notebook import EmbeddingExplorer
from tests.widgets.hosts import violations, wrong_texts

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = "<script>alert(1)</script> & <img src=x onerror=alert(1)>"
CORNERS = np.array([[1, 0, 0, 0.2], [0, 1, 0, 0.1], [0, 0, 1, 0.3], [0.9, 0.1, 0, 0.4]], np.float32)
"""Two texts near each other and two apart."""

NAMES = ["red apple", "car", HOSTILE, "green apple"]


def traits_of(widget):
    """The state of a widget in the browser."""
    left_out = re.compile(r"_esm|_css|_dom_classes|_model_|_view_|_anywidget|layout|tabbable|tooltip|comm")
    return {name: getattr(widget, name) for name in widget.keys if not left_out.match(name)}


def state_of(widget):
    widget.wait(30)
    widget.close()
    return traits_of(widget) | {"busy": ""}


def clusters(count, width=48, seed=0):
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(1 + np.arange(width))
    group = rng.integers(0, 3, count)
    return (rng.standard_normal((3, width))[group] * scale + 0.5 * rng.standard_normal((count, width)) * scale).astype(np.float32), group


@pytest.fixture
def shown(bare):
    """(explorer's arguments) -> the mounted widget, with the state that Python computed."""

    def show(*arguments, page=None, over=None, **settings):
        return bare("explorer", state_of(EmbeddingExplorer(*arguments, **settings)) | (over or {}), **(page or {}))

    return show


@pytest.fixture
def small(shown):
    return lambda **settings: shown(vectors=CORNERS, texts=NAMES, **settings)


@pytest.fixture(scope="module")
def many():
    """The state of 10,000 texts."""
    vectors, group = clusters(10_000, 32)
    return state_of(EmbeddingExplorer(vectors=vectors, texts=[f"text {at} of {group[at]}" for at in range(10_000)], labels=group.tolist()))


class Bound:
    """A page and the Python widget behind it: actions in the page reach Python, and answers of Python reach the page."""

    def __init__(self, bare, widget):
        self.widget = widget
        self.page = bare("explorer", traits_of(widget) | {"busy": ""})
        self.read_count = 0

    def pump(self):
        saved = {name: value for name, value in self.page.saved.items() if getattr(self.widget, name) != value}
        if saved:
            self.widget.set_state(saved)
        for message in self.page.sent[self.read_count :]:
            self.widget._handle_custom_msg(message, [])
            self.read_count += 1
        self.widget.wait(30)
        self.page.state(**traits_of(self.widget) | {"busy": ""})


@pytest.fixture
def bound(bare):
    made = []

    def bind(*arguments, **settings):
        made.append(EmbeddingExplorer(*arguments, **settings))
        made[-1].wait(30)
        return Bound(bare, made[-1])

    yield bind
    for widget in made:
        widget.close()


def stage(view):
    return view.page.get_by_role("application", name=re.compile("^Map of"))


def heat(view):
    return view.page.get_by_role("application", name=re.compile("^Similarity of"))


def spots(view):
    """The positions of the points in the page, computed from the same numbers as in the map."""
    box = stage(view).bounding_box()
    known = [(index, point) for index, point in enumerate(view.get("_map")["points"]) if point]
    points = np.array([point for _, point in known])
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = box["width"] - 2, box["height"] - 2  # inside the border
    scale = min((width - 52) / max(high[0] - low[0], 1e-6), (height - 52) / max(high[1] - low[1], 1e-6))
    middle = (low + high) / 2
    placed = [width / 2, height / 2] + (points - middle) * scale * [1, -1]
    return {index: (box["x"] + 1 + x, box["y"] + 1 + y) for (index, _), (x, y) in zip(known, placed, strict=True)}


def lasso(view, *corners):
    mouse = view.page.mouse
    mouse.move(*corners[0])
    mouse.down()
    for corner in [*corners[1:], corners[0]]:
        mouse.move(*corner, steps=4)
    mouse.up()


def around(x, y, reach=20):
    return (x - reach, y - reach), (x + reach, y - reach), (x + reach, y + reach), (x - reach, y + reach)


def corners(view):
    """The corners of the map, for a lasso around everything that it shows, below its buttons."""
    box = stage(view).bounding_box()
    left, top, right, low = box["x"] + 3, box["y"] + 3, box["x"] + box["width"] - 3, box["y"] + box["height"] - 3
    return (left, top), (left, low), (right, low), (right, top)


def zoom_of(view):
    """The zoom that the map shows, in percent."""
    return int(view.page.get_by_role("button", name="Show the whole map").inner_text().removesuffix(" %").replace(",", ""))


def zoomed(place, centre, factor):
    """Positions after a zoom by a factor around a point of the page."""
    return {index: tuple(c + factor * (at - c) for at, c in zip(spot, centre, strict=True)) for index, spot in place.items()}


def painted(view, layer):
    """How many pixels of a canvas of the map are not transparent, and how many of these are grey."""
    return view.page.evaluate(
        """async (layer) => {
            for (let frame = 0; frame < 4; frame++) await new Promise(requestAnimationFrame); // a resize is drawn in a later one
            const canvas = document.querySelectorAll(".q3-stage canvas")[layer];
            const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            let [all, grey] = [0, 0];
            for (let at = 0; at < bytes.length; at += 4) if (bytes[at + 3] > 8) {
                all++;
                if (Math.max(bytes[at], bytes[at + 1], bytes[at + 2]) - Math.min(bytes[at], bytes[at + 1], bytes[at + 2]) < 40) grey++;
            }
            return { all, grey };
        }""",
        layer,
    )


# The whole.


def test_the_whole_reads_well_without_eyes(small):
    view = small(labels=["fruit", "thing", "text", "fruit"], focused=0, selection=[0], duplicates_above=0.9)
    expect(view.page.get_by_role("group", name="Embedding explorer")).to_match_aria_snapshot(
        """
- heading "Embeddings" [level=3]
- text: 4 texts · 4 dimensions
- searchbox "Search"
- tablist "Views":
  - tab "Map" [selected]
  - tab "Similarity"
  - tab "Dimensions"
  - tab "Health, 1 note"
- tabpanel "Map":
  - application "Map of 4 texts"
  - group "Zoom":
    - button "Zoom out" [disabled]: −
    - button "Show the whole map": 100 %
    - button "Zoom in": +
    - button "Move"
  - status
  - group "Groups":
    - button "fruit 2"
    - button "thing 1"
    - button "text 1"
  - text: 1 selected
  - button "Clear"
  - paragraph: Drag to select, with Shift to add. Arrows move, Enter selects, Esc clears. + and − zoom, Shift with arrows pans, 0 shows all.
  - status: "Text 1, selected: red apple, group fruit"
- complementary "Text in focus":
  - heading "Text 1 fruit" [level=4]
  - button "Unselect"
  - button "Close this text"
  - region "The text in focus": red apple
  - list "Nearest texts":
    - listitem:
      - 'button "Text 4: green apple; cosine 0.971"'
"""
    )
    assert view.page.get_by_role("textbox", name="Query").count() == 0  # nothing to embed one with


def test_tabs_are_walked_with_arrows(small):
    view = small()
    view.page.get_by_role("tab", name="Map").focus()
    for key, name in [("ArrowRight", "Similarity"), ("End", "Health"), ("ArrowRight", "Map"), ("ArrowLeft", "Health"), ("Home", "Map")]:
        view.page.keyboard.press(key)
        expect(view.page.get_by_role("tab", name=re.compile(f"^{name}"))).to_be_focused()
        expect(view.page.get_by_role("tabpanel", name=re.compile(f"^{name}"))).to_be_visible()
        assert view.page.get_by_role("tabpanel").count() == 1
    assert view.saved["view"] == "map"


def test_no_text_becomes_markup(small):
    view = small(focused=2, selection=[0, 2], labels=[HOSTILE, "a", HOSTILE, "b"], duplicates_above=0.1)
    expect(view.page.get_by_role("region", name="The text in focus")).to_have_text(HOSTILE)
    for name in ("Similarity", "Dimensions", "Health"):
        view.page.get_by_role("tab", name=re.compile(f"^{name}")).click()
    assert view.page.locator(".q3 script, .q3 img").count() == 0


def test_no_texts_say_so(bare):
    view = bare("explorer", state_of(EmbeddingExplorer(vectors=[], texts=[])))
    expect(view.page.get_by_role("group", name="Embedding explorer")).to_contain_text("There are no texts.")
    assert view.page.get_by_role("tab").count() == 0


def test_one_text_is_a_point_without_neighbours(shown):
    view = shown(vectors=[[1.0, 2.0]], texts=["alone"], focused=0)
    expect(stage(view)).to_be_visible()
    expect(view.page.get_by_role("complementary")).to_contain_text("There is no other text.")
    view.page.get_by_role("tab", name="Similarity").click()
    expect(heat(view)).to_have_attribute("aria-label", re.compile("^Similarity of 1 text:"))
    view.page.get_by_role("tab", name="Dimensions").click()
    expect(view.page.get_by_text("One text has no neighbours to lose.")).to_be_visible()


def test_work_is_shown_and_can_be_cancelled_and_continued(small):
    empty = {"_map": {}, "_heat": {}, "_recall": {}, "_health": {}, "ready": False}
    view = small(over=empty | {"busy": "Embedding: 256 of 300 texts"})
    expect(view.page.get_by_text("Embedding: 256 of 300 texts…")).to_be_visible()
    expect(view.page.get_by_text("Not available yet: it is being computed.").first).to_be_visible()
    expect(stage(view)).to_be_hidden()
    view.page.get_by_role("button", name="Cancel").click()
    view.state(busy="")
    expect(view.page.get_by_text("Stopped before this was computed.").first).to_be_visible()
    view.page.get_by_role("button", name="Go on").click()
    assert view.sent == [{"do": "state"}, {"do": "cancel"}, {"do": "go"}]  # once when it is made: a host may have lost what came before
    view.state(error="the server is gone")
    expect(view.page.get_by_role("alert")).to_have_text("the server is gone")
    expect(view.page.get_by_role("button", name="Try again")).to_be_visible()
    view.state(error="", ready=True)
    assert view.page.get_by_role("button", name=re.compile("Cancel|Go on|Try again")).count() == 0


@pytest.mark.parametrize("width", [1000, 600, 380])
@pytest.mark.parametrize("view", ["map", "similarity", "dimensions", "health"])
def test_nothing_overflows(shown, view, width):
    vectors, group = clusters(70)
    vectors[3] = vectors[4]
    texts = [f"{'Verylongwordwithoutanyblanks' * 4} {at}" for at in range(70)]
    page = shown(
        Embedder(FakeEngine("embed", dimensions=48)),
        texts,
        vectors=vectors,
        labels=[f"a rather long name of group {number}" for number in group],
        query="a question " * 20,
        focused=3,
        dimensions=32,
        selection=list(range(62)),
        view=view,
        page={"width": width},
    ).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        """() => {
            const edge = document.querySelector(".q3").getBoundingClientRect().right;
            return [...document.querySelectorAll(".q3 *")]
                .filter((one) => one.getBoundingClientRect().right > edge + 0.5 && !one.closest(".q3-hidden, .q3-line"))
                .map((one) => `${one.tagName} ${one.className}`);
        }"""
    )
    assert beyond == []


# The map.


def test_the_pointer_names_a_text_and_a_click_brings_it_into_focus(small):
    view = small(labels=["fruit", "thing", "text", "fruit"])
    place = spots(view)
    tip = view.page.locator(".q3-tip")
    view.page.mouse.move(*place[1])
    expect(tip).to_have_text("2 thingcar")
    view.page.mouse.move(*place[2])
    expect(tip).to_contain_text(HOSTILE)
    view.page.mouse.click(*place[2])
    assert view.saved["focused"] == 2
    box = stage(view).bounding_box()
    view.page.mouse.move(box["x"] + 5, box["y"] + 5)
    expect(tip).to_be_hidden()
    view.page.mouse.click(box["x"] + 5, box["y"] + 5)
    assert view.saved["focused"] is None


def test_a_lasso_selects_and_with_shift_adds(small):
    view = small()
    place = spots(view)
    lasso(view, *around(*place[1]))
    assert view.saved["selection"] == [1]
    expect(view.page.get_by_text("1 selected")).to_be_visible()
    view.page.keyboard.down("Shift")
    lasso(view, *around(*place[2]))
    view.page.keyboard.up("Shift")
    assert view.saved["selection"] == [1, 2]
    lasso(view, *around(*place[0]))
    assert 0 in view.saved["selection"]
    assert 1 not in view.saved["selection"]
    view.page.keyboard.down("Control")
    view.page.mouse.click(*place[1])
    view.page.keyboard.up("Control")
    assert 1 in view.saved["selection"]
    view.page.get_by_role("button", name="Clear").click()
    assert view.saved["selection"] == []
    expect(view.page.get_by_text("Nothing selected")).to_be_visible()


def test_arrows_walk_to_the_nearest_point_enter_selects_and_escape_clears(small):
    view = small(focused=1)
    place = spots(view)
    stage(view).focus()

    def rightward(at):
        ways = {
            index: (x - place[at][0] + 2 * abs(y - place[at][1]))
            for index, (x, y) in place.items()
            if x > place[at][0] and abs(y - place[at][1]) <= x - place[at][0]
        }
        return min(ways, key=ways.get) if ways else at

    leftmost = min(place, key=lambda index: place[index][0])
    view.state(focused=leftmost)
    view.page.keyboard.press("ArrowRight")
    assert view.get("focused") == rightward(leftmost) != leftmost
    view.page.keyboard.press("Enter")
    assert view.saved["selection"] == [view.get("focused")]
    expect(view.page.get_by_text(re.compile(rf"^Text {view.get('focused') + 1}, selected: "))).to_be_attached()
    view.page.keyboard.press("ArrowLeft")
    view.page.keyboard.press(" ")
    assert len(view.saved["selection"]) == 2
    view.page.keyboard.press(" ")
    assert len(view.saved["selection"]) == 1
    view.page.keyboard.press("Escape")
    assert view.saved["selection"] == []
    assert view.get("focused") is not None
    view.page.keyboard.press("Escape")
    assert view.get("focused") is None
    view.page.keyboard.press("ArrowUp")  # without a focused point: the point nearest to the middle
    assert view.get("focused") is not None


def test_all_ways_together_reach_every_point(shown):
    vectors, _ = clusters(40)
    view = shown(vectors=vectors, texts=[f"text {at}" for at in range(40)], focused=0)
    stage(view).focus()
    seen, waiting = {0}, [0]
    while waiting:
        here = waiting.pop()
        for key in ("ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"):
            view.state(focused=here)
            view.page.keyboard.press(key)
            there = view.get("focused")
            if there not in seen:
                seen.add(there)
                waiting.append(there)
    assert len(seen) == 40


def test_a_search_dims_the_rest_and_enter_walks_the_matches(bound):
    vectors, _ = clusters(200)
    view = bound(vectors=vectors, texts=[f"text {at}{' Special' if at in (5, 50, 150) else ''}" for at in range(200)])
    page = view.page
    before = painted(page, 0)
    search = page.page.get_by_label("Search")
    search.fill("special")
    page.page.wait_for_timeout(200)
    view.pump()
    expect(page.page.get_by_text("3 found")).to_be_visible()
    for _ in range(50):  # the map is painted with a later frame
        after = painted(page, 0)
        if after["grey"] < after["all"]:
            break
    assert before["grey"] < 0.4 * before["all"]
    assert after["grey"] > 0.8 * after["all"]
    assert after["grey"] < after["all"]
    for index in (5, 50, 150, 5):
        search.press("Enter")
        assert page.get("focused") == index
    box = stage(page).bounding_box()
    left, top, right, low = box["x"] + 4, box["y"] + 4, box["x"] + box["width"] - 4, box["y"] + box["height"] - 4
    lasso(page, (left, top), (right, top), (right, low), (left, low))
    assert page.saved["selection"] == [5, 50, 150]  # dimmed points are not selected
    page.page.get_by_role("button", name="Clear").click()
    search.press("Escape")
    view.pump()
    assert page.saved["search"] == ""
    assert painted(page, 0) == before


def test_a_group_is_singled_out_by_its_mark(shown):
    vectors, group = clusters(90)
    view = shown(vectors=vectors, texts=[f"text {at}" for at in range(90)], labels=group.tolist())
    button = view.page.get_by_role("group", name="Groups").get_by_role("button").first
    before = painted(view, 0)
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert painted(view, 0)["grey"] > before["grey"] + 200
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    assert painted(view, 0) == before


def test_groups_differ_in_shape_too(shown):
    vectors, _ = clusters(80)
    view = shown(vectors=vectors, texts=[f"text {at}" for at in range(80)], labels=[at % 8 for at in range(80)])
    marks = view.page.evaluate(
        """[...document.querySelectorAll(".q3-swatch")].map((canvas) => {
            const bytes = canvas.getContext("2d").getImageData(0, 0, 28, 28).data;
            let mask = ""; for (let at = 3; at < bytes.length; at += 4) mask += bytes[at] > 128 ? 1 : 0;
            return mask;
        })"""
    )
    assert len(set(marks)) == 8
    assert all("1" in mark for mark in marks)


def test_the_map_zooms_to_the_selection_and_back(shown):
    vectors, _ = clusters(300)
    view = shown(vectors=vectors, texts=[f"text {at}" for at in range(300)], selection=[1, 2, 3])
    whole = painted(view, 0)
    zoom = view.page.get_by_text("Zoom to selection")
    zoom.click()
    assert zoom_of(view) > 100
    assert painted(view, 0) != whole
    lasso(view, *corners(view))
    assert {1, 2, 3} <= set(view.saved["selection"])
    assert len(view.saved["selection"]) < 300
    view.page.get_by_role("button", name="Clear").click()
    expect(zoom).to_be_hidden()
    view.page.get_by_role("button", name="Show the whole map").click()
    assert zoom_of(view) == 100
    assert painted(view, 0)["all"] < whole["all"]  # without the rings of the selection


def test_ten_thousand_points_are_drawn_hovered_and_lassoed(bare, many):
    view = bare("explorer", many)
    assert painted(view, 0)["all"] > 20_000
    expect(stage(view)).to_have_attribute("aria-label", "Map of 10,000 texts")
    place = spots(view)
    view.page.mouse.move(*place[4321])
    expect(view.page.locator(".q3-tip")).to_be_visible()
    x, y = place[4321]
    lasso(view, *around(x, y, 50))
    chosen = view.saved["selection"]
    inside = {index for index, (px, py) in place.items() if abs(px - x) < 49 and abs(py - y) < 49}
    assert len(inside) > 300
    assert inside <= set(chosen)
    assert len(chosen) < 1.1 * len(inside)
    assert view.page.locator(".q3 *").count() < 500  # points are not elements of the page


# Zoom and pan.


def test_the_wheel_zooms_where_the_map_has_the_focus_and_else_scrolls_the_page(small):
    view = small()
    page, mouse = view.page, view.page.mouse
    page.evaluate("document.body.style.height = '3000px'")
    note = page.get_by_text("To zoom with the wheel")
    place = spots(view)
    mouse.move(*place[1])
    mouse.wheel(0, 90)
    page.wait_for_function("scrollY > 0")
    expect(note).to_be_visible()
    assert zoom_of(view) == 100
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("scrollY === 0")
    page.keyboard.down("Control")
    mouse.wheel(0, -150)
    page.keyboard.up("Control")
    expect(page.get_by_role("button", name="Show the whole map")).to_have_text("165 %")
    expect(note).to_be_hidden()
    mouse.click(*place[1])  # it is still there: the point under the pointer does not move
    assert view.saved["focused"] == 1
    mouse.wheel(0, -150)
    expect(page.get_by_role("button", name="Show the whole map")).to_have_text("272 %")
    mouse.wheel(0, 200)
    mouse.wheel(0, 200)
    expect(page.get_by_role("button", name="Show the whole map")).to_have_text("100 %")
    assert page.evaluate("scrollY") == 0
    mouse.wheel(0, 90)  # nothing is left to zoom out of
    page.wait_for_function("scrollY > 0")


def test_the_pointer_and_the_lasso_stay_right_under_zoom(shown):
    vectors, _ = clusters(300)
    view = shown(vectors=vectors, texts=[f"text {at}" for at in range(300)])
    stage(view).focus()
    place, factor = spots(view), np.exp(200 / 300)
    centre = place[7]
    view.page.mouse.move(*centre)
    for _ in range(3):
        view.page.mouse.wheel(0, -200)
    seen = zoomed(place, centre, factor**3)
    box = stage(view).bounding_box()
    expect(view.page.get_by_role("button", name="Show the whole map")).to_have_text("739 %")
    inside = {
        index: spot for index, spot in seen.items()
        if 30 < spot[0] - box["x"] < box["width"] - 30 and 40 < spot[1] - box["y"] < box["height"] - 30
    }  # fmt: skip
    assert 2 < len(inside) < 100
    for index, spot in list(inside.items())[:5]:
        view.page.mouse.move(*spot)
        near = [other for other, (x, y) in seen.items() if np.hypot(x - spot[0], y - spot[1]) < 1]
        expect(view.page.locator(".q3-tip b")).to_have_text(re.compile(f"^({'|'.join(str(other + 1) for other in [index, *near])})$"))
    lasso(view, *around(*centre, 60))
    chosen = {index for index, (x, y) in seen.items() if max(abs(x - centre[0]), abs(y - centre[1])) < 60}
    assert view.saved["selection"] == sorted(chosen)
    assert 7 in chosen
    assert painted(view, 0)["all"] > 0


def test_keys_zoom_and_pan_and_say_so(small):
    view = small()
    place = spots(view)
    page = view.page
    stage(view).focus()
    status = page.get_by_role("group", name="Zoom").locator("xpath=following-sibling::span")
    page.keyboard.press("+")
    page.keyboard.press("=")
    assert zoom_of(view) == 225
    expect(status).to_have_text("Zoom 225 %")
    page.keyboard.press("-")
    assert zoom_of(view) == 150
    box = stage(view).bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    seen = zoomed(place, middle, 1.5)
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    tip = page.locator(".q3-tip b")
    for index, (x, y) in seen.items():
        moved = (x + 60, y + 60)
        if 0 < moved[0] - box["x"] < box["width"] and 40 < moved[1] - box["y"] < box["height"]:
            page.mouse.move(*moved)
            expect(tip).to_have_text(str(index + 1))
    page.keyboard.press("0")
    assert zoom_of(view) == 100
    expect(status).to_have_text("The whole map")
    page.keyboard.press("-")
    assert zoom_of(view) == 100
    page.keyboard.press("Shift+ArrowLeft")  # the whole map is in view: there is nothing beyond
    page.mouse.move(*place[1])
    expect(tip).to_have_text("2")
    assert "focused" not in view.saved


def test_a_text_that_comes_into_focus_comes_into_view(small):
    view = small(focused=0)
    page = view.page
    stage(view).focus()
    for _ in range(6):
        page.keyboard.press("+")
    for index in (1, 2, 3):
        view.state(focused=index)
        lasso(view, *corners(view))
        assert index in view.saved["selection"]


def test_buttons_zoom_and_a_drag_moves_where_asked(small):
    view = small()
    place = spots(view)
    page, mouse = view.page, view.page.mouse
    zoom = page.get_by_role("group", name="Zoom")
    expect(zoom.get_by_role("button", name="Zoom out")).to_have_attribute("aria-disabled", "true")
    zoom.get_by_role("button", name="Zoom in").click()
    zoom.get_by_role("button", name="Zoom in").click()
    zoom.get_by_role("button", name="Zoom out").click()
    assert zoom_of(view) == 150
    expect(zoom.get_by_role("button", name="Zoom out")).to_have_attribute("aria-disabled", "false")
    zoom.get_by_role("button", name="Move").click()
    box = stage(view).bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse.move(*middle)
    mouse.down()
    mouse.move(middle[0] + 40, middle[1] + 30, steps=3)
    mouse.up()
    assert "selection" not in view.saved
    seen = {index: (x + 40, y + 30) for index, (x, y) in zoomed(place, middle, 1.5).items()}
    zoom.get_by_role("button", name="Move").click()
    mouse.move(*middle)
    mouse.down(button="middle")  # the middle button always moves
    mouse.move(middle[0] - 20, middle[1] - 10, steps=3)
    mouse.up(button="middle")
    shown = 0
    for index, (right, low) in seen.items():
        x, y = right - 20, low - 10
        if 0 < x - box["x"] < box["width"] and 40 < y - box["y"] < box["height"]:
            mouse.move(x, y)
            expect(page.locator(".q3-tip b")).to_have_text(str(index + 1))
            shown += 1
    assert shown
    lasso(view, *corners(view))
    assert len(view.saved["selection"]) >= shown


def test_two_fingers_zoom(small):
    view = small()
    view.page.evaluate(
        """() => {
            const stage = document.querySelector(".q3-stage"), box = stage.getBoundingClientRect();
            stage.setPointerCapture = () => {};
            const finger = (type, pointerId, x, y) => stage.dispatchEvent(new PointerEvent(type, { pointerId, pointerType: "touch",
                button: type === "pointermove" ? -1 : 0, clientX: box.x + x, clientY: box.y + y, bubbles: true }));
            finger("pointerdown", 1, 100, 100); finger("pointerdown", 2, 200, 100);
            finger("pointermove", 2, 300, 100);
            finger("pointerup", 2, 300, 100); finger("pointerup", 1, 100, 100);
        }"""
    )
    assert zoom_of(view) == 200
    assert {"selection", "focused"}.isdisjoint(view.saved)


# Clusters.

KINDS = ("apple orchard", "motor car", "violin music")


@pytest.fixture
def kinds(shown):
    """An explorer of texts of three kinds."""
    vectors = np.eye(3, 8)[np.arange(60) % 3] + 0.1 * np.random.default_rng(0).standard_normal((60, 8))
    texts = [f"the {KINDS[at % 3]} {at}" for at in range(60)]
    return lambda **settings: shown(vectors=vectors.astype(np.float32), texts=texts, **settings)


def test_clusters_are_named_on_the_map_and_in_the_legend(kinds):
    view = kinds(focused=0)
    page = view.page
    names = page.locator(".q3-names span")
    legend = page.get_by_role("group", name="Clusters")
    assert sorted(map(tuple, (sorted(name.split(", ")) for name in names.all_inner_texts()))) == [
        ("apple", "orchard"), ("car", "motor"), ("music", "violin")
    ]  # fmt: skip
    expect(legend.get_by_role("button")).to_have_text([re.compile(f"^{re.escape(name)}20$") for name in view.get("_clusters")["names"]])
    for name in names.all():
        expect(name).to_be_visible()
    place = spots(view)
    for name in names.all():
        box = name.bounding_box()
        kind = next(at for at, words in enumerate(KINDS) if set(name.inner_text().split(", ")) == set(words.split()))
        middle = np.median([place[at] for at in range(kind, 60, 3)], axis=0)
        assert abs(box["x"] + box["width"] / 2 - middle[0]) < 60
        assert abs(box["y"] + box["height"] / 2 - middle[1]) < 60
    expect(page.get_by_role("heading", level=4).first).to_have_text(re.compile("Text 1 (apple, orchard|orchard, apple)"))
    expect(page.get_by_label("Colour")).to_be_hidden()  # there are no labels
    before = painted(view, 0)
    legend.get_by_role("button").first.click()
    assert painted(view, 0)["grey"] > before["grey"] + 50
    page.get_by_role("button", name="Names").click()
    expect(names.first).to_be_hidden()
    page.get_by_role("button", name="Names").click()
    expect(names.first).to_be_visible()


def test_labels_and_clusters_take_turns_as_colours(kinds):
    view = kinds(labels=["a" if at < 30 else "b" for at in range(60)])
    page = view.page
    expect(page.get_by_role("group", name="Groups").get_by_role("button")).to_have_count(2)
    expect(page.locator(".q3-names span").first).to_be_visible()
    page.get_by_label("Colour").select_option("Clusters")
    assert view.saved["colour_by"] == "clusters"
    expect(page.get_by_role("group", name="Clusters").get_by_role("button")).to_have_count(3)
    page.get_by_label("Colour").select_option("Labels")
    expect(page.get_by_role("group", name="Groups").get_by_role("button")).to_have_count(2)


def test_names_follow_the_zoom_and_never_lie_over_each_other(shown):
    vectors, group = clusters(400)
    view = shown(
        vectors=vectors, texts=[f"a long word of kind{'abcdefgh'[group[at]]} and number{at % 7}x" for at in range(400)], clusters=8
    )
    stage(view).focus()
    for key in ("0", "+", "+", "Shift+ArrowLeft", "+"):
        view.page.keyboard.press(key)
        assert wrong_texts(view.page.locator(".q3")) == []
    view.page.keyboard.press("0")
    assert view.page.locator(".q3-names span:visible").count() >= 2


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_reads_well_at_every_width(kinds, theme):
    view = kinds(labels=["a group", "another"] * 30, focused=3, selection=[1, 2, 5], page={"theme": theme})
    page, found = view.page, {}
    widget = page.locator(".q3")

    def check(state):
        found.update({f"axe, {state}": wrong for wrong in violations(widget)})
        for width in (600, 1000, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            if wrong := wrong_texts(widget):
                found[f"{state} {width}"] = wrong
        page.set_viewport_size({"width": 1000, "height": 900})

    check("map")
    page.get_by_label("Colour").select_option("Clusters")
    check("clusters")
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Move").click()
    check("zoomed")
    stage(view).blur()
    page.mouse.move(*spots(view)[0])
    page.mouse.wheel(0, 10)
    check("wheel")
    page.get_by_role("tab", name="Similarity").click()
    page.get_by_text("The 3 texts").click()
    check("similarity")
    page.get_by_role("tab", name="Health").click()
    check("health")
    assert found == {}


# The other views.


def test_the_heat_map_is_walked_with_arrows_and_reads_each_cosine(small):
    view = small(view="similarity")
    cosines = CORNERS / np.linalg.norm(CORNERS, axis=1, keepdims=True)
    cosines = (cosines @ cosines.T)[np.ix_(view.get("_heat")["indices"], view.get("_heat")["indices"])]
    readout = view.page.locator(".q3-readout")
    heat(view).focus()
    view.page.keyboard.press("PageUp")
    expect(readout).to_contain_text("the text itself")
    for key, (row, column) in [
        ("ArrowRight", (0, 1)),
        ("ArrowDown", (1, 1)),
        ("End", (1, 3)),
        ("PageDown", (3, 3)),
        ("Home", (3, 0)),
        ("ArrowDown", (3, 0)),
    ]:
        view.page.keyboard.press(key)
        expect(readout).to_contain_text(f"{min(cosines[row, column], 1):.3f}")
    order = view.get("_heat")["indices"]
    expect(readout).to_contain_text(f"{order[3] + 1} {NAMES[order[3]]}{order[0] + 1} {NAMES[order[0]]}")
    view.page.keyboard.press("Enter")
    assert view.saved["focused"] == order[3]
    expect(view.page.locator(".q3-scale")).to_have_text(re.compile(rf"^{np.min(cosines):.3f}{np.max(cosines - 2 * np.eye(4)):.3f}$"))


def test_the_pointer_reads_the_heat_map_and_a_click_focuses_its_row(small):
    view = small(view="similarity")
    box = heat(view).bounding_box()
    unit = box["width"] / 620
    cell = 462 / 4
    order = view.get("_heat")["indices"]
    row, column = order.index(0), order.index(3)
    assert abs(row - column) == 1  # similar texts stand side by side
    view.page.mouse.click(box["x"] + unit * (158 + (column + 0.5) * cell), box["y"] + unit * (28 + (row + 0.5) * cell))
    expect(view.page.locator(".q3-readout")).to_contain_text("0.9711 red apple4 green apple")
    assert view.saved["focused"] == 0


def test_the_heat_map_of_sixty_texts_clips_its_labels(shown):
    vectors, _ = clusters(100)
    view = shown(vectors=vectors, texts=["long text without end " * 9] * 100, view="similarity")
    expect(view.page.get_by_text("Cosines of 60 texts that represent all 100; select some to see theirs")).to_be_visible()
    assert view.page.locator(".q3-heat rect").count() == 3600 + 3
    labels = view.page.locator(".q3-labels .q3-line")
    boxes = labels.evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().toJSON())")
    assert len(boxes) == 30
    left = heat(view).bounding_box()
    assert all(box["right"] < left["x"] + left["width"] * 158 / 620 for box in boxes)
    assert all(lower["top"] > upper["top"] + 11 for upper, lower in pairwise(boxes))  # no label touches the next


def test_the_texts_of_the_heat_map_are_listed(shown):
    vectors, _ = clusters(100)
    view = shown(vectors=vectors, texts=[f"text {at}" for at in range(100)], view="similarity")
    rows = view.get("_heat")["indices"]
    assert len(rows) == 60
    assert max(rows) > 60
    view.page.get_by_text("The 60 texts, in the order of the rows").click()
    listed = view.page.get_by_role("list", name="Texts of the rows").get_by_role("button")
    assert listed.all_inner_texts() == [f"{index + 1} text {index}" for index in rows]
    listed.nth(5).click()
    assert view.saved["focused"] == rows[5]


def test_the_slider_shows_recall_and_what_the_text_in_focus_loses(bound):
    vectors, _ = clusters(60)
    view = bound(vectors=vectors, texts=[f"text {at}" for at in range(60)], focused=7, view="dimensions", widths=[4])
    page, widget = view.page.page, view.widget
    slider = page.get_by_role("slider", name="Dimensions")
    expect(slider).to_have_attribute("aria-valuetext", "48 dimensions, recall 1.000")
    slider.focus()
    page.keyboard.press("Home")
    view.pump()
    assert widget.dimensions == 4
    expect(slider).to_have_attribute("aria-valuetext", f"4 dimensions, recall {widget.recall[4]:.3f}")
    expect(page.get_by_role("tabpanel")).to_contain_text("recall@10 at 4 dimensions")
    expect(page.get_by_role("img", name=re.compile("^Recall@10"))).to_have_attribute(
        "aria-label", re.compile(f"{widget.recall[4]:.3f} at 4, 1.000 at 48")
    )
    rows = widget._nearest["rows"]
    side = page.get_by_role("complementary")
    lost = [row for row in rows if row["fate"] == "lost"]
    assert lost
    expect(side).to_contain_text(f"{10 - len(lost)} of 10 nearest texts are kept at 4 dimensions")
    expect(side).to_contain_text(f"− {len(lost)} lost at 4")
    expect(side).to_contain_text(f"+ {len(lost)} gained at 4")
    first = lost[0]
    label = f"Text {first['index'] + 1}: text {first['index']}; cosine {first['cosine']:.3f}, at 4 dimensions {first['cut']:.3f}, lost"
    side.get_by_role("button", name=label).click()
    view.pump()
    expect(side.get_by_role("heading")).to_have_text(re.compile(f"^Text {first['index'] + 1} "))
    expect(page.get_by_role("region", name="The text in focus")).to_be_focused()  # the focus is kept when the row is replaced


def test_neighbours_are_drawn_in_the_map(small):
    view = small()
    empty = painted(view, 1)["all"]
    view.state(focused=0)
    view.state(_nearest={"of": 0, "text": "red apple", "sound": True, "kept": 1, "k": 2, "rows": [
        {"index": 3, "cosine": 0.97, "cut": 0.97, "fate": "kept"}, {"index": 1, "cosine": 0.5, "cut": 0.4, "fate": "lost"}]})  # fmt: skip
    assert painted(view, 1)["all"] > empty + 100


def test_a_query_is_sent_drawn_listed_and_removed(bound):
    engine = FakeEngine("embed")
    texts = [f"text {at} about {at % 3}" for at in range(30)]
    view = bound(Embedder(engine, instruction="Find texts"), texts)
    page = view.page.page
    box = page.get_by_role("textbox", name="Query")
    assert box.get_attribute("title") == "Embedded with the instruction: Find texts"
    before = painted(view.page, 1)["all"]
    box.fill("text about 2")
    box.press("Enter")
    assert view.page.sent == [{"do": "query", "text": "text about 2"}]
    view.pump()
    side = page.get_by_role("complementary")
    expect(side.get_by_role("heading")).to_have_text("Query")
    expect(side).to_contain_text("With the instruction “Find texts”")
    best = view.widget._nearest["rows"][0]
    expect(side.get_by_role("button").first).to_have_attribute(
        "aria-label", re.compile(f"^Text {best['index'] + 1}: .*cosine {best['cosine']:.3f}$")
    )
    assert painted(view.page, 1)["all"] > before + 200
    page.get_by_role("button", name="Remove the query").click()
    view.pump()
    expect(side).to_contain_text("Choose a text")
    assert view.widget.query == ""


def test_health_names_faults_and_links_to_their_texts(shown):
    vectors, _ = clusters(40)
    vectors[4], vectors[9, 1], vectors[11] = np.inf, np.nan, 0
    vectors[20], vectors[:, 5] = vectors[3], np.where(np.isfinite(vectors[:, 5]), 0.5, vectors[:, 5])
    vectors[11] = 0
    texts = [f"text {at}" for at in range(40)]
    texts[20] = texts[3]
    view = shown(vectors=vectors, texts=texts, view="health")
    panel = view.page.get_by_role("tabpanel")
    expect(view.page.get_by_role("tab", name="Health, 3 notes")).to_be_visible()
    expect(panel).to_contain_text("!2 texts: 5, 10")
    expect(panel).to_contain_text("1 text: 12")
    expect(panel).to_contain_text("1 pair with a cosine of 0.98 or more")
    expect(panel).to_contain_text("1.000same text")
    expect(panel.get_by_role("img", name="Variance of 48 dimensions.")).to_be_visible()
    assert panel.locator(".q3-bar").count() == 48
    panel.get_by_role("button", name="Text 10", exact=True).click()
    assert view.saved["focused"] == 9
    panel.get_by_role("button", name="Text 21: text 3").click()
    assert view.saved["focused"] == 20
    view.state(_nearest={"of": 9, "text": "text 9", "sound": False, "rows": [], "kept": 0, "k": 0})
    expect(view.page.get_by_role("complementary")).to_contain_text("Its vector is not finite, or zero: it has no neighbours.")


def test_the_chart_of_variance_pales_beyond_the_chosen_width(shown):
    vectors, _ = clusters(40)
    view = shown(vectors=vectors, texts=[f"text {at}" for at in range(40)], view="health", dimensions=32)
    assert view.page.locator(".q3-bar.q3-pale").count() == 16
    expect(view.page.get_by_role("tabpanel")).to_contain_text(re.compile(r"the first 32 dimensions hold \d\d %"))


# The theme.


@pytest.mark.parametrize("cancelled", [False, True], ids=["", "without-transitions"])  # JupyterLab cancels transitions
def test_the_map_follows_the_theme_when_it_changes(shown, cancelled):
    vectors, _ = clusters(30)
    view = shown(vectors=vectors, texts=[f"text {at}" for at in range(30)], selection=list(range(30)), labels=[0] * 30)
    brightest = """() => {
        const canvas = document.querySelector(".q3-stage canvas");
        const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let most = 0;
        for (let at = 0; at < bytes.length; at += 4) if (bytes[at + 3] > 250) most = Math.max(most, Math.min(...bytes.slice(at, at + 3)));
        return most;
    }"""
    view.page.wait_for_timeout(60)
    assert view.page.evaluate(brightest) < 200  # rings in dark ink
    if cancelled:
        view.page.add_style_tag(content=".q3-probe { transition: none !important; }")
    view.page.evaluate("document.documentElement.style.setProperty('--jp-ui-font-color0', 'rgb(255, 255, 255)')")
    view.page.wait_for_function(f"({brightest})() === 255")


def test_a_dark_browser_leaves_a_light_notebook_light(small):
    view = small(page={"dark": True})
    assert view.page.evaluate("getComputedStyle(document.querySelector('.q3')).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_and_marks_stand_out_from_their_background(shown, theme):
    vectors, _ = clusters(40)
    view = shown(
        vectors=vectors,
        texts=[f"text {at}" for at in range(40)],
        labels=[at % 8 for at in range(40)],
        dimensions=32,
        focused=3,
        page={"theme": theme},
    )
    low = view.page.evaluate(
        """() => {
            const root = document.querySelector(".q3");
                const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number); // of "rgb(255 0 0)", or "color(srgb 1 0 0)"
                const channels = (colour) => numbers(colour).map((v, at) => (colour.startsWith("color(") && at < 3 ? 255 * v : v));
            const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            const light = (rgb) => rgb.reduce((sum, v, at) => sum + linear(v / 255) * [0.2126, 0.7152, 0.0722][at], 0);
            const back = channels(getComputedStyle(root).backgroundColor).slice(0, 3);
            const over = ([r, g, b, a = 1]) => [r, g, b].map((v, at) => v * a + back[at] * (1 - a));
            const ratio = (one) => {
                const [x, y] = [light(over(channels(getComputedStyle(one).color))), light(back)].sort((p, q) => q - p);
                return (x + 0.05) / (y + 0.05);
            };
            const words = [...root.querySelectorAll(".q3-soft, .q3-fate, h3, .q3-near button")].map(ratio);
            const marks = [...root.querySelectorAll(".q3-probe")].slice(6).map(ratio);
            return { words: Math.min(...words), marks: Math.min(...marks) };
        }"""
    )
    assert low["words"] >= 4.5
    assert low["marks"] >= 3


def test_it_can_be_rendered_outside_the_page_and_removed_again(small):
    view = small(labels=["a", "b", "c", "d"])
    view.page.evaluate(
        """async () => {
            cleanup();
            const left = Object.values(model.listeners).flat().length;
            if (left || document.querySelector(".q3")) throw new Error(`${left} listeners are left`);
        }"""
    )
