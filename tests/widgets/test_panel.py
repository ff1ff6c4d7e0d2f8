"""The panel's Python side: options, messages, states and traits. Only starts that must fail are replaced."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("anywidget")

from qwen3_integrations import serving
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.notebook import ServerPanel
from qwen3_integrations.notebook.panel_form import FIELDS, SECRET, form_of, read_form
from qwen3_integrations.notebook.panel_meters import LogTail, Meter
from qwen3_integrations.serving import Failed, Launched, Progress, ServerOptions, TimedOut, attach, supervise
from qwen3_integrations.serving.records import FOLDER_VARIABLE, ServerRecord, servers_folder
from tests.waiting import until

KEY = "a-very-secret-key"
TINY = {"engine": "vllm", "model": "qwen3-tiny-demo", "dtype": "float32", "max_tokens": 1024}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "servers"))
    return servers_folder()


@pytest.fixture
def panel():
    """Makes panels, and closes them."""
    made = []

    def make(**options):
        made.append(ServerPanel(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def running(folder):
    """(name) -> a running server with record and process: a script that sleeps and logs."""
    processes = []

    def started(name="embed-model-8000", port=8000):
        log = folder / f"{name}.log"
        log.write_text(f"INFO 11-25 10:00:00 [a.py:1] up with {KEY}\nERROR 11-25 10:00:01 [a.py:2] something broke\n")
        options = ServerOptions(task="embed", model="qwen3-tiny-demo", max_tokens=512)
        record = ServerRecord(
            name=name,
            task="embed",
            model="qwen3-tiny-demo",
            engine="vllm 0.32.0",
            url=f"http://127.0.0.1:{port}",
            owner_pid=os.getpid(),
            keep_running=False,
            started_at=time.time(),
            command=("server", "--port", str(port)),
            log=str(log),
            folder="/nowhere",
            options=options.to_dict() | {"extra_args": []},
        )
        record.write()
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        words = [sys.executable, supervise.__file__, str(record.path), str(os.getpid()), "1", "--", *command]
        processes.append(subprocess.Popen(words, start_new_session=True, env=os.environ | {"QWEN3_SERVER_KEY": KEY}))
        assert until(lambda: record.fresh().server_pid)
        return record

    yield started
    for process in processes:
        process.terminate()
        process.wait()


def tell(panel, what, **words):
    panel._handle_custom_msg({"do": what, **words}, [])


def everything(panel):
    """Everything in the browser's state and in a saved notebook."""
    bundle = panel._repr_mimebundle_()
    return json.dumps([panel.get_state(), bundle[0] if isinstance(bundle, tuple) else bundle], default=str) + repr(panel)


def threads():
    return {thread for thread in threading.enumerate() if "ServerPanel" in thread.name}


# Options and the form


def test_every_option_has_a_field_but_the_secret_ones():
    assert {field.name for field in FIELDS} | set(SECRET) == set(inspect.signature(ServerOptions).parameters)
    assert len(FIELDS) == len({field.name for field in FIELDS})


def test_unknown_arguments_are_refused_with_the_nearest_known():
    with pytest.raises(TypeError, match="no argument 'modle', did you mean 'model'"):
        ServerPanel(modle="x")
    with pytest.raises(TypeError, match="no argument 'state'"):
        ServerPanel(state="ready")
    with pytest.raises(ConfigError, match="max_tokens must be a whole number"):
        ServerPanel(max_tokens=0)


@pytest.mark.parametrize(
    "options",
    [
        ServerOptions(task="embed"),
        ServerOptions(task="rerank", engine="sglang", port=8001, dtype="bfloat16", concurrency=2, prefix_caching=False, enforce_eager=True),
        ServerOptions(task="embed", gpu_memory_utilization=0.5, without_key=True, extra_args=("--seed", "1", "--x", "two words")),
        ServerOptions(
            task="embed", uds="/run/a.sock", served_name="n", quantization="fp8", revision="v1", source="huggingface", python="py"
        ),
        ServerOptions(task="embed", api_key=KEY, env={"A": "1"}, kv_cache_memory_bytes=1 << 30, tensor_parallel_size=2),
    ],
)
def test_the_form_restores_its_options(panel, options):
    made = panel()
    made.options = options
    assert made.options == options
    assert made.options.env == options.env
    assert json.loads(json.dumps(made.form)) == made.form
    assert made.form["max_tokens"] == ""  # what is at its default stays empty


def test_all_errors_are_shown_at_their_fields(panel):
    made = panel(task="embed", **TINY)
    for name, value in (("max_tokens", "many"), ("port", "70000"), ("extra_args", "--a 'b"), ("gpu_memory_utilization", "x")):
        tell(made, "set", name=name, value=value)
    assert made.wrong == {
        "max_tokens": "max_tokens must be a whole number of at least 1, not 'many'",
        "port": "port must be a whole number from 0 to 65535 (0 means any free one), not 70000",
        "extra_args": "extra_args can't be parsed: no closing quotation",
        "gpu_memory_utilization": "gpu_memory_utilization must be a number in (0, 1], not 'x'",
    }
    with pytest.raises(ConfigError):
        _ = made.options
    tell(made, "start")
    assert (made.state, made.error) == ("stopped", "extra_args can't be parsed: no closing quotation")
    for name, value in (("max_tokens", "1,024"), ("port", "8001"), ("extra_args", "--seed 1"), ("gpu_memory_utilization", "")):
        tell(made, "set", name=name, value=value)
    assert made.wrong == {}
    assert (made.options.max_tokens, made.options.port, made.options.extra_args) == (1024, 8001, ("--seed", "1"))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"model": "Qwen/Qwen3-Reranker-4B"}, "model"),
        ({"gpu_memory_utilization": "0.5", "kv_cache_memory_bytes": "100"}, "gpu_memory_utilization"),
        ({"task": "sing"}, "task"),
        ({"concurrency": "0"}, "concurrency"),
    ],
)
def test_an_error_finds_its_field(changed, field):
    options, wrong = read_form(form_of(ServerOptions(task="embed")) | changed, {})
    assert options is None
    assert list(wrong) == [field]


def test_a_key_together_with_no_key_is_an_error_at_the_switch(panel):
    made = panel(api_key=KEY)
    tell(made, "set", name="without_key", value=True)
    assert list(made.wrong) == ["without_key"]


def test_changing_the_task_replaces_a_published_model_by_its_counterpart(panel):
    made = panel(task="embed", model="Qwen/Qwen3-Embedding-4B")
    tell(made, "set", name="task", value="rerank")
    assert made.form["model"] == "Qwen/Qwen3-Reranker-4B"
    assert made.options.task == "rerank"
    tell(made, "set", name="task", value="embed")
    assert made.form["model"] == "Qwen/Qwen3-Embedding-4B"


@pytest.mark.parametrize(
    ("name", "value"), [("api_key", "x"), ("env", "x"), ("nothing", "x"), ("model", True), ("without_key", "x"), ("port", 1)]
)
def test_fields_that_are_none_and_values_of_another_kind_are_refused(panel, name, value):
    made = panel()
    before = dict(made.form)
    tell(made, "set", name=name, value=value)
    assert "is not a field of the form" in made.error
    assert made.form == before


@pytest.mark.parametrize("message", [{"do": "fly"}, {}, {"do": "set"}, {"do": "attach", "wrong": 1}])
def test_an_invalid_message_has_no_effect(panel, message):
    made = panel()
    made._handle_custom_msg(message, [])
    assert made.state == "stopped"


# Before a start


@pytest.mark.vllm
def test_the_plan_is_shown_before_a_start_without_a_running_server(panel):
    made = panel(task="rerank", **TINY)
    assert made.preview == {}
    assert not threads()  # no view is visible yet
    tell(made, "show", view="a")
    assert until(lambda: made.preview)
    shown = made.preview
    assert [part["name"] for part in shown["parts"]] == ["weights", "cache", "forward pass", "runtime"]
    (device,) = shown["devices"]
    needed = sum(part["bytes"] for part in shown["parts"])
    assert device["free_bytes"] - device["left_bytes"] == needed
    assert device["total_bytes"] >= device["free_bytes"] > needed
    assert shown["refusal"] == ""
    assert shown["cli"] == "qwen3-integrations serve rerank qwen3-tiny-demo --engine vllm --max-tokens 1024 --dtype float32"
    assert "--runner pooling" in shown["command"]
    assert serving.servers() == ()


@pytest.mark.vllm
def test_a_plan_that_does_not_fit_is_refused_with_its_total_and_follows_the_form(panel, folder):
    made = panel(task="embed", **TINY | {"concurrency": 100_000_000})
    tell(made, "show", view="a")
    assert until(lambda: made.preview)
    assert "qwen3-tiny-demo needs" in made.preview["refusal"]
    assert "would fit" in made.preview["refusal"]
    assert made.preview["devices"][0]["left_bytes"] < 0
    made.start()
    assert until(lambda: made.error)
    assert "qwen3-tiny-demo needs" in made.error
    assert made.state == "stopped"
    assert not list(folder.glob("*.json"))
    tell(made, "set", name="concurrency", value="4")
    assert until(lambda: made.preview["refusal"] == "")


@pytest.mark.vllm
def test_a_model_that_is_not_here_is_not_downloaded_for_the_plan(panel):
    made = panel(task="embed", model="Qwen/Qwen3-Embedding-8B-of-nobody")
    tell(made, "show", view="a")
    assert until(lambda: made.preview)
    assert (made.preview["is_here"], made.preview["parts"], made.preview["refusal"]) == (False, [], "")
    made.start()  # the tests use no hub
    assert until(lambda: made.error)
    assert "not in a local cache" in made.error
    assert made.state == "stopped"


@pytest.mark.vllm
def test_a_flag_that_is_owned_is_refused_before_a_start_and_at_its_field(panel):
    made = panel(task="embed", **TINY, extra_args=("--port", "1"))
    tell(made, "show", view="a")
    assert until(lambda: made.preview)
    assert "extra_args can't contain --port" in made.preview["refusal"]
    made.start()
    assert until(lambda: made.wrong)
    assert "extra_args can't contain --port" in made.wrong["extra_args"]
    assert (made.state, made.error) == ("stopped", "")


# Starts that fail, or do not end


@contextmanager
def standing_in(monkeypatch, act):
    """Replace `serving.start` by `act`."""
    monkeypatch.setattr(serving, "start", act)
    yield


def test_a_failed_start_shows_the_first_error_and_keeps_the_log(panel, monkeypatch, running):
    def fails(options, *, on_progress, on_server, **more):
        on_server(attach(running().name))
        on_progress(Progress("starting", 0.0))
        on_progress(Progress("loading", 1.0, "Loading safetensors", 0.5))
        seen.append((made.state, made.progress["fraction"], made.server is not None))
        return Failed(1, f"RuntimeError: no memory for {KEY}", ("line",), Path("x.log"))

    seen = []
    made = panel(task="embed", **TINY)
    with standing_in(monkeypatch, fails):
        made.start()
        assert until(lambda: made.state == "failed")
    assert seen == [("loading", 0.5, True)]
    assert made.note == "it did not start (exit code 1)"
    assert made.first_error == "RuntimeError: no memory for (key)"
    assert made.server is None
    assert made.tail["lines"] == ["INFO 11-25 10:00:00 [a.py:1] up with (key)", "ERROR 11-25 10:00:01 [a.py:2] something broke"]
    assert "RuntimeError: no memory" in made._static_html()
    assert KEY not in everything(made)


def test_an_unexpected_error_ends_in_the_state_failed(panel, monkeypatch, caplog):
    def breaks(options, **more):
        raise RuntimeError("unforeseen")

    made = panel(task="embed", **TINY)
    with standing_in(monkeypatch, breaks):
        made.start()
        assert until(lambda: made.error)
    assert (made.state, made.error) == ("failed", "unforeseen")
    assert "a widget's action failed" in caplog.text


@contextmanager
def starting(panel, monkeypatch, came=None):
    """A panel whose start waits until it is cancelled; `came` is the result of the start if it ends before it sees the cancellation."""
    cancelled = threading.Event()

    def waits(options, *, cancel, on_progress, **more):
        on_progress(Progress("downloading", 0.0, "1 B of 2 B", 0.5))
        assert cancel.wait(30)
        cancelled.set()
        if came is not None:
            return came
        on_progress(Progress("downloading", 1.0, "2 B of 2 B", 1.0))
        raise AssertionError("a cancelled download continues")

    made = panel(task="embed", **TINY)
    with standing_in(monkeypatch, waits):
        made.start()
        assert until(lambda: made.state == "downloading")
        yield made, cancelled


@pytest.mark.parametrize("word", ["cancel", "stop"])
def test_a_start_can_be_cancelled_and_blocks_other_starts(panel, monkeypatch, word):
    with starting(panel, monkeypatch) as (made, cancelled):
        tell(made, "start")
        assert "this panel has a server" in made.error
        tell(made, word)
        assert until(lambda: made.state == "stopped")
        assert cancelled.is_set()
        assert made.note == "the start was cancelled"
        assert until(lambda: made.busy == "")


def test_a_server_that_becomes_ready_during_the_cancellation_is_ended(panel, monkeypatch, running):
    record = running()
    with starting(panel, monkeypatch, Launched(attach(record.name), 1.0)) as (made, _):
        made.cancel()
        assert until(lambda: made.state == "stopped")
        assert serving.servers() == ()


def test_closing_cancels_a_start_and_ends_the_thread(panel, monkeypatch):
    with starting(panel, monkeypatch) as (made, cancelled):
        assert threads()
        made.close()
        assert cancelled.is_set()
        assert not threads()
        made.close()


def test_a_server_that_is_not_ready_in_time_can_be_waited_for_and_ended(panel, monkeypatch, running):
    record = running()

    def late(options, *, on_progress, on_server, **more):
        server = attach(record.name)
        on_server(server)
        on_progress(Progress("loading", 1.0))
        return TimedOut(server, 900.0, "loading")

    made = panel(task="embed", **TINY)
    with standing_in(monkeypatch, late):
        made.start()
        assert until(lambda: made.error)
    assert made.error == "not ready after 900 s, and still loading: wait, or stop it"
    assert made.state == "loading"
    assert made.server.name == record.name
    made.cancel()
    assert until(lambda: made.state == "stopped")
    assert serving.servers() == ()


# Servers that run


def test_running_servers_are_listed_while_the_panel_is_shown_and_can_be_attached_to(panel, running):
    made = panel(task="rerank", **TINY)
    tell(made, "show", view="a")
    record = running()
    assert until(lambda: made.others)
    assert [(server["name"], server["url"]) for server in made.others] == [("embed-model-8000", "http://127.0.0.1:8000")]
    tell(made, "attach", name=record.name)
    assert made.server.name == record.name
    assert (made.options.task, made.options.max_tokens) == ("embed", 512)  # its own
    assert (made.state, made.note) == ("starting", "attached")
    assert made.info["address"] == "http://127.0.0.1:8000/v1"
    assert made.info["cli"] == "qwen3-integrations serve embed qwen3-tiny-demo --max-tokens 512"
    assert set(made.info["snippets"]) == {"curl", "openai", "langchain", "llama_index"}
    assert until(lambda: made.tail)
    assert made.first_error == "something broke"
    tell(made, "start")
    assert "this panel has a server" in made.error


def test_it_can_be_kept_detached_from_and_stopped(panel, running):
    record = running()
    made = panel(server=attach(record.name))
    tell(made, "keep", on=True)
    assert attach(record.name).keep_running
    assert made.info["keep_running"] is True
    tell(made, "keep", on=False)
    assert not attach(record.name).keep_running
    tell(made, "detach")
    assert (made.state, made.note, made.server) == ("stopped", "embed-model-8000 continues to run without this panel", None)
    assert attach(record.name).is_running
    made.attach(record.name)
    made.stop()
    assert until(lambda: made.state == "stopped")
    assert serving.servers() == ()


def test_a_server_that_another_process_ended_is_shown_as_ended(panel, running):
    record = running()
    made = panel(server=attach(record.name))
    attach(record.name).stop()
    assert until(lambda: made.state == "stopped")
    assert made.note == "embed-model-8000 was ended"


def test_the_key_is_in_no_log_of_a_server_that_has_ended(panel, running, monkeypatch):
    """The key is read from the server's process; the last lines of its log are read when that has ended."""
    record = running()
    monkeypatch.setattr(ServerPanel, "_poll_once", lambda self: None)
    made = panel(server=attach(record.name))
    attach(record.name).stop()
    with Path(record.log).open("a") as log:
        log.write(f"ValueError: the request with {KEY} failed\n")
    monkeypatch.undo()
    tell(made, "show", view="a")
    assert until(lambda: made.state == "stopped")
    assert made.tail["lines"][-1] == "ValueError: the request with (key) failed"
    assert KEY not in everything(made)


def test_closing_leaves_the_server(panel, running):
    record = running()
    made = panel(server=attach(record.name))
    assert threads()
    made.close()
    assert not threads()
    assert attach(record.name).is_running


def test_an_unknown_server_is_an_error_under_the_widget(panel):
    made = panel()
    tell(made, "attach", name="nobody")
    assert "no server 'nobody' is running here" in made.error


def test_the_key_is_in_no_trait_and_is_sent_only_to_the_requesting_view(panel, running, monkeypatch):
    record = running()
    made = panel(server=attach(record.name))
    assert until(lambda: made.tail)
    assert made.server.api_key == KEY
    assert made.info["key"] == "known"
    assert KEY not in everything(made)
    sent = []
    monkeypatch.setattr(made, "send", lambda content, buffers=None: sent.append(content))
    tell(made, "key", view="b")
    assert sent == [{"view": "b", "key": KEY}]
    assert KEY not in everything(made)


def test_a_passed_key_and_environment_are_in_no_trait(panel):
    made = panel(task="embed", **TINY, api_key=KEY, env={"TOKEN": "another-secret"})
    tell(made, "show", view="a")
    assert until(lambda: made.preview)
    assert made.preview["command"]
    assert KEY not in everything(made)
    assert "another-secret" not in everything(made)


# The static form


def test_the_static_form_shows_state_and_options_escaped(panel):
    made = panel(task="embed", model="<script>alert(1)</script>")
    bundle = made._repr_mimebundle_()
    html = (bundle[0] if isinstance(bundle, tuple) else bundle)["text/html"]
    assert "stopped" in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_the_static_form_of_a_server_is_its_status(panel, running):
    record = running()
    html = panel(server=attach(record.name))._static_html()
    assert "starting when this was shown" in html
    for word in ("embed-model-8000", "http://127.0.0.1:8000", "qwen3-tiny-demo", f"ends with process {os.getpid()}"):
        assert word in html
    assert KEY not in html
    assert "embed-model-8000: starting" in attach(record.name)._repr_html_()


# The meters


def test_the_end_of_a_log_is_kept_with_its_first_error(tmp_path):
    path = tmp_path / "x.log"
    tail = LogTail(path, fresh=True)
    assert not tail.read()
    path.write_text("".join(f"line {number}\n" for number in range(500)) + "ValueError: first\nValueError: second\n")
    assert tail.read()
    assert (tail.to_dict()["first"], len(tail.to_dict()["lines"]), tail.to_dict()["lines"][-1]) == (102, 400, "ValueError: second")
    assert tail.error == "ValueError: first"
    assert not tail.read()
    late = LogTail(path, fresh=False)
    assert late.read()
    assert late.to_dict()["lines"][-1] == "ValueError: second"


def test_rates_are_differences_and_start_again_after_a_gap_or_a_restart():
    meter = Meter()
    for tokens, at_s in ((100, 0.0), (300, 2.0), (300, 4.0), (None, 5.0), (900, 6.0)):
        meter.add(tokens, at_s)
    assert list(meter.rates) == [100.0, 0.0, 300.0]
    meter.add(1000, 100.0)
    assert list(meter.rates) == []
    meter.add(1010, 102.0)
    meter.add(5, 104.0)
    assert list(meter.rates) == []
    meter.add(15, 106.0)
    assert list(meter.rates) == [5.0]
