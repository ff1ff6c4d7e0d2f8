"""The panel's real JavaScript in a browser: each state, the messages of clicks and keys, and the use of the key."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("anywidget")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from qwen3_integrations.models.memory import GIB, MemoryPlan
from qwen3_integrations.notebook import ServerPanel
from qwen3_integrations.notebook.panel_views import preview_view
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.preview import Preview
from qwen3_integrations.serving.sizing import Device
from qwen3_integrations.serving.snippets import snippets
from tests.widgets.hosts import WIDTHS, violations, wrong_texts

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TRAITS = (
    "state",
    "note",
    "first_error",
    "progress",
    "fields",
    "form",
    "wrong",
    "preview",
    "info",
    "load",
    "tail",
    "others",
    "busy",
    "error",
)
HOSTILE = "<img src=x onerror=alert(1)> <script>alert(1)</script>"
PLAN = MemoryPlan("m", GIB, 3 * GIB, GIB // 4, 3 * GIB // 2, 32896, 114688, 8192, 8192)
URL = "http://127.0.0.1:8000"
INFO = {
    "name": "rerank-m-8000",
    "task": "rerank",
    "model": "Qwen/Qwen3-Reranker-0.6B",
    "program": "vllm 0.32.0",
    "url": URL,
    "address": f"{URL}/v1",
    "key": "known",
    "keep_running": False,
    "owned": True,
    "snippets": snippets("embed", "m", URL, has_key=True),
    "command": "python -m vllm serve",
    "cli": "qwen3-integrations serve rerank",
}
LOAD = {
    "healthy": True,
    "running": 3,
    "waiting": 12,
    "requests": 1204,
    "tokens": 90000,
    "rates": [0, 1200.5, 2040.4],
    "up": "3 min",
    "pid": 10,
    "owner_pid": 9,
}
LOG = {"first": 0, "lines": [f"INFO line {number}" for number in range(100)], "path": "/state/rerank-m-8000.log"}
OTHER = {"name": "embed-x-8001", "model": "x", "task": "embed", "program": "vllm 0.32.0", "url": "http://127.0.0.1:8001"}


@pytest.fixture(scope="module")
def idle():
    """The traits of a new panel."""
    panel = ServerPanel(task="embed")
    state = panel.get_state()
    panel.close()
    return {name: state[name] for name in TRAITS} | {"preview": planned(43 * GIB)}


@pytest.fixture
def ready(idle):
    return idle | {"state": "ready", "note": "started in 38 s", "info": INFO, "load": LOAD, "tail": LOG}


def planned(free, refusal="", **more):
    return preview_view(
        Preview(True, PLAN, (Device("GPU 0 (H100)", 80 * GIB, free),), ("vllm", "serve"), refusal), ServerOptions(task="embed", **more)
    )


def sent_actions(widget, what):
    return [message for message in widget.sent if message["do"] == what]


def shown(widget):
    """The visible text."""
    return widget.page.locator(".q3-panel").inner_text()


# Before a start


def test_the_form_and_the_plan_are_visible_first(bare, idle):
    page = bare("panel", idle).page
    expect(page.locator(".q3-panel")).to_match_aria_snapshot("""
      - region "Server panel":
        - status:
          - strong: stopped
        - text: Qwen/Qwen3-Embedding-0.6B embed auto
        - button "Start"
        - form "Options":
          - text: Task
          - combobox "Task":
            - option "embed" [selected]
            - option "rerank"
          - text: What the model does. Model
          - combobox "Model"
          - text: A hub's name, a folder, or qwen3-tiny-demo. Engine
          - combobox "Engine":
            - option "auto" [selected]
            - option "torch"
            - option "vllm"
            - option "sglang"
          - text: "The program that serves: torch is our own server; auto takes it where it can serve model and options, else vLLM. Port"
          - textbox "Port":
            - /placeholder: any free one
          - text: The port to listen on; 0 for a free one. Longest prompt
          - textbox "Longest prompt":
            - /placeholder: "8192"
          - text: Longest prompt in tokens, template included. Concurrency
          - textbox "Concurrency":
            - /placeholder: "4"
          - text: How many prompts of max_tokens the key-value cache can hold at once. Precision
          - combobox "Precision":
            - option "auto" [selected]
            - option "bfloat16"
            - option "float16"
            - option "float32"
          - text: Number format; auto takes the checkpoint's, and with torch bfloat16 on a GPU, else float32.
          - group: More options
        - region "Memory":
          - heading "Memory" [level=4]
          - text: GPU 0 (H100) needs 5.75 GiB of 43.00 GiB free
          - 'img "GPU 0 (H100): needs 5.75 GiB of 43.00 GiB free"'
          - term: weights
          - definition: 1.00 GiB
          - term: cache
          - definition: 3.00 GiB
          - term: forward pass
          - definition: 0.25 GiB
          - term: runtime
          - definition: 1.50 GiB
          - term: together
          - definition: 5.75 GiB
    """)
    assert page.get_by_label("Model").get_attribute("placeholder") == "Qwen/Qwen3-Embedding-0.6B"
    assert page.locator(".q3-log").is_hidden()
    for name in ("Stop", "Restart", "Detach", "Cancel", "Copy key"):
        assert page.get_by_role("button", name=name, exact=True).is_hidden()


def test_each_input_is_sent_once(bare, idle):
    widget = bare("panel", idle)
    page = widget.page
    page.get_by_label("Task").select_option("rerank")
    page.get_by_label("Longest prompt").fill("1024")
    page.get_by_label("Port").focus()
    page.get_by_text("More options").click()
    page.get_by_label("Ask for no key").check()
    page.wait_for_timeout(600)
    assert sent_actions(widget, "set") == [
        {"do": "set", "name": "task", "value": "rerank"},
        {"do": "set", "name": "max_tokens", "value": "1024"},
        {"do": "set", "name": "without_key", "value": True},
    ]


def test_typed_text_is_sent_after_a_pause_and_not_overwritten(bare, idle):
    widget = bare("panel", idle)
    field = widget.page.get_by_label("Concurrency")
    field.press_sequentially("16", delay=20)
    widget.state(form=idle["form"] | {"concurrency": "1"}, wrong={})  # an older answer
    assert field.input_value() == "16"
    widget.page.wait_for_function("model.sent.some((message) => message.do === 'set')")
    assert sent_actions(widget, "set")[0] == {"do": "set", "name": "concurrency", "value": "16"}


def test_enter_in_a_field_starts_with_what_was_typed(bare, idle):
    widget = bare("panel", idle)
    widget.page.get_by_label("Model").fill("qwen3-tiny-demo")
    widget.page.keyboard.press("Enter")
    words = [message for message in widget.sent if message["do"] in ("set", "start")]
    assert words[0] == {"do": "set", "name": "model", "value": "qwen3-tiny-demo"}
    assert words[-1] == {"do": "start"}


def test_an_error_is_shown_under_its_field_and_prevents_a_start(bare, idle):
    widget = bare("panel", idle)
    page = widget.page
    widget.state(wrong={"port": "port must be a number", "revision": "revision is wrong"})
    for label, message in (("Port", "port must be a number"), ("Revision", "revision is wrong")):
        field = page.get_by_label(label, exact=True)
        expect(field).to_be_visible()  # the closed group opens
        assert field.get_attribute("aria-invalid") == "true"
        expect(field).to_have_accessible_description(message)
    assert page.get_by_role("button", name="Start").is_disabled()
    page.get_by_label("Port").press("Enter")
    assert not sent_actions(widget, "start")
    widget.state(wrong={})
    expect(page.get_by_label("Port")).to_have_accessible_description("The port to listen on; 0 for a free one.")
    assert page.get_by_role("button", name="Start").is_enabled()


def test_the_model_is_proposed_for_its_task(bare, idle):
    widget = bare("panel", idle)
    widget.state(form=idle["form"] | {"task": "rerank"})
    model = widget.page.get_by_label("Model")
    assert model.get_attribute("placeholder") == "Qwen/Qwen3-Reranker-0.6B"
    proposed = widget.page.locator("datalist option").evaluate_all("(options) => options.map((option) => option.value)")
    assert proposed == ["Qwen/Qwen3-Reranker-0.6B", "Qwen/Qwen3-Reranker-4B", "Qwen/Qwen3-Reranker-8B", "qwen3-tiny-demo"]


def test_the_number_of_hidden_options_that_are_set_is_shown(bare, idle):
    widget = bare("panel", idle)
    expect(widget.page.locator("form summary")).to_have_text("More options")
    widget.state(form=idle["form"] | {"prefix_caching": False, "host": "0.0.0.0", "dtype": "float32"})
    expect(widget.page.locator("form summary")).to_have_text("More options2 set")


def test_a_plan_that_does_not_fit_is_explained_and_prevents_a_start(bare, idle):
    widget = bare(
        "panel", idle | {"preview": planned(4 * GIB, refusal="m needs 5.75 GiB, but GPU 0 has 4.00 GiB free. concurrency=1 would fit")}
    )
    page = widget.page
    expect(page.get_by_role("img", name="GPU 0 (H100): needs 5.75 GiB, 4.00 GiB free: 1.75 GiB too much")).to_be_visible()
    expect(page.get_by_text("concurrency=1 would fit")).to_be_visible()
    start = page.get_by_role("button", name="Start")
    assert start.is_disabled()
    expect(start).to_have_accessible_description(re.compile("1.75 GiB too much"))
    bar = page.locator(".q3-memory").evaluate("(bar) => [bar.scrollWidth, bar.clientWidth]")
    assert bar[0] <= bar[1] + 5
    widget.state(preview=planned(43 * GIB))
    assert start.is_enabled()


def test_the_parts_of_the_bar_have_their_shares(bare, idle):
    page = bare("panel", idle).page
    whole = page.locator(".q3-memory").bounding_box()["width"]
    widths = [part.bounding_box()["width"] / whole for part in page.locator(".q3-memory > div").all()]
    assert widths == pytest.approx([37 / 80, 1 / 80, 3 / 80, 0.25 / 80, 1.5 / 80], abs=0.003)


def test_a_missing_model_and_a_public_host_are_mentioned(bare, idle):
    view = preview_view(Preview(False, devices=(Device("GPU 0", 8 * GIB, 8 * GIB),)), ServerOptions(task="embed", host="0.0.0.0"))
    text = shown(bare("panel", idle | {"preview": view}))
    assert "Qwen/Qwen3-Embedding-0.6B is not on this machine yet: Start downloads it" in text
    assert "can be reached by other machines" in text


def test_running_servers_can_be_attached_to_and_keep_the_focus(bare, idle):
    widget = bare("panel", idle | {"others": [OTHER]})
    attach = widget.page.get_by_role("button", name="Attach to embed-x-8001")
    attach.focus()
    widget.state(others=[{**OTHER, "name": "embed-w-8002"}, OTHER])
    expect(attach).to_be_focused()
    widget.page.keyboard.press("Enter")
    assert sent_actions(widget, "attach") == [{"do": "attach", "name": "embed-x-8001"}]


# A start


def test_a_download_shows_how_much_is_there(bare, idle):
    progress = {"fraction": 0.43, "detail": "0.5 GB of 1.2 GB", "elapsed_s": 61}
    widget = bare("panel", idle | {"state": "downloading", "progress": progress})
    page = widget.page
    assert page.get_by_role("progressbar").get_attribute("aria-valuenow") == "43"
    expect(page.get_by_text("43 % · 0.5 GB of 1.2 GB")).to_be_visible()
    expect(page.locator(".q3-state")).to_contain_text(re.compile("6[12] s"))
    assert page.get_by_role("form").is_hidden()
    widget.state(state="loading", progress={"fraction": None, "detail": "Loading safetensors", "elapsed_s": 70})
    expect(page.locator("[aria-current=step]")).to_have_text("loading")
    assert page.get_by_role("progressbar").get_attribute("aria-valuenow") is None
    expect(page.get_by_role("status")).to_have_text(re.compile("loading"))
    page.get_by_role("button", name="Cancel").click()
    assert sent_actions(widget, "cancel") == [{"do": "cancel"}]
    widget.state(busy="Cancelling")
    expect(page.get_by_role("status")).to_have_text(re.compile("Cancelling…"))
    assert page.get_by_role("button", name="Cancel").is_disabled()


@pytest.mark.parametrize(
    ("state", "kind"),
    [("stopped", "idle"), ("failed", "bad"), ("ready", "good")]
    + [(phase, "busy") for phase in ("downloading", "starting", "loading", "compiling", "capturing", "answering")],
)
def test_every_state_has_its_word_and_its_light(bare, ready, state, kind):
    widget = bare("panel", ready | {"state": state})
    expect(widget.page.get_by_role("status").locator("strong")).to_have_text(state)
    assert widget.page.locator(".q3-light").get_attribute("data-kind") == kind


def test_a_failure_shows_the_first_error_and_keeps_the_log_and_the_form(bare, idle):
    widget = bare(
        "panel", idle | {"state": "failed", "note": "it did not start (exit code 1)", "first_error": f"ValueError: {HOSTILE}", "tail": LOG}
    )
    page = widget.page
    expect(page.get_by_role("alert").filter(has_text="First error")).to_contain_text(HOSTILE)
    lifted = page.locator(".q3-lifted").bounding_box()["y"]
    assert lifted < page.get_by_role("form").bounding_box()["y"] < page.get_by_role("log").bounding_box()["y"]
    assert page.get_by_role("button", name="Start").is_enabled()
    assert page.locator("img, script").count() == 0


# A server that is ready


def test_a_ready_server_shows_its_address_and_load(bare, ready):
    page = bare("panel", ready).page
    expect(page.locator(".q3-panel")).to_match_aria_snapshot("""
      - region "Server panel":
        - status:
          - strong: ready
          - text: started in 38 s
        - text: up 3 min Qwen/Qwen3-Reranker-0.6B rerank vllm 0.32.0
        - button "Detach"
        - button "Restart"
        - button "Stop"
        - region "Address":
          - text: Address
          - code: http://127.0.0.1:8000/v1
          - button "Copy"
          - text: Key
          - code: /•+/
          - button "Copy key"
          - text: Life
          - checkbox "Keep running"
          - text: Keep running ends with this kernel
        - region "Load":
          - term: Health
          - definition: good
          - term: In flight
          - definition: "3"
          - term: Queue
          - definition: "12"
          - term: Answered
          - definition: 1,204
          - term: Tokens per second
          - definition: 2,040
          - definition:
            - text: most 2,040
            - 'img "the last 3 looks: now 2,040, most 2,040"'
        - region "Use it":
          - heading "Use it" [level=4]
          - tablist "Clients":
            - tab "curl" [selected]
            - tab "openai"
            - tab "LangChain"
            - tab "LlamaIndex"
          - button "Copy"
          - tabpanel "curl": /curl http.*QWEN3_API_KEY/
        - region "Log of the server":
          - heading "Log" [level=4]
          - text: /state/rerank-m-8000.log
          - button "Pause"
          - button "Copy"
          - log "Log": /INFO line 0 .* INFO line 99/
        - group: Command line
    """)
    assert page.get_by_role("form").is_hidden()


@pytest.mark.parametrize("name", ["Detach", "Restart", "Stop"])
def test_actions_on_a_server_are_sent_to_python(bare, ready, name):
    widget = bare("panel", ready)
    widget.page.get_by_role("button", name=name, exact=True).click()
    assert sent_actions(widget, name.lower()) == [{"do": name.lower()}]
    widget.state(busy="Working")
    assert widget.page.get_by_role("button", name=name, exact=True).is_disabled()


def test_keep_running_is_a_switch(bare, ready):
    widget = bare("panel", ready)
    widget.page.get_by_label("Keep running").check()
    assert sent_actions(widget, "keep") == [{"do": "keep", "on": True}]
    widget.state(info=INFO | {"keep_running": True})
    assert "until somebody stops it" in shown(widget)
    widget.state(info=INFO | {"owned": False})
    assert "ends with process 9" in shown(widget)


def test_snippets_are_tabs_that_arrows_move_between(bare, ready):
    page = bare("panel", ready).page
    page.get_by_role("tab", name="curl").focus()
    code = page.get_by_role("tabpanel")
    for key, name, word in (
        ("ArrowRight", "openai", "OpenAI("),
        ("ArrowRight", "LangChain", "Qwen3Embeddings("),
        ("ArrowLeft", "openai", "OpenAI("),
    ):
        page.keyboard.press(key)
        expect(page.get_by_role("tab", name=name)).to_be_focused()
        expect(code).to_contain_text(word)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="LlamaIndex")).to_be_focused()
    page.get_by_role("tab", name="curl").click()
    expect(code).to_contain_text("$QWEN3_API_KEY")


COPIED = """() => {
  window.copied = [];
  const clipboard = { writeText: async (text) => { window.copied.push(text); } };
  Object.defineProperty(navigator, "clipboard", { value: clipboard, configurable: true });
}"""


def test_a_click_copies_the_key_only_to_the_clipboard(bare, ready):
    widget = bare("panel", ready)
    page = widget.page
    page.evaluate(COPIED)
    page.get_by_role("button", name="Copy key").click()
    (question,) = sent_actions(widget, "key")
    page.evaluate("() => model.fire('msg:custom', { view: 'another', key: 'not for here' })")
    page.evaluate("(view) => model.fire('msg:custom', { view, key: 'the-secret' })", question["view"])
    page.wait_for_function("copied.length > 0")
    assert page.evaluate("copied") == ["the-secret"]
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert "the-secret" not in page.content()
    assert "the-secret" not in str(page.evaluate("model.state"))
    widget.state(info=INFO | {"key": "none"})
    assert page.get_by_text("it asks for none").is_visible()
    assert page.locator("button", has_text="Cop").filter(has_text="key").is_hidden()


def test_address_snippets_log_and_commands_can_be_copied(bare, ready):
    page = bare("panel", ready).page
    page.evaluate(COPIED)
    page.get_by_text("Command line").click()
    buttons = page.get_by_role("button", name="Copy", exact=True)
    for _ in range(buttons.count()):
        buttons.first.click()  # its label becomes "Copied", so the next button is the first one
    assert page.evaluate("copied") == [f"{URL}/v1", INFO["snippets"]["curl"], "\n".join(LOG["lines"]), INFO["cli"], INFO["command"]]


def test_a_server_that_does_not_answer_is_shown_as_unhealthy(bare, ready):
    widget = bare("panel", ready | {"load": LOAD | {"healthy": False, "running": None, "waiting": None, "requests": None, "rates": []}})
    expect(widget.page.get_by_text("no answer")).to_be_visible()
    expect(widget.page.get_by_role("img", name="nothing yet")).to_be_visible()


# The log


def at_end(page):
    return page.evaluate(
        "() => { const log = document.querySelector('.q3-log'); return log.scrollHeight - log.scrollTop - log.clientHeight < 4; }"
    )


def more(count, first=0):
    return LOG | {"first": first, "lines": [f"INFO line {number}" for number in range(first, count)]}


def test_the_log_follows_new_lines_until_the_reader_scrolls_up(bare, ready):
    widget = bare("panel", ready)
    page = widget.page
    page.wait_for_function("document.querySelector('.q3-log').scrollTop > 0")
    widget.state(tail=more(120))
    assert at_end(page)
    log = page.get_by_role("log")
    log.evaluate("(log) => { log.scrollTop = 200; }")
    page.wait_for_timeout(50)
    widget.state(tail=more(123))
    assert log.evaluate("(log) => log.scrollTop") == pytest.approx(200, abs=2)
    newer = page.get_by_role("button", name="3 newer lines ↓")
    newer.click()
    assert at_end(page)
    assert newer.is_hidden()
    widget.state(tail=more(124))
    assert at_end(page)
    assert log.inner_text().splitlines() == more(124)["lines"]


def test_a_log_longer_than_is_kept_loses_its_beginning(bare, ready):
    widget = bare("panel", ready)
    widget.state(tail=more(130, first=30))
    assert widget.page.get_by_role("log").inner_text().splitlines() == more(130, first=30)["lines"]
    widget.state(tail=more(900, first=500))  # many at once
    assert widget.page.get_by_role("log").inner_text().splitlines() == more(900, first=500)["lines"]
    widget.state(tail=more(2))  # another log
    assert widget.page.get_by_role("log").inner_text().splitlines() == more(2)["lines"]


def test_the_log_can_be_held_still(bare, ready):
    widget = bare("panel", ready)
    page = widget.page
    page.get_by_role("button", name="Pause").press("Enter")
    widget.state(tail=more(110))
    assert "line 109" not in page.get_by_role("log").inner_text()
    held = page.get_by_role("button", name="Resume, 10 newer")
    assert held.get_attribute("aria-pressed") == "true"
    held.click()
    assert "line 109" in page.get_by_role("log").inner_text()
    assert at_end(page)


def test_errors_and_warnings_stand_out_and_lines_stay_text(bare, ready):
    lines = ["INFO fine", "(EngineCore pid=1) ERROR 11-25 broke", "WARNING hm", "ValueError: x", HOSTILE]
    page = bare("panel", ready | {"tail": LOG | {"lines": lines}}).page
    assert page.locator(".q3-severe").all_inner_texts() == ["(EngineCore pid=1) ERROR 11-25 broke\n", "ValueError: x\n"]
    assert page.locator(".q3-mild").all_inner_texts() == ["WARNING hm\n"]
    expect(page.get_by_role("log")).to_contain_text(HOSTILE)
    assert page.locator("img, script").count() == 0


# Being seen


def test_python_gets_a_message_when_the_panel_becomes_visible_or_hidden(bare, ready):
    widget = bare("panel", ready)
    page = widget.page
    page.wait_for_function("model.sent.some((message) => message.do === 'show')")
    (first,) = sent_actions(widget, "show")
    page.evaluate("() => { document.body.style.paddingTop = '5000px'; }")
    page.wait_for_function("model.sent.some((message) => message.do === 'hide')")
    page.evaluate("() => { document.body.style.paddingTop = ''; }")
    page.wait_for_function("model.sent.filter((message) => message.do === 'show').length === 2")
    page.evaluate("() => cleanup()")
    assert sent_actions(widget, "hide") == [{"do": "hide", "view": first["view"]}] * 2
    listening = page.evaluate("Object.values(model.listeners).flat().length")
    assert listening == 0


# Looks


OUTSIDE = """(all, [left, right]) => all.filter((each) => {
  const box = each.getBoundingClientRect();
  return box.left < left - 1 || box.right > right + 1;
}).map((each) => each.className || each.tagName)"""
"""Names the elements that exceed the panel's edges, except those in a box that scrolls or clips."""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 600, 360])
def test_nothing_overflows(bare, ready, idle, theme, width):
    long = "a-very-long-name-" * 12
    for state in (
        ready | {"info": INFO | {"model": long, "address": f"{URL}/{long}", "command": long, "cli": long}},
        idle | {"preview": planned(4 * GIB, refusal=long), "others": [OTHER | {"name": long}], "error": long, "wrong": {"port": long}},
        idle
        | {
            "state": "loading",
            "progress": {"fraction": None, "detail": long, "elapsed_s": 1},
            "first_error": long,
            "tail": LOG | {"path": long},
        },
    ):
        page = bare("panel", state, theme=theme, width=width).page
        page.locator("summary").last.click()
        root = page.locator(".q3-panel").bounding_box()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        seen = page.locator(".q3-panel *:visible:not(pre *):not(.q3-memory *):not(bdi)")
        outside = seen.evaluate_all(OUTSIDE, [root["x"], root["x"] + root["width"]])
        assert outside == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_reads_well_at_every_width(bare, ready, idle, theme):
    states = {
        "form": idle | {"others": [OTHER], "wrong": {"port": "port must be a whole number from 0 to 65535"}},
        "refused": idle | {"preview": planned(4 * GIB, refusal="m needs 5.75 GiB, but GPU 0 has 4.00 GiB free. concurrency=1 would fit")},
        "download": idle | {"state": "downloading", "progress": {"fraction": 0.43, "detail": "0.5 GB of 1.2 GB", "elapsed_s": 61}},
        "start": idle | {"state": "loading", "progress": {"fraction": None, "detail": "Loading safetensors", "elapsed_s": 70}, "tail": LOG},
        "ready": ready | {"load": LOAD | {"running": 4096, "waiting": 65536, "requests": 123456789, "rates": [1.0, 1234567.0]}},
        "no answer": ready | {"load": LOAD | {"healthy": False, "running": None, "waiting": None, "requests": None, "rates": []}},
        "failed": idle
        | {"state": "failed", "note": "it did not start (exit code 1)", "first_error": f"ValueError: {HOSTILE}", "tail": LOG},
    }
    widget, found = bare("panel", idle, theme=theme), {}
    root = widget.page.locator(".q3-panel")
    for name, state in states.items():
        widget.state(**state)
        for width in WIDTHS:
            widget.page.set_viewport_size({"width": width, "height": 900})
            if wrong := wrong_texts(root):
                found[f"{name} {width}"] = wrong
        if wrong := violations(root):
            found[f"axe, {name}"] = wrong
    assert found == {}


def test_a_dark_browser_with_a_light_notebook_stays_light(bare, idle):
    page = bare("panel", idle, dark=True).page
    assert page.locator(".q3-panel").evaluate("(root) => getComputedStyle(root).backgroundColor") == "rgb(255, 255, 255)"
    dark = bare("panel", idle, theme="dark").page
    assert dark.locator(".q3-panel").evaluate("(root) => getComputedStyle(root).backgroundColor") == "rgb(33, 33, 33)"


def test_everything_is_reached_by_tab(bare, ready):
    page = bare("panel", ready).page
    reached = []
    page.locator("body").focus()
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.slice(0, 12)")
        )
    for name in ("Detach", "Restart", "Stop", "Copy", "Copy key", "curl", "Pause", "Log", "Command line"):
        assert name in reached, reached
