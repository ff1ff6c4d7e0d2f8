"""The inspector's real JavaScript in a browser: the visible content, clicks and keys."""

from __future__ import annotations

import json
import re

import pytest

from qwen3_integrations import FakeEngine, Reranker
from qwen3_integrations.core.results import Hit, Ranking, Timing, Usage

pytest.importorskip("anywidget")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from qwen3_integrations.notebook import RankInspector

pytestmark = [pytest.mark.browser, pytest.mark.slow]

QUERY = "How do I sort a list?"
SCORES = {
    "Shuffle a list in place": 0.25,
    "Sort the list in ascending order.\n\nThe sort is stable. " + "More about it. " * 60 + "The very end.": 1.0,
    "<img src=x onerror=alert(1)> <script>alert(1)</script>": 0.125,
    "Return a new sorted list": 0.75,
    "Shuffle  a list in place": 0.0625,
}
DOCUMENTS = list(SCORES)
OTHER = dict(zip(DOCUMENTS, (0.875, 0.75, 0.125, 0.25, 0.0625), strict=True))


class Page:
    def __init__(self, text, **metadata):
        self.page_content, self.metadata = text, metadata


def reranker(scores=SCORES, **settings):
    return Reranker(
        FakeEngine("rerank", score=lambda query, document: next((s for t, s in scores.items() if t.startswith(document)), 1)), **settings
    )


def inspector(**settings):
    return RankInspector(reranker(), QUERY, [Page(text, source=f"{at}.html") for at, text in enumerate(DOCUMENTS)], **settings)


def state_of(widget):
    widget.close()
    left_out = re.compile(r"_esm|_css|_dom_classes|_model_|_view_|_anywidget|layout|tabbable|tooltip|comm")
    return {name: getattr(widget, name) for name in widget.keys if not left_out.match(name)}


@pytest.fixture
def shown(bare):
    """(inspector's settings) -> the mounted widget."""

    def mount(widget=None, *, theme="light", dark=False, width=1000, **settings):
        return bare("inspector", state_of(widget or inspector(**settings)), theme=theme, dark=dark, width=width)

    return mount


def row(page, item):
    return page.page.locator(f"[role=row][data-item='{item}']")


def line(page, item):
    return page.page.locator(f"[role=option][data-item='{item}']")


def order(page):
    """The documents in the order of their rows."""
    rows = page.page.locator("[role=row][data-item]")
    return [int(one.get_attribute("data-item")) for one in sorted(rows.all(), key=lambda one: int(one.get_attribute("aria-rowindex")))]


def test_the_accessible_content(shown):
    page = shown(threshold=0.2)
    expect(page.page.locator("section")).to_match_aria_snapshot(
        """
        - region "Rank inspector":
          - heading "How do I sort a list?" [level=3]
          - text: /fake · 5 documents · [\\d,]+ tokens · \\d\\.\\d\\d s · 1 duplicate/
          - group "Run again":
            - combobox "Presets"
            - textbox "Instruction": Given a web search query, retrieve relevant passages that answer the query
            - button "Run again"
            - button "Cancel" [disabled]
          - slider "Threshold"
          - status: "0.200"
          - status: 3 of 5 kept
          - spinbutton "Keep at most"
          - button "Label relevance"
          - button "Copy as JSON"
          - listbox "Rank changes":
            - 'option "document 2: old 2, new 1, up 1"'
            - 'option "document 4: old 4, new 2, up 2"'
            - 'option "document 1: old 1, new 3, down 2"'
            - 'option "document 3: old 3, new 4, down 1, dropped"'
            - 'option "document 5: old 5, new 5, same, dropped"'
          - grid "Documents":
            - row "Selected New Old Change Score Document Open"
            - rowgroup:
              - row /Select document 2 1 2 up 1 1\\.000 Sort the list in ascending order/:
                - gridcell:
                  - checkbox "Select document 2"
                - gridcell "1"
                - gridcell "2"
                - gridcell "up 1"
                - gridcell "1.000"
                - gridcell /Sort the list/
                - gridcell:
                  - button "Read document 2"
              - row "Select document 4 2 4 up 2 0.750 Return a new sorted list Read document 4"
              - row "Select document 1 3 1 down 2 0.250 Shuffle a list in place Read document 1"
              - row "Select document 3 4 3 down 1 0.125 dropped <img src=x onerror=alert(1)> <script>alert(1)</script> Read document 3"
              - row "Select document 5 5 5 same 0.063 dropped same as 1 Shuffle a list in place Read document 5"
          - paragraph: ↑ ↓ move · Enter reads the whole document · Space selects
        """
    )
    expect(row(page, 4)).to_contain_text("same as 1")
    expect(row(page, 2)).to_contain_text("dropped")
    expect(row(page, 0)).not_to_contain_text("dropped")
    assert page.page.locator("mark").all_text_contents()[:2] == ["Sort", "list"]
    assert page.page.locator(".q3-least").count() == 5


def test_texts_stay_texts(shown):
    page = shown()
    dialogs = []
    page.page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    row(page, 2).locator("button").click()
    expect(page.page.locator(".q3-whole")).to_have_text(DOCUMENTS[2])
    assert page.page.locator("#root script, #root img").count() == 0
    assert dialogs == []


def test_chart_and_table_light_each_other(shown):
    page = shown()
    row(page, 3).hover()
    expect(line(page, 3)).to_have_class(re.compile("q3-lit"))
    expect(line(page, 0)).not_to_have_class(re.compile("q3-lit"))
    line(page, 1).locator("circle").first.hover()
    expect(row(page, 1)).to_have_class(re.compile("q3-lit"))
    expect(row(page, 3)).not_to_have_class(re.compile("q3-lit"))
    page.page.mouse.move(0, 0)
    expect(page.page.locator(".q3-lit")).to_have_count(0)
    row(page, 1).focus()
    page.page.keyboard.press("ArrowDown")
    expect(row(page, 3)).to_be_focused()
    expect(line(page, 3)).to_have_class(re.compile("q3-lit"))
    line(page, 3).focus()
    page.page.keyboard.press("End")
    expect(line(page, 4)).to_be_focused()
    expect(row(page, 4)).to_have_class(re.compile("q3-lit"))


def test_the_keyboard_reaches_everything(shown):
    page = shown()
    press = page.page.keyboard.press
    page.page.get_by_role("button", name="Copy as JSON").focus()
    press("Tab")
    expect(line(page, 1)).to_be_focused()
    for name in ("New", "Old", "Score"):
        press("Tab")
        expect(page.page.get_by_role("columnheader", name=name).get_by_role("button")).to_be_focused()
    press("Tab")
    expect(row(page, 1)).to_be_focused()
    press("Enter")
    whole = page.page.locator(".q3-whole")
    expect(whole).to_contain_text("The very end.")
    expect(page.page.locator(".q3-detail")).to_contain_text("1.html")
    expect(row(page, 1).get_by_role("button", name="Close document 2")).to_have_attribute("aria-expanded", "true")
    assert row(page, 3).bounding_box()["y"] >= whole.bounding_box()["y"] + whole.bounding_box()["height"]
    expect(row(page, 1)).to_be_focused()
    press("Tab")
    expect(whole).to_be_focused()
    press("Escape")
    expect(whole).to_have_count(0)
    expect(row(page, 1)).to_be_focused()
    press("Space")
    press("ArrowDown")
    press("Space")
    assert page.saved["selection"] == [1, 3]
    expect(row(page, 3)).to_have_attribute("aria-selected", "true")
    expect(line(page, 3)).to_have_attribute("aria-selected", "true")
    expect(row(page, 3)).to_be_focused()
    press("Escape")
    assert page.saved["selection"] == []


def test_the_long_text_is_clipped_until_it_is_opened(shown):
    page = shown()
    expect(row(page, 1)).not_to_contain_text("The very end.")
    height = row(page, 1).bounding_box()["height"]
    row(page, 1).locator(".q3-snippet").click()
    expect(row(page, 1)).to_contain_text("The very end.")
    row(page, 1).locator(".q3-snippet").click()
    expect(row(page, 1)).not_to_contain_text("The very end.")
    assert row(page, 1).bounding_box()["height"] == height


def test_threshold_and_top_n_determine_the_kept_documents(shown):
    page = shown(threshold=0.2)
    kept = page.page.locator("strong")
    expect(kept).to_have_text("3 of 5 kept")
    slider = page.page.get_by_role("slider")
    slider.focus()
    page.page.keyboard.press("End")
    expect(kept).to_have_text("1 of 5 kept")
    assert page.saved["threshold"] == 1
    expect(slider).to_have_attribute("aria-valuetext", "1.000, 1 of 5 kept")
    expect(row(page, 3)).to_have_class(re.compile("q3-dropped"))
    page.page.keyboard.press("Home")
    expect(kept).to_have_text("5 of 5 kept")
    most = page.page.get_by_role("spinbutton")
    most.fill("2")
    most.press("Enter")
    expect(kept).to_have_text("2 of 5 kept")
    assert page.saved["top_n"] == 2
    most.fill("")
    most.press("Enter")
    expect(kept).to_have_text("5 of 5 kept")
    assert page.saved["top_n"] is None
    page.state(threshold=0.5)  # from Python
    expect(kept).to_have_text("2 of 5 kept")
    expect(slider).to_have_value("0.5")


def test_rows_are_in_the_requested_order(shown):
    page = shown()
    head = page.page.get_by_role("columnheader")
    assert order(page) == [1, 3, 0, 2, 4]
    for name, sort, once, twice in (
        ("Old", "old", [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]),
        ("Score", "score", [1, 3, 0, 2, 4], [4, 2, 0, 3, 1]),
        ("New", "new", [1, 3, 0, 2, 4], [4, 2, 0, 3, 1]),
    ):
        button = head.filter(has_text=name).get_by_role("button")
        button.click()
        assert (order(page), page.get("sort"), page.get("reverse")) == (once, sort, False)
        first = head.filter(has_text=name).get_attribute("aria-sort")
        expect(button).to_be_focused()
        page.page.keyboard.press("Enter")
        assert (order(page), page.saved["sort"], page.saved["reverse"]) == (twice, sort, True)
        assert {first, head.filter(has_text=name).get_attribute("aria-sort")} == {"ascending", "descending"}


def test_run_again_and_cancel(shown):
    page = shown()
    box, run = page.page.get_by_label("Instruction", exact=True), page.page.get_by_role("button", name="Run again")
    page.page.get_by_label("Presets").select_option("code search")
    expect(box).to_have_value("Given a description of a task, retrieve code that performs it")
    expect(page.page.get_by_text("changed since this ranking")).to_be_visible()
    box.fill("Find what sorts")
    run.click()
    assert page.sent == [{"do": "run", "instruction": "Find what sorts", "query": QUERY}]
    assert page.saved["instruction"] == "Find what sorts"
    page.state(busy="Reranking 5 documents")
    expect(page.page.get_by_role("status").filter(has_text="Reranking 5 documents…")).to_be_visible()
    expect(run).to_be_disabled()
    box.press("Control+Enter")  # runs already
    box.press("Escape")
    page.page.get_by_role("button", name="Cancel").click()
    assert page.sent[1:] == [{"do": "cancel"}, {"do": "cancel"}]
    page.state(busy="", _note="Cancelled: the previous ranking is kept")
    expect(page.page.get_by_role("status").filter(has_text="Cancelled")).to_be_visible()
    expect(page.page.get_by_role("button", name="Cancel")).to_be_disabled()
    box.press("Control+Enter")
    assert page.sent[3:] == [{"do": "run", "instruction": "Find what sorts", "query": QUERY}]
    page.state(error="<b>refused</b> the connection")
    expect(page.page.get_by_role("alert")).to_have_text("<b>refused</b> the connection")


def test_a_new_ranking_moves_the_rows_and_may_be_compared(shown):
    page = shown()
    compare = page.page.get_by_role("button", name="Compare with previous")
    expect(compare).to_be_hidden()
    second = inspector(compare=inspector().ranking)
    second.ranking = reranker(OTHER).rank(QUERY, DOCUMENTS)
    page.state(_view=second._view, _previous="Find", busy="")
    assert order(page) == [0, 1, 3, 2, 4]
    compare.click()
    assert page.sent == [{"do": "compare", "on": True}]
    page.state(_other=second._other)
    expect(compare).to_be_hidden()
    second.close()


def test_two_rankings_side_by_side(shown):
    first = reranker(OTHER, instruction="Find lists").rank(QUERY, DOCUMENTS)
    page = shown(compare=first)
    summary = page.page.get_by_role("group", name="Comparison")
    expect(summary).to_match_aria_snapshot(
        """
        - group "Comparison":
          - text: Comparison Kendall tau 0.600
          - button "Stop comparing"
          - term: A
          - definition: Find lists
          - term: New
          - definition: Given a web search query, retrieve relevant passages that answer the query
          - term: Kendall tau
          - definition: /0\\.600/
          - term: Biggest movers
          - definition:
            - 'button "document 1 down 2: Shuffle a list in place"'
            - 'button "document 2 up 1: Sort the list in ascending order. The s…"'
            - 'button "document 4 up 1: Return a new sorted list"'
        """
    )
    assert page.page.locator(".q3-names span").all_text_contents() == ["Old", "A", "New"]
    expect(line(page, 0).locator("circle")).to_have_count(3)
    expect(line(page, 0)).to_have_attribute("aria-label", "document 1: old 1, A 1, new 3, down 2")
    expect(row(page, 0)).to_contain_text("down 2")
    expect(row(page, 0)).to_contain_text("0.875")
    summary.get_by_role("button", name="document 1 down 2: Shuffle a list in place").click()
    expect(row(page, 0)).to_be_focused()
    page.page.get_by_role("button", name="Stop comparing").click()
    assert page.sent == [{"do": "compare", "on": False}]


def test_relevance_is_marked_by_click_and_by_key(shown):
    page = shown()
    expect(page.page.get_by_role("group", name="Metrics")).to_have_count(0)
    page.page.get_by_role("button", name="Label relevance").click()
    expect(page.page.get_by_role("group", name="Metrics")).to_contain_text("0 of 5 judged")
    for label, words in ((1, "1, relevant"), (0, "0, not relevant"), (None, "none")):
        row(page, 3).get_by_role("button", name="Relevance").click()
        assert page.saved["labels"] == [None, None, None, label, None]
        expect(row(page, 3).get_by_role("button", name=f"Relevance of document 4: {words}")).to_be_visible()
        expect(row(page, 3)).to_be_focused()
    page.page.keyboard.press("2")
    page.page.keyboard.press("ArrowUp")
    page.page.keyboard.press("0")
    assert page.saved["labels"] == [None, 0, None, 2, None]
    page.page.keyboard.press("Delete")
    assert page.saved["labels"] == [None, None, None, 2, None]
    page.state(
        _metrics=[
            {"order": "Old", "ndcg": 0.43067, "mrr": 0.25, "hit_rate": 1.0, "judged": 5, "seen": 5, "condensed": None},
            {"order": "New", "ndcg": 0.63093, "mrr": 0.5, "hit_rate": 1.0, "judged": 5, "seen": 5, "condensed": None},
        ]
    )
    expect(page.page.get_by_role("table")).to_match_aria_snapshot(
        """
        - table:
          - rowgroup:
            - row:
              - cell
              - columnheader "Judged@10"
              - columnheader "nDCG@10"
              - columnheader "MRR"
              - columnheader "Hit rate@10"
          - rowgroup:
            - row "Old 5 of 5 0.431 0.250 1.000"
            - row "New 5 of 5 0.631 0.500 1.000"
        """
    )


def test_copies_the_kept_or_selected_documents(shown):
    page = shown(threshold=0.5, labels={1: 1})
    page.page.evaluate("document.body.append(Object.assign(document.createElement('textarea'), { id: 'paste' }))")

    def copied():
        page.page.get_by_role("button", name="Copy as JSON").click()
        page.page.get_by_role("button", name="Copied").wait_for()
        page.page.locator("#paste").fill("")
        page.page.locator("#paste").press("Control+v")
        page.page.get_by_role("button", name="Copy as JSON").wait_for()
        return json.loads(page.page.locator("#paste").input_value())

    said = copied()
    assert (said["query"], said["threshold"], said["top_n"]) == (QUERY, 0.5, None)
    assert [one["index"] for one in said["documents"]] == [1, 3]
    assert said["documents"][0] == {
        "rank": 0,
        "index": 1,
        "score": 1.0,
        "moved": 1,
        "truncated": False,
        "kept": True,
        "duplicate_of": None,
        "label": 1,
        "document": DOCUMENTS[1],
    }
    page.state(selection=[4])
    assert [(one["index"], one["duplicate_of"]) for one in copied()["documents"]] == [(4, 0)]


@pytest.fixture(scope="module")
def thousand():
    scores = {f"document {at} about lists": (at * 7919 % 1000) / 1000 for at in range(1000)}
    widget = RankInspector(
        reranker(scores),
        QUERY,
        list(scores),
        compare=reranker({text: 1 - score for text, score in scores.items()}).rank(QUERY, list(scores)),
    )
    return state_of(widget)


def test_of_a_thousand_documents_only_those_in_view_are_drawn(bare, thousand):
    page = bare("inspector", thousand)
    rows, lines = page.page.locator("[role=row][data-item]"), page.page.locator("[role=option]")

    def few():
        return 10 <= rows.count() <= 30 and lines.count() <= 3 * rows.count()

    best = thousand["_view"]["order"]
    assert few()
    expect(page.page.get_by_role("grid")).to_have_attribute("aria-rowcount", "1001")
    expect(row(page, best[0])).to_be_visible()
    expect(row(page, best[500])).to_have_count(0)
    page.page.locator(".q3-scroller").evaluate("element => { element.scrollTop = element.scrollHeight / 2; }")
    expect(row(page, best[500])).to_be_in_viewport()
    expect(row(page, best[500])).to_have_attribute("aria-rowindex", "502")
    expect(row(page, best[0])).to_have_count(0)
    expect(line(page, best[500])).to_have_count(1)
    assert few()
    row(page, best[500]).focus()
    page.page.keyboard.press("End")
    expect(row(page, best[999])).to_be_focused()
    expect(row(page, best[999])).to_be_in_viewport()
    assert few()
    for _ in range(3):
        page.page.keyboard.press("PageUp")
    assert few()
    page.page.keyboard.press("Home")
    expect(row(page, best[0])).to_be_focused()
    page.page.mouse.move(500, 700)
    page.page.mouse.wheel(0, 4000)  # the focused row leaves the view, but stays in the page, because it has the focus
    expect(row(page, best[30])).to_have_count(0)
    expect(row(page, best[0])).to_be_focused()
    expect(row(page, best[0])).not_to_be_in_viewport()
    assert few()
    page.page.get_by_role("columnheader", name="Old").get_by_role("button").click()
    expect(row(page, 0)).to_have_attribute("aria-rowindex", "2")
    assert few()


@pytest.mark.parametrize(
    ("theme", "dark", "colour"),
    [("light", False, "rgb(255, 255, 255)"), ("light", True, "rgb(255, 255, 255)"), ("dark", False, "rgb(33, 33, 33)")],
)
def test_colours_are_the_hosts(shown, theme, dark, colour):
    page = shown(theme=theme, dark=dark)
    for part in ("section", ".q3-head", "textarea"):
        assert page.page.locator(part).first.evaluate("element => getComputedStyle(element).backgroundColor") == colour
    ink = page.page.locator("h3").evaluate("element => getComputedStyle(element).color")
    assert (ink == "rgb(255, 255, 255)") == (theme == "dark")


@pytest.mark.parametrize("width", [1400, 1000, 600, 360])
def test_nothing_runs_over_the_edge(shown, width):
    page = shown(compare=reranker(OTHER).rank(QUERY, DOCUMENTS), labels={1: 1}, width=width)
    over = page.page.evaluate(
        "[...document.querySelectorAll('#root *:not(svg *)')].filter((one) => one.checkVisibility()"
        " && one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 200))"
    )
    assert over == []
    assert page.page.locator(".q3-scroller").evaluate("element => element.scrollWidth <= element.clientWidth")


def test_no_documents_and_no_reranker(shown):
    page = shown(RankInspector(reranker().rank(QUERY, [])))
    expect(page.page.get_by_text("No documents were ranked.")).to_be_visible()
    expect(page.page.get_by_role("button", name="Run again")).to_be_disabled()
    expect(page.page.get_by_text("ranking.inspect(reranker=reranker)")).to_be_visible()
    expect(page.page.get_by_text("Given a web search query")).to_be_visible()


def test_the_cleanup_ends_everything(shown):
    page = shown()
    page.page.evaluate("cleanup()")
    assert page.page.evaluate("Object.values(model.listeners).flat().length") == 0


def test_the_page_of_its_own_works_without_kernel_and_network(browser_page):
    widget = inspector(compare=reranker(OTHER).rank(QUERY, DOCUMENTS), labels={1: 1}, threshold=0.2)
    page = browser_page(dark=True)
    page.set_content(widget.to_html())
    widget.close()
    expect(page.get_by_role("heading", name=QUERY)).to_be_visible()
    expect(page.get_by_text("3 of 5 kept")).to_be_visible()
    for absent in ("Run again", "Stop comparing", "Label relevance"):
        expect(page.get_by_role("button", name=absent)).to_have_count(0)
    page.get_by_role("columnheader", name="Old").get_by_role("button").click()
    expect(page.locator("[role=row][aria-rowindex='2']")).to_have_attribute("data-item", "0")
    page.locator("[role=row][data-item='3']").hover()
    expect(page.locator("[role=option][data-item='3']")).to_have_class(re.compile("q3-lit"))
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    expect(page.get_by_text("1 of 5 kept")).to_be_visible()
    expect(page.locator("[role=row][data-item='1'] .q3-judge")).to_be_disabled()
    assert page.locator("section").evaluate("element => getComputedStyle(element).backgroundColor") == "rgb(30, 32, 36)"


def test_a_new_result_does_not_overwrite_typed_text(shown):
    page = shown()
    box, most = page.page.get_by_label("Instruction"), page.page.get_by_label("Keep at most")
    box.fill("my next, half-typed instruction")
    page.state(_view=page.get("_view") | {"seconds": 1.0}, busy="")
    expect(box).to_have_value("my next, half-typed instruction")
    most.fill("12")
    page.state(_view=page.get("_view") | {"seconds": 2.0})
    expect(most).to_have_value("12")


def test_labels_set_in_python_show_the_metrics(shown):
    page = shown()
    labelled = inspector(labels=[1, 0, 0, 0, 0])
    expect(page.page.get_by_role("button", name="Label relevance")).to_have_attribute("aria-pressed", "false")
    page.state(labels=[1, 0, 0, 0, 0], _metrics=state_of(labelled)["_metrics"])
    expect(page.page.get_by_role("button", name="Label relevance")).to_have_attribute("aria-pressed", "true")
    expect(page.page.get_by_role("columnheader", name="Relevance")).to_be_visible()


def test_documents_are_searched(shown):
    page = shown(threshold=0.2)
    search = page.page.get_by_role("searchbox", name="Search documents")
    search.fill("LIST shuffle")
    expect(page.page.get_by_text("2 of 5", exact=True)).to_be_visible()
    assert order(page) == [0, 4]
    expect(row(page, 0).locator("mark")).to_have_text(["Shuffle", "list"])
    expect(row(page, 0).get_by_role("gridcell").nth(1)).to_have_text("3")  # its place among all
    expect(page.page.get_by_text("1 kept")).to_be_visible()
    row(page, 0).focus()
    page.page.keyboard.press("ArrowDown")
    expect(row(page, 4)).to_be_focused()
    search.fill("the very end")  # far from the beginning
    expect(row(page, 1)).to_contain_text("The very end.")
    search.fill("no such words")
    expect(page.page.get_by_text("No document has these words.")).to_be_visible()
    assert order(page) == []
    search.press("Escape")
    assert len(order(page)) == 5


def test_scores_near_one_differ_on_the_log_odds_axis(shown):
    close = dict(zip(DOCUMENTS, (0.96, 0.996, 0.9996, 1.0, 0.0), strict=True))
    page = shown(RankInspector(reranker(close), QUERY, DOCUMENTS))
    width = lambda item: row(page, item).locator(".q3-fill").bounding_box()["width"]  # noqa: E731
    assert abs(width(0) - width(1)) < 4
    page.page.get_by_label("Score axis").select_option("log-odds")
    assert page.saved["scale"] == "log_odds"
    assert width(1) - width(0) > 4
    expect(row(page, 1)).to_contain_text("+5.52")
    expect(row(page, 3)).to_contain_text("+16.12")
    expect(row(page, 4)).to_contain_text("−16.12")


def test_many_documents_open_an_overview_on_hover_and_focus(shown):
    scores = {f"document number {at}": (at * 37 % 150) / 150 for at in range(150)}
    widget = RankInspector(Reranker(FakeEngine("rerank", score=lambda query, document: scores[document])), QUERY, list(scores))
    page = shown(widget)
    first = order(page)[0]
    overview = page.page.locator("g.q3-overview > *")
    expect(overview).to_have_count(0)
    row(page, first).hover()
    expect(page.page.locator(".q3-overview text")).to_have_text([str(first + 1), "1"])
    page.page.mouse.move(0, 0)
    expect(overview).to_have_count(0)
    row(page, first).focus()
    expect(page.page.locator(".q3-overview text")).to_have_text([str(first + 1), "1"])
    assert line(page, first).locator(".q3-line").get_attribute("d").count("M") == 2  # an arrow


def test_another_query_is_sent(shown):
    page = shown()
    query = page.page.get_by_role("textbox", name="Query")
    query.fill("What shuffles?")
    expect(page.page.get_by_text("changed since this ranking")).to_be_visible()
    query.press("Enter")
    assert page.sent == [
        {
            "do": "run",
            "instruction": "Given a web search query, retrieve relevant passages that answer the query",
            "query": "What shuffles?",
        }
    ]
    page.state(busy="Reranking 5 documents", _progress={"done": 2, "total": 5, "left_s": 90})
    expect(page.page.get_by_role("progressbar")).to_have_attribute("value", "0.4")
    expect(page.page.get_by_text("2 of 5 · about 2 min left")).to_be_visible()
    page.state(busy="")
    expect(page.page.get_by_role("progressbar")).to_be_hidden()


def test_the_first_row_is_near_the_top_of_a_narrow_notebook(shown):
    page = shown(compare=reranker(OTHER).rank(QUERY, DOCUMENTS), labels={1: 1}, width=400)
    top = page.page.locator(".q3-inspector").bounding_box()["y"]
    assert page.page.locator("[role=row][data-item]").first.bounding_box()["y"] - top < 480
    page.page.get_by_text("Query and instruction").click()
    expect(page.page.get_by_role("button", name="Run again")).to_be_visible()
    page.page.locator(".q3-metrics summary").click()
    page.state(threshold=0.5)  # drawn again, and still open
    expect(page.page.get_by_text("Judged@10")).to_be_visible()


def test_few_of_many_documents_say_so(shown):
    hits = tuple(Hit(at, at, 1 - at / 12_000, f"document {at}") for at in range(12_000))
    widget = RankInspector(Ranking(QUERY, "i", "m", hits, (), Usage(12_000), Timing(0, 1)))
    page = shown(widget)
    page.state(labels={"11999": 1})
    expect(page.page.get_by_text("12,000 documents · the first 10,000 are shown")).to_be_visible()
    expect(page.page.get_by_text("at least 10,000 of 12,000 kept")).to_be_visible()
    row(page, 0).focus()
    page.page.keyboard.press("1")
    assert page.saved["labels"] == {"11999": 1, "0": 1}
