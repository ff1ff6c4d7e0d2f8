"""The environment variables that this package reads, and the servers in them and on this machine. Secret values are not shown."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

from qwen3_integrations.diagnosis.finding import Finding
from qwen3_integrations.engines.http.address import Address, shown_url
from qwen3_integrations.engines.http.bounded import BOUNDS, Bounds, TooLarge, bounded
from qwen3_integrations.engines.http.library import http_library, sync_client
from qwen3_integrations.engines.http.numbers import brief, is_name, short_list
from qwen3_integrations.engines.http.redirects import get_within_origin
from qwen3_integrations.engines.http.transport import LIST_BYTES
from qwen3_integrations.engines.registry import URL_VARIABLES
from qwen3_integrations.engines.secrets import KEY_VARIABLE
from qwen3_integrations.errors import ConfigError, RedirectRefused

ANSWER_S = 1.0
"""Seconds within which a server must answer."""

SECRETS = (KEY_VARIABLE, "HF_TOKEN", "MODELSCOPE_API_TOKEN")
ADDRESSES = ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

LOOPBACK = ("localhost", "127.0.0.1")
_TRUE = ("1", "on", "true", "yes")


def running() -> list[Finding]:
    """The servers that were started from this machine."""
    from qwen3_integrations.serving import servers

    return [server_finding(server) for server in servers()] or [Finding("servers", "this machine", "ok", "none is running")]


def server_finding(server: Any) -> Finding:
    """A server that was started from this machine.

    Args:
        server: A `qwen3_integrations.serving.Server`.
    """
    state = server.state
    text = f"{state}: {server.task} {server.model} at {shown_url(server.url)}, process {server.pid}"
    if state == "ready":
        return Finding("servers", server.name, "ok", text)
    fix = f"qwen3-integrations logs {shlex.quote(server.name)}"
    return Finding("servers", server.name, "warning" if state == "not answering" else "note", text, fix)


def environment() -> list[Finding]:
    """The findings about the environment."""
    return environment_findings(os.environ, os.cpu_count() or 1)


def environment_findings(variables: Mapping[str, str], cores: int) -> list[Finding]:
    """The findings about an environment; sends a request to the servers that it names.

    Args:
        variables: The environment.
        cores: The number of this machine's cores.
    """
    named = [name for name in URL_VARIABLES.values() if variables.get(name)]
    with ThreadPoolExecutor() as pool:  # waits for slow servers concurrently
        findings = list(pool.map(lambda name: url_finding(name, variables[name], variables.get(KEY_VARIABLE)), named))
    findings += [Finding("environment", name, "ok", "set; its value is not shown") for name in SECRETS if variables.get(name)]
    findings += [Finding("environment", name, "ok", shown_url(variables[name])) for name in ADDRESSES if variables.get(name)]
    for name in OFFLINE:
        if variables.get(name, "").lower() in _TRUE:
            findings.append(
                Finding("environment", name, "note", "set: models come from caches and folders only, not from a hub", f"unset {name}")
            )
    if "CUDA_VISIBLE_DEVICES" in variables:
        findings.append(Finding("environment", "CUDA_VISIBLE_DEVICES", "ok", repr(variables["CUDA_VISIBLE_DEVICES"])))
    findings += [Finding("environment", name, "ok", "set; vLLM reads it") for name in sorted(variables) if name.startswith("VLLM_")]
    findings += proxy_findings(variables)
    findings += thread_findings(variables.get("OMP_NUM_THREADS"), cores)
    return findings or [Finding("environment", "variables", "ok", "none of the variables that this package reads is set")]


def url_finding(variable: str, url: str, key: str | None) -> Finding:
    """A server that the environment names: whether its address is valid, and whether it answers."""
    try:
        address = Address.parse(url)
    except ConfigError as error:
        return Finding("environment", variable, "problem", str(error), f"export {variable}=http://127.0.0.1:8000/v1")
    try:
        served = _served(address, key)
    except http_library().HTTPStatusError as error:
        status = error.response.status_code
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return Finding("environment", variable, "warning", f"{address} answers, but refuses the key", f"export {KEY_VARIABLE}=...")
        text = f"{address} answers with status {status} instead of a list of its models"
        return Finding("environment", variable, "warning", text, f"qwen3-integrations verify {shlex.quote(str(address))}")
    except RedirectRefused as error:
        fix = (
            f"export {variable}={shlex.quote(error.base_url)}"
            if error.base_url
            else f"qwen3-integrations verify {shlex.quote(str(address))}"
        )
        shown = (text.replace(key, "***") if key else text for text in (str(error), fix))  # a server may repeat the key in an address
        return Finding("environment", variable, "warning", *shown)
    except (OSError, ValueError, ImportError, TooLarge, RecursionError, http_library().HTTPError) as error:
        # No connection, no answer in time, no JSON, or a SOCKS proxy without the library for it.
        text = f"{address} does not answer: {brief(error) or type(error).__name__}"
        return Finding("environment", variable, "problem", text, f"qwen3-integrations status  # is it running? else: unset {variable}")
    return Finding("environment", variable, "ok", f"{address} answers{f', serves {served}' if served else ''}")


def _served(address: Address, key: str | None) -> str:
    """The names of the models that a server lists."""
    if address.socket is not None:
        from qwen3_integrations.serving.health import is_healthy

        if not (Path(address.socket).is_socket() and is_healthy(str(address))):
            raise ConnectionError("no server listens on this socket")
        return ""
    authorization = f"Bearer {key}" if key else address.authorization
    headers = {"Authorization": authorization} if authorization else {}
    token = BOUNDS.set(Bounds(ANSWER_S, LIST_BYTES))
    try:
        with sync_client(address, ANSWER_S) as client:
            for base in address.versions:
                answer = get_within_origin(bounded(client), f"{base}/models", headers, root=address.root)
                if answer.status_code != HTTPStatus.NOT_FOUND:
                    break
            content = answer.raise_for_status().json()
    finally:
        BOUNDS.reset(token)
    listed = content.get("data") if isinstance(content, dict) else content
    if not isinstance(listed, list):
        raise ValueError("it sent no list of models")
    return short_list(entry["id"] for entry in listed if isinstance(entry, dict) and is_name(entry.get("id")))


def proxy_findings(variables: Mapping[str, str]) -> list[Finding]:
    """The proxies, and whether clients would use them for addresses of this machine."""
    by_name = {name.lower(): value for name, value in variables.items() if value}
    proxies = {name: by_name[name] for name in ("http_proxy", "https_proxy", "all_proxy") if name in by_name}
    if not proxies:
        return []
    exempt = [part.strip().lower() for part in by_name.get("no_proxy", "").split(",")]
    shown = ", ".join(f"{name}={shown_url(value)}" for name, value in proxies.items())
    proxied = [host for host in LOOPBACK if "*" not in exempt and host not in exempt]
    if not proxied or not {"http_proxy", "all_proxy"} & proxies.keys():
        return [Finding("environment", "proxies", "ok", shown)]
    text = f"{shown}; other clients (curl, openai) would use the proxy for {' and '.join(proxied)} too"
    fix = f"export NO_PROXY={','.join(LOOPBACK)}${{NO_PROXY:+,$NO_PROXY}} no_proxy={','.join(LOOPBACK)}${{no_proxy:+,$no_proxy}}"
    return [Finding("environment", "proxies", "warning", text, fix)]


def thread_findings(threads: str | None, cores: int) -> list[Finding]:
    """OMP_NUM_THREADS, compared with the number of cores."""
    if not threads:
        return []
    if threads.isdecimal() and 0 < int(threads) < cores:
        text = f"{threads}: on a CPU, models use {threads} of {cores} cores"
        return [Finding("environment", "OMP_NUM_THREADS", "note", text, "unset OMP_NUM_THREADS")]
    return [Finding("environment", "OMP_NUM_THREADS", "ok", threads)]
