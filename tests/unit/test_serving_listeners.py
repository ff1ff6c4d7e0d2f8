"""Who listens at an address: taken ports and sockets are refused, and only a server's own answers make it ready."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import psutil
import pytest

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.serving import ServerOptions, servers, start, supervise
from qwen3_integrations.serving.health import answers, is_healthy
from qwen3_integrations.serving.listeners import check_free, clear_socket, who_listens
from qwen3_integrations.serving.preview import preview
from qwen3_integrations.serving.records import FOLDER_VARIABLE, ServerRecord, servers_folder
from tests.server.launch import free_port
from tests.waiting import until

if sys.platform == "win32":
    pytest.skip("the supervisor is POSIX'", allow_module_level=True)

# Answers 200 to everything, as a healthy server does; or 401; or takes connections and says nothing.
ANSWERING = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2]))
        self.end_headers()
    def log_message(self, *args):
        pass
print(flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "servers"))
    return servers_folder()


@pytest.fixture
def supervised(folder):
    """(command, url) -> the server of a supervisor that runs the command."""
    with ExitStack() as stack:

        def begin(command, url):
            record = ServerRecord(
                "embed-m-1", "embed", "m", "vllm", url, os.getpid(), False, time.time(), ("x",), f"{folder}/embed-m-1.log", "/", {}
            )
            record.write()
            words = [sys.executable, supervise.__file__, str(record.path), str(os.getpid()), "1", "--", sys.executable, "-c", *command]
            process = stack.enter_context(subprocess.Popen(words, start_new_session=True))
            stack.callback(process.terminate)
            while not record.fresh().server_pid:
                time.sleep(0.02)
            (server,) = servers()
            return server

        yield begin


@pytest.fixture
def stranger():
    """(port, status) -> another process that answers at that port."""
    with ExitStack() as stack:

        def begin(port, status=200):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", ANSWERING, str(port), str(status)]))
            stack.callback(process.kill)
            assert until(lambda: not is_free(port))
            return process

        yield begin


def is_free(port, host="127.0.0.1"):
    try:
        check_free(host, port)
    except ConfigError:
        return False
    return True


def test_a_server_is_ready_once_its_own_process_answers(supervised):
    port = free_port()
    server = supervised([ANSWERING, str(port), "200"], f"http://127.0.0.1:{port}")
    assert until(lambda: server.state == "ready")
    assert server.listening().owner == "own"


def test_a_frozen_server_is_not_answering(supervised):
    port = free_port()
    server = supervised([ANSWERING, str(port), "200"], f"http://127.0.0.1:{port}")
    assert until(lambda: server.state == "ready")
    os.kill(server.pid, signal.SIGSTOP)
    assert until(lambda: server.state == "not answering")
    assert server.status().load.requests is None
    os.kill(server.pid, signal.SIGCONT)
    assert until(lambda: server.state == "ready")


def test_a_server_whose_child_is_frozen_is_not_answering(supervised):
    """vLLM's engine is such a child, and vLLM answers /health nevertheless."""
    port = free_port()
    parent = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n{ANSWERING}"
    server = supervised([parent, str(port), "200"], f"http://127.0.0.1:{port}")
    assert until(lambda: server.state == "ready")
    (child,) = psutil.Process(server.pid).children()
    child.suspend()
    assert until(lambda: server.state == "not answering")
    child.resume()
    assert until(lambda: server.state == "ready")


@pytest.mark.parametrize("status", [200, 503])
def test_a_server_that_no_longer_listens_is_not_answering_and_one_that_never_did_is_starting(supervised, status):
    port = free_port()
    once = ANSWERING.replace("\nhttp", "\nkept = http").replace(".serve_forever()", "\nkept.handle_request()\nimport time; time.sleep(60)")
    server = supervised([once, str(port), str(status)], f"http://127.0.0.1:{port}")
    before, after = ("ready", "not answering") if status == 200 else ("starting", "starting")
    assert until(lambda: server.listening().owner == "own")
    assert server.state == before
    assert until(lambda: server.state == after)


def test_an_answer_of_another_process_does_not_make_a_server_ready(supervised, stranger):
    port = free_port()
    other = stranger(port)
    server = supervised(["import time; time.sleep(60)"], f"http://127.0.0.1:{port}")
    assert until(lambda: is_healthy(server.url))
    assert (server.state, server.status().state) == ("starting", "starting")
    assert server.status().load.requests is None
    assert server.listening().owner == "other"
    assert f"process {other.pid}" in server.listening().who


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_another_process_that_shares_the_port_is_seen(supervised, address):
    """The kernel distributes requests if both have set SO_REUSEPORT."""
    port = free_port()
    sharing = (
        "import socket, sys, time; own = socket.socket(); own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1);"
        "own.bind(('127.0.0.1', int(sys.argv[1]))); own.listen(); time.sleep(60)"
    )
    server = supervised([sharing, str(port)], f"http://127.0.0.1:{port}")
    assert until(lambda: server.listening().owner == "own")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((address, port))
        other.listen()
        assert server.listening().owner == "other"


def test_a_server_on_another_address_of_the_same_port_is_no_matter(supervised):
    port = free_port()
    server = supervised([ANSWERING, str(port), "200"], f"http://127.0.0.1:{port}")
    assert until(lambda: server.state == "ready")
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))
        other.listen()
        assert server.state == "ready"


def test_the_system_names_the_listener_on_a_unix_socket(supervised, socket_folder):
    path = socket_folder / "s"
    script = "import socket, sys, time; own = socket.socket(socket.AF_UNIX); own.bind(sys.argv[1]); own.listen(); time.sleep(60)"
    server = supervised([script, str(path)], f"unix://{path}")
    assert until(lambda: server.listening().owner == "own")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert server.listening().owner == "other"
    assert who_listens(f"unix://{path}", os.getpid(), 0).owner == "nobody"


@pytest.mark.parametrize(
    ("wanted", "held"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1")]
)
@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_that_is_held_at_the_address_is_not_free(wanted, held, reuse):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        other.bind((held, 0))
        other.listen()
        with pytest.raises(
            ConfigError, match=rf"port {other.getsockname()[1]} is taken by process {os.getpid()} .*, at {wanted}\. .*0 for a free one"
        ):
            check_free(wanted, other.getsockname()[1])
        port = other.getsockname()[1]
    check_free(wanted, port)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(("wanted", "held"), [("::1", "::1"), ("::", "::1"), ("::1", "::"), ("127.0.0.1", "::"), ("::", "127.0.0.1")])
def test_a_port_that_is_held_over_the_other_protocol_is_not_free(wanted, held):
    with socket.socket(socket.AF_INET6 if ":" in held else socket.AF_INET) as other:
        other.bind((held, 0))
        other.listen()
        assert not is_free(other.getsockname()[1], wanted)


def test_a_port_that_is_bound_without_a_listener_is_not_free():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        assert not is_free(other.getsockname()[1])


@pytest.mark.parametrize("wanted", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_of_a_server_that_still_loads_is_not_free(wanted):
    """vLLM binds its port with these options before it loads, and listens when it is ready; a second one could bind it too."""
    with socket.socket() as loading:
        for option in ("SO_REUSEADDR", "SO_REUSEPORT"):
            loading.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        loading.bind(("127.0.0.1", 0))
        assert not is_free(loading.getsockname()[1], wanted)


def test_a_port_whose_connections_were_just_closed_is_free():
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            accepted.shutdown(socket.SHUT_RDWR)
        port = listener.getsockname()[1]
    check_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ConfigError, match=r"host '192\.0\.2\.1' can't be used to listen on"):
        check_free("192.0.2.1", 8000)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("listening", [False, True])
def test_a_unix_socket_in_use_is_not_removed(socket_folder, kind, listening):
    path = socket_folder / "s"
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if listening and kind is socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(ConfigError, match="is in use by another process"):
            clear_socket(path)
    clear_socket(path)
    assert not path.exists()
    clear_socket(path)


def test_a_link_instead_of_a_unix_socket_is_refused(tmp_path):
    (tmp_path / "s").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is a file and not a socket"):
        clear_socket(tmp_path / "s")


@pytest.mark.parametrize("status", [200, 401])
def test_a_start_on_a_taken_port_is_refused_immediately(stranger, folder, status):
    """Before a model is downloaded, and before a program is looked for."""
    port = free_port()
    other = stranger(port, status)
    options = ServerOptions(task="embed", model="someone/a-model-to-download", python="/no/python", port=port)
    with pytest.raises(ConfigError, match=rf"port {port} is taken by process {other.pid} .*at 127\.0\.0\.1"):
        start(options)
    assert servers() == ()
    assert not list(folder.glob("*.log"))


@pytest.mark.vllm
def test_a_preview_says_that_the_port_is_taken(stranger):
    port = free_port()
    other = stranger(port)
    seen = preview(ServerOptions(task="embed", model="qwen3-tiny-demo", dtype="float32", port=port))
    assert f"port {port} is taken by process {other.pid}" in seen.refusal
    assert seen.plan is not None


def test_a_port_that_is_held_by_something_silent_is_taken(folder):
    """Its queue may be full too, so that a connection is neither accepted nor refused."""
    with socket.socket() as silent, ExitStack() as stack:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        host, port = silent.getsockname()
        waiting = [stack.enter_context(socket.socket()) for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex((host, port))
        assert answers(f"http://{host}:{port}")
        with pytest.raises(ConfigError, match=rf"port {port} is taken by process {os.getpid()} "):
            start(ServerOptions(task="embed", model="someone/a-model-to-download", port=port))
    assert not answers(f"http://{host}:{port}")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's table of sockets is Linux'")
def test_a_port_that_another_user_holds_is_taken():
    """Its process is not known to everybody."""
    nobody = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    listening = "import socket, sys, time; own = socket.socket(); own.bind(('127.0.0.1', 0)); own.listen();"
    listening += " print(own.getsockname()[1], flush=True); time.sleep(60)"
    with subprocess.Popen(["/usr/bin/python3", "-c", listening], stdout=subprocess.PIPE, text=True, cwd="/", **nobody) as other:
        port = int(other.stdout.readline())
        with pytest.raises(ConfigError, match=rf"port {port} is taken"):
            start(ServerOptions(task="embed", model="someone/a-model-to-download", port=port))
        other.kill()


@pytest.mark.vllm
def test_a_port_that_another_server_takes_during_the_start_is_reported(stranger):
    """The other process binds the port after the check and before the server does, and answers like a healthy server."""
    port = free_port()
    options = ServerOptions(task="embed", model="qwen3-tiny-demo", dtype="float32", max_tokens=512, enforce_eager=True, port=port)
    outcome = start(options, on_server=lambda _: stranger(port))
    assert outcome.port_taken
    assert f"port {port} is taken by process" in outcome.error
    assert servers() == ()
