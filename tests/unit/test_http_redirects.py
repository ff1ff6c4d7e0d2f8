"""Redirects are followed within the origin only, so that no text, header or key is sent to another host."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

import openai
import pytest

from qwen3_integrations import Embedder
from qwen3_integrations.diagnosis.settings import environment_findings
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.engines.http.transport import http_library
from qwen3_integrations.errors import RedirectRefused
from qwen3_integrations.serving.health import is_healthy, load_of
from qwen3_integrations.verification import verify
from tests.models import TINY
from tests.server.faults import Call, Fault, FaultsProxy

KEY = "sk-very-secret"
HEADERS = {"X-Tenant": "tenant-secret"}
MODEL = "qwen3-tiny-demo"
WIDTH = json.loads((TINY / "embedding" / "config.json").read_text())["hidden_size"]
MODELS = {"data": [{"id": MODEL}]}
VECTOR = {"data": [{"index": 0, "embedding": [0.6, 0.8, *[0.0] * (WIDTH - 2)]}], "usage": {"prompt_tokens": 3}}
STATUSES = [301, 302, 303, 307, 308]
WHAT = ["list", "embeddings"]


def right(call: Call) -> None:
    """The answers of a server without faults."""
    call.answer(200, json.dumps(MODELS if call.seen.method == "GET" else VECTOR).encode())


def redirecting(code: int, target: str | Callable[[Call], str], what: str = "list") -> Fault:
    """A server that redirects all requests, or only those for embeddings."""

    def answer(call: Call) -> None:
        if what == "embeddings" and call.seen.method == "GET":
            right(call)
        else:
            call.answer(code, b"", {"Location": target if isinstance(target, str) else target(call)})

    return answer


@pytest.fixture
def servers():
    with ExitStack() as stack:
        yield lambda: stack.enter_context(FaultsProxy(everywhere=right))


@pytest.fixture
def opened():
    with ExitStack() as stack:

        def open_http(url: str, **options) -> HttpEngine:
            settings = {"handshake": "off", "max_retries": 0, "dialect": "openai", "source": "local", "headers": HEADERS}
            if "client" not in options:
                settings["api_key"] = KEY
            engine = HttpEngine("embed", MODEL, base_url=url, **settings | options)
            stack.callback(engine.close)
            return engine

        yield open_http


def refused(engine: HttpEngine) -> RedirectRefused:
    with pytest.raises(RedirectRefused) as caught:
        Embedder(engine).embed_documents(["a private text"])
    for secret in (KEY, *HEADERS.values(), "private"):
        assert secret not in str(caught.value) + repr(vars(caught.value))
    return caught.value


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("status", STATUSES)
def test_nothing_is_sent_to_another_origin(servers, opened, status, what):
    asked, other = servers(), servers()
    asked.everywhere = redirecting(status, lambda call: other.url + call.seen.path, what)
    error = refused(opened(asked.url))
    assert other.seen == []
    assert f"redirects to {other.url}/v1" in str(error)
    assert f"base_url={other.url + '/v1'!r}" in str(error)
    assert (error.status, error.url) == (status, asked.url + ("/v1/models" if what == "list" else "/v1/embeddings"))


@pytest.mark.parametrize("kind", ["sync", "async", "sync http_client", "async http_client"])
def test_a_user_s_client_follows_no_redirect_to_another_origin(servers, opened, kind):
    asked, other = servers(), servers()
    asked.everywhere = redirecting(307, lambda call: other.url + call.seen.path, "embeddings")
    http = http_library()
    with ExitStack() as stack:
        own = {
            "sync http_client": lambda: {"http_client": stack.enter_context(http.Client(follow_redirects=True))},
            "async http_client": lambda: {"http_client": http.AsyncClient(follow_redirects=True)},
        }.get(kind, dict)()
        make = openai.OpenAI if kind.startswith("sync") else openai.AsyncOpenAI
        client = make(base_url="http://127.0.0.1:9/v1", api_key=KEY, max_retries=0, **own)
        refused(opened(asked.url, client=client))
        if kind.startswith("sync"):
            client.close()
    assert [seen.path for seen in asked.seen] == ["/v1/models", "/v1/embeddings"]
    assert other.seen == []


@pytest.mark.parametrize(
    "target",
    [
        "https://{host}{path}",
        "http://localhost:{port}{path}",
        "http://{host}.{path}",
        "//192.0.2.1{path}",
        "http://{host}@192.0.2.1{path}",
        "http://user:geheim@192.0.2.1{path}?token=geheim",
        "file:///etc/passwd",
        "unix:///run/other.sock",
        "ftp://{host}{path}",
        "http://[::1{path}",
        "http://{host}:none{path}",
        "",
    ],
)
def test_other_origins_and_invalid_addresses_are_refused(servers, opened, target):
    asked = servers()
    host = asked.url.removeprefix("http://")
    asked.everywhere = redirecting(307, lambda call: target.format(host=host, port=asked.url.rpartition(":")[2], path=call.seen.path))
    error = refused(opened(asked.url))
    assert "geheim" not in str(error)
    assert len(asked.seen) == 1


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize(
    ("status", "target"),
    [
        (301, "/moved{path}?a=b"),
        (302, "../moved{path}"),
        (307, "{url}/moved{path}"),
        (308, "http://user:geheim@{host}/moved{path}"),
        (307, "//{host}/moved{path}"),
    ],
)
def test_a_redirect_within_the_origin_gets_the_whole_request(servers, opened, status, what, target):
    asked = servers()

    def answer(call: Call) -> None:
        if call.seen.path.startswith("/moved"):
            right(call)
        else:
            host = asked.url.removeprefix("http://")
            redirecting(status, target.format(url=asked.url, host=host, path=call.seen.path), what)(call)

    asked.everywhere = answer
    assert Embedder(opened(asked.url)).embed_documents(["text"]).shape == (1, WIDTH)
    last = asked.seen[-1]
    assert (last.method, last.path.partition("?")[0]) == ("POST", "/moved/v1/embeddings")
    assert last.body["input"] == ["text"]
    assert last.headers["authorization"] == f"Bearer {KEY}"
    assert last.headers["x-tenant"] == HEADERS["X-Tenant"]


def test_a_post_that_would_become_a_get_is_refused(servers, opened):
    asked = servers()
    asked.everywhere = redirecting(303, "/done", "embeddings")
    assert "303" in str(refused(opened(asked.url)))
    assert len(asked.seen) == 2


def test_a_second_redirect_to_another_origin_is_refused(servers, opened):
    asked, other = servers(), servers()
    asked.everywhere = redirecting(307, lambda call: "/moved" if call.seen.path != "/moved" else f"{other.url}/v1/models")
    refused(opened(asked.url))
    assert [seen.path for seen in asked.seen] == ["/v1/models", "/moved"]
    assert other.seen == []


def test_a_loop_ends(servers, opened):
    asked = servers()
    asked.everywhere = redirecting(307, lambda call: call.seen.path)
    assert "redirects in a circle" in str(refused(opened(asked.url)))
    assert len(asked.seen) < 10


def test_a_secret_in_a_redirect_s_address_is_not_shown(servers, opened):
    asked = servers()
    asked.everywhere = redirecting(307, f"http://192.0.2.1/login/{KEY}/{HEADERS['X-Tenant']}")
    assert "http://192.0.2.1/login/***/***" in str(refused(opened(asked.url)))


def test_a_redirect_from_a_socket_to_an_address_is_refused(servers, opened, socket_folder):
    """The origin of a socket is http://localhost: relative targets are on the socket, other targets are refused."""
    other = servers()
    path = socket_folder / "s.sock"
    answers = [b"HTTP/1.1 307 Gone\r\nLocation: %s/v1/models\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % other.url.encode()]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        refused(opened(f"unix://{path}"))
        thread.join()
    assert other.seen == []


def test_a_redirect_of_an_optional_route_is_ignored(servers, opened):
    """A gateway that redirects unknown paths to its documentation: its version is not known, and its embeddings are used."""
    asked, other = servers(), servers()

    def answer(call: Call) -> None:
        if call.seen.path in ("/v1/models", "/v1/embeddings"):
            call.answer(200, json.dumps(VLLM if call.seen.method == "GET" else VECTOR).encode())
        else:
            redirecting(302, f"{other.url}/docs")(call)

    VLLM = {"data": [{"id": "qwen3-tiny-demo", "owned_by": "vllm", "max_model_len": 100}]}  # noqa: N806
    asked.everywhere = answer
    engine = opened(asked.url, dialect="auto")
    assert Embedder(engine).embed_documents(["text"]).shape == (1, WIDTH)
    assert engine.max_tokens == 99
    assert other.seen == []


def test_verify_follows_no_redirect_to_another_origin(servers):
    asked, other = servers(), servers()
    for what in WHAT:
        asked.everywhere = redirecting(308, lambda call: other.url + call.seen.path, what)
        report = verify(asked.url, "embed", "qwen3-tiny-demo", KEY, headers=HEADERS, tokenizer=str(TINY / "embedding"), max_retries=0)
        assert not report.ok
        assert f"redirects to {other.url}" in " ".join(check.detail for check in report.checks)
    assert other.seen == []


@pytest.mark.parametrize("status", STATUSES)
def test_doctor_follows_no_redirect_to_another_origin(servers, status):
    asked, other = servers(), servers()
    asked.everywhere = redirecting(status, lambda call: other.url + call.seen.path)
    finding = environment_findings({"QWEN3_EMBEDDING_URL": asked.url, "QWEN3_API_KEY": KEY}, cores=4)[0]
    assert other.seen == []
    assert finding.state == "warning"
    assert f"{other.url}/v1" in finding.text
    assert finding.fix == f"export QWEN3_EMBEDDING_URL={other.url}/v1"


def test_doctor_follows_redirects_within_the_origin(servers):
    asked = servers()
    asked.everywhere = lambda call: (right if call.seen.path == "/moved" else redirecting(307, "http://u:p@" + asked.url[7:] + "/moved"))(
        call
    )
    finding = environment_findings({"QWEN3_EMBEDDING_URL": asked.url, "QWEN3_API_KEY": KEY}, cores=4)[0]
    assert finding.text == f"{asked.url} answers, serves qwen3-tiny-demo"
    assert asked.seen[-1].headers["authorization"] == f"Bearer {KEY}"
    asked.everywhere = redirecting(307, "/round")
    assert "redirects in a circle" in environment_findings({"QWEN3_EMBEDDING_URL": asked.url}, cores=4)[0].text


def test_a_health_check_follows_no_redirect(servers):
    asked, other = servers(), servers()
    asked.everywhere = redirecting(307, lambda call: other.url + call.seen.path)
    assert not is_healthy(asked.url)
    assert load_of(asked.url, KEY).running is None
    assert other.seen == []
