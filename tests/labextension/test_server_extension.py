"""The server extension over HTTP: login, lists without keys, starts with the kernel's Python, and ends."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from qwen3_integrations.serving.records import FOLDER_VARIABLE
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]

ROUTES = [
    ("GET", "qwen3/servers"),
    ("DELETE", "qwen3/servers/embed-x-1"),
    ("GET", "qwen3/servers/embed-x-1/code"),
    ("POST", "qwen3/panels"),
    ("GET", "qwen3/panels/x"),
    ("DELETE", "qwen3/panels/x"),
    ("POST", "qwen3/panels/x/actions"),
]


def opened(jupyter, **words):
    return jupyter.json("qwen3/panels", "POST", words)["panel"]


def traits(jupyter, panel, since=0):
    return jupyter.json(f"qwen3/panels/{panel}?since={since}")["traits"]


def act(jupyter, panel, what, **words):
    return jupyter.json(f"qwen3/panels/{panel}/actions", "POST", {"do": what, **words})["replies"]


def filled(jupyter, *, more="", **words):
    """A panel whose form has the small model and the kernel's engine."""
    panel = opened(jupyter, kernel="engine", **words)
    for name, value in {"engine": "vllm", "model": "qwen3-tiny-demo", "max_tokens": "1024", "extra_args": more}.items():
        act(jupyter, panel, "set", name=name, value=value)
    return panel


def state(jupyter, panel):
    return traits(jupyter, panel)["state"]


def overview(jupyter):
    return jupyter.json("qwen3/servers")


@pytest.fixture
def running(jupyter):
    """Panel and name of a server that is ready; stopped afterwards."""
    panel = filled(jupyter)
    act(jupyter, panel, "start")
    until(lambda: state(jupyter, panel) in ("ready", "failed"))
    shown = traits(jupyter, panel)
    assert shown["state"] == "ready", shown["first_error"] or shown["error"]
    yield panel, shown["info"]["name"]
    act(jupyter, panel, "stop")
    until(lambda: overview(jupyter)["servers"] == [])


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_needs_the_login(jupyter, method, path):
    status, text = jupyter.ask(path, method, {} if method == "POST" else None, token=False)
    assert status in (302, 401, 403), text


def test_a_page_of_another_site_can_not_start_a_server(jupyter):
    request = urllib.request.Request(f"{jupyter.url}qwen3/panels", b"{}", {"Origin": "http://evil.example"}, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    refused.value.close()
    assert refused.value.code in (403, 404)  # Jupyter's own check of the origin


def test_the_kernels_python_that_has_the_engine_is_chosen(jupyter, engine_python):
    panel = opened(jupyter, kernel="engine")
    shown = traits(jupyter, panel)
    assert shown["form"]["python"] == str(engine_python)
    (field,) = (field for field in shown["fields"] if field["name"] == "python")
    assert str(engine_python) in field["choices"]["embed"]
    assert "Python (engine)" in field["help"]
    assert field["group"] == ""
    jupyter.json(f"qwen3/panels/{panel}", "DELETE")
    assert jupyter.json(f"qwen3/panels/{panel}") == {"closed": True}


def test_a_form_shows_errors_and_the_memory_plan_before_a_start(jupyter):
    panel = filled(jupyter, task="rerank")
    act(jupyter, panel, "set", name="port", value="70000")
    assert "port" in traits(jupyter, panel)["wrong"]
    act(jupyter, panel, "set", name="port", value="")
    act(jupyter, panel, "show", view="a")
    until(lambda: traits(jupyter, panel)["preview"].get("parts"))
    preview = traits(jupyter, panel)["preview"]
    assert [part["name"] for part in preview["parts"]] == ["weights", "cache", "forward pass", "runtime"]
    assert preview["devices"][0]["name"] == "this machine"
    assert "vllm.entrypoints" in preview["command"]
    jupyter.json(f"qwen3/panels/{panel}", "DELETE")


def test_only_changes_are_sent_and_every_page_sees_them(jupyter):
    panel = filled(jupyter)
    first = jupyter.json(f"qwen3/panels/{panel}?since=0")
    assert {"fields", "form", "state", "tail"} <= set(first["traits"])
    assert jupyter.json(f"qwen3/panels/{panel}?since={first['revision']}")["traits"] == {}
    act(jupyter, panel, "set", name="concurrency", value="7")
    for _ in range(2):  # two pages
        changed = jupyter.json(f"qwen3/panels/{panel}?since={first['revision']}")
        assert changed["traits"]["form"]["concurrency"] == "7"
        assert "fields" not in changed["traits"]
    jupyter.json(f"qwen3/panels/{panel}", "DELETE")


def test_a_server_is_started_listed_used_and_stopped_and_no_list_has_its_key(jupyter, running):
    panel, name = running
    (server,) = overview(jupyter)["servers"]
    assert server | {"name": name, "task": "embed", "state": "ready", "owned": True, "keep_running": False, "panel": panel} == server
    replies = act(jupyter, panel, "key", view="mine")
    key = replies[0]["key"]
    assert replies == [{"view": "mine", "key": key}]
    assert len(key) == 64
    act(jupyter, panel, "show", view="mine")
    until(lambda: traits(jupyter, panel)["load"].get("healthy"))
    shown = jupyter.json(f"qwen3/panels/{panel}?since=0")
    assert "Application startup complete" in "\n".join(shown["traits"]["tail"]["lines"])
    code = jupyter.json(f"qwen3/servers/{name}/code")
    assert list(code) == ["langchain", "llama_index", "openai", "curl"]
    for text in (json.dumps(overview(jupyter)), json.dumps(shown), json.dumps(code), jupyter.log()):
        assert key not in text
    # another tab that opens the server gets the same panel
    assert opened(jupyter, server=name) == panel
    # its owner is the Jupyter server, so it ends with it
    assert shown["traits"]["info"]["owner"] == "this Jupyter server"


def test_a_server_restarts_at_the_same_address(jupyter, running):
    panel, name = running
    before = overview(jupyter)["servers"][0]
    act(jupyter, panel, "restart")
    until(lambda: state(jupyter, panel) != "ready")
    until(lambda: state(jupyter, panel) in ("ready", "failed"))
    after = overview(jupyter)["servers"][0]
    assert (after["name"], after["url"], after["state"]) == (name, before["url"], "ready")


def test_a_failed_start_shows_the_first_error_until_it_is_dismissed(jupyter):
    panel = filled(jupyter, more="--fail")
    act(jupyter, panel, "start")
    until(lambda: state(jupyter, panel) == "failed")
    (start,) = overview(jupyter)["starts"]
    assert start["panel"] == panel
    assert start["first_error"] == "RuntimeError: the engine was asked to fail"
    jupyter.json(f"qwen3/panels/{panel}", "DELETE")
    assert overview(jupyter)["starts"] == []


def test_a_start_can_be_cancelled(jupyter):
    panel = filled(jupyter, more="--slow")
    act(jupyter, panel, "start")
    until(lambda: overview(jupyter)["servers"])
    (server,) = overview(jupyter)["servers"]
    assert server["panel"] == panel
    assert server["state"] not in ("ready", "failed")
    act(jupyter, panel, "cancel")
    until(lambda: state(jupyter, panel) == "stopped" and overview(jupyter)["servers"] == [])


def test_devices_have_memory_and_curves(jupyter):
    (device,) = overview(jupyter)["devices"]
    assert 0 < device["used_bytes"] < device["total_bytes"]
    until(lambda: len(overview(jupyter)["devices"][0]["curves"]["memory"]) > 1)
    assert all(0 <= value <= 1 for values in overview(jupyter)["devices"][0]["curves"].values() for value in values)


@pytest.mark.parametrize(
    ("path", "method", "body", "words"),
    [
        ("qwen3/panels", "POST", {"server": "nothing"}, "no server 'nothing' is running here"),
        ("qwen3/panels", "POST", {"task": "sort"}, "task"),
        ("qwen3/servers/nothing", "DELETE", None, "no server 'nothing' is running here"),
        ("qwen3/panels", "POST", [1], "must be a JSON object"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_message(jupyter, path, method, body, words):
    status, text = jupyter.ask(path, method, body)
    assert status == 400
    assert words in json.loads(text)["message"]


def pids(jupyter):
    records = [json.loads(path.read_text()) for path in Path(jupyter.state).glob("*.json")]
    return {record["name"]: record["server_pid"] for record in records}


def test_servers_end_with_the_jupyter_server_unless_they_are_kept(jupyter, monkeypatch):
    panels = [filled(jupyter, task="embed"), filled(jupyter, task="embed", more="--kept")]
    for panel in panels:
        act(jupyter, panel, "start")
    until(lambda: all(state(jupyter, panel) in ("ready", "failed") for panel in panels))
    names = [traits(jupyter, panel)["info"]["name"] for panel in panels]
    act(jupyter, panels[1], "keep", on=True)
    processes = pids(jupyter)
    assert set(names) <= set(processes)
    jupyter.stop()
    try:
        until(lambda: not psutil.pid_exists(processes[names[0]]))
        assert psutil.pid_exists(processes[names[1]])
    finally:
        jupyter.start()
    (server,) = overview(jupyter)["servers"]
    assert (server["name"], server["owned"], server["keep_running"]) == (names[1], False, True)
    jupyter.json(f"qwen3/servers/{names[1]}", "DELETE")
    until(lambda: overview(jupyter)["servers"] == [])
    assert FOLDER_VARIABLE not in os.environ
