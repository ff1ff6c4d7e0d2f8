"""The way to a server: certificates and proxies, from options and from the environment."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qwen3_integrations import Embedder
from qwen3_integrations.engines.http.engine import HttpEngine
from qwen3_integrations.errors import ConfigError, ServerUnreachable
from tests.server.launch import free_port
from tests.unit.http_words import MODEL, WordServer, answer, expected, opened

REMOTE = "http://server.example:8000"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    folder = tmp_path_factory.mktemp("certificate")
    both = folder / "both.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(folder / "key.pem"),
            "-out",
            str(folder / "own.pem"),
        ],
        check=True,
        capture_output=True,
    )
    both.write_text((folder / "key.pem").read_text() + (folder / "own.pem").read_text())
    return both


class Encrypted(WordServer):
    def __init__(self, certificate: Path) -> None:
        super().__init__()
        self.certificate = certificate

    def __enter__(self):
        super().__enter__()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        return self

    @property
    def url(self) -> str:
        return super().url.replace("http://", "https://")


def embeds(server, **options) -> bool:
    with opened(server, **options) as engine:
        return np.allclose(Embedder(engine).embed_documents(["a", "b"]), expected(["a", "b"]))


def test_certificates_come_from_options_and_variables_on_loopback_too(certificate, monkeypatch, tmp_path):
    own = certificate.with_name("own.pem")
    with Encrypted(certificate) as server:
        with pytest.raises(ServerUnreachable, match=r"certificate of https://127.0.0.1.* is not trusted.*ca=.*SSL_CERT_FILE"):
            embeds(server)
        assert embeds(server, ca=own)
        assert embeds(server, ca=str(own))
        assert embeds(server, verify=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(own))
        assert embeds(server)
        monkeypatch.delenv("SSL_CERT_FILE")
        digest = subprocess.run(["openssl", "x509", "-hash", "-noout", "-in", str(own)], check=True, capture_output=True, text=True)
        (tmp_path / f"{digest.stdout.strip()}.0").write_text(own.read_text())
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert embeds(server)
        assert embeds(server, ca=tmp_path)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "ca"])
def test_missing_certificates_are_named(name, monkeypatch, tmp_path):
    missing = str(tmp_path / "missing.pem")
    if name != "ca":
        monkeypatch.setenv(name, missing)
    with WordServer() as server, pytest.raises(ConfigError, match=f"{name} must be a file or a folder with certificates") as caught:
        embeds(server, **({"ca": missing} if name == "ca" else {}))
    assert caught.value.option == name


def test_a_file_without_certificates_is_named(tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    with WordServer() as server, pytest.raises(ConfigError, match="ca must be a file"):
        embeds(server, ca=tmp_path / "empty.pem")


@pytest.mark.parametrize(
    ("options", "option"),
    [({"verify": "file.pem"}, "verify"), ({"verify": 1}, "verify"), ({"proxy": 3}, "proxy"), ({"ca": "a", "verify": False}, "ca")],
)
def test_options_of_the_network_are_checked(options, option):
    with WordServer() as server, pytest.raises(ConfigError) as caught:
        embeds(server, **options)
    assert caught.value.option == option


BROKEN = ["http://proxy:port", "http://", "ftp://proxy:1", "http://[::1", "://", "http://proxy:99999"]


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "proxy"])
def test_a_broken_proxy_is_named(name, value, monkeypatch):
    if name != "proxy":
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} must be a proxy's address") as caught:
        HttpEngine("embed", MODEL, base_url=REMOTE, source="local", **({"proxy": value} if name == "proxy" else {}))
    assert caught.value.option == name


def test_secrets_of_a_broken_proxy_are_not_shown(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy:port")
    with pytest.raises(ConfigError) as caught:
        HttpEngine("embed", MODEL, base_url=REMOTE, source="local")
    assert "secret" not in str(caught.value)


def test_broken_variables_do_not_matter_on_loopback(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:port")
    with WordServer() as server:
        assert embeds(server)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "all_proxy", "proxy"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_named_and_not_the_server(name, scheme, monkeypatch):
    dead = f"http://user:secret@127.0.0.1:{free_port()}"
    if name == "HTTP_PROXY" and scheme == "https":
        name = "HTTPS_PROXY"
    if name != "proxy":
        monkeypatch.setenv(name, dead)
    options = {"proxy": dead} if name == "proxy" else {}
    base_url = REMOTE.replace("http", scheme, 1)
    engine = HttpEngine("embed", MODEL, base_url=base_url, source="local", handshake="off", max_retries=0, **options)
    with pytest.raises(ServerUnreachable, match=f"the proxy http://127.0.0.1:.* \\(from {name}\\) can't be reached") as caught:
        Embedder(engine).embed_documents(["text"])
    engine.close()
    assert "secret" not in str(caught.value)


def test_a_proxy_is_used_and_an_empty_one_is_none(monkeypatch):
    class Proxy(WordServer):
        def _answer(self, call):
            object.__setattr__(call.seen, "path", call.seen.path.removeprefix(REMOTE))
            answer(call)

    with Proxy() as proxy:
        engine = HttpEngine("embed", MODEL, base_url=REMOTE, source="local", handshake="off", proxy=proxy.url)
        assert np.allclose(Embedder(engine).embed_documents(["a"]), expected(["a"]))
        engine.close()
    assert proxy.seen[-1].path == "/v1/embeddings"
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    engine = HttpEngine("embed", MODEL, base_url=f"http://localhost.example:{free_port()}", source="local", max_retries=0, proxy="")
    with pytest.raises(ServerUnreachable) as caught:
        Embedder(engine).embed_documents(["text"])
    engine.close()
    assert "the proxy" not in str(caught.value)
