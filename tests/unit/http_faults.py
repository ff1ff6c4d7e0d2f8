"""Fifty kinds of fault and seventy hostile answers of a server, by name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.server.faults import Call, reset, status
from tests.unit.http_words import WIDTH, embeddings, raw, send

Fault = Callable[[Call], Any]

WRONG = "\x1b[31m\x07\u202ered\x00\x9b"
"""Control characters that a terminal obeys."""


def _said(answered: int, words: str, **more: Any) -> Fault:
    return lambda call: send(call, answered, {"error": {"message": words, **more}})


def _body(content: Any, code: int = 200, kind: str = "application/json") -> Fault:
    return lambda call: send(call, code, content, {"Content-Type": kind})


def _raw(data: bytes) -> Fault:
    return lambda call: raw(call, data)


def _hang(call: Call) -> None:
    call.handler.owner.released.wait(2)
    call.reset()


def _drip(start: bytes, drop: bytes) -> Fault:
    def fault(call: Call) -> None:
        try:
            raw(call, start)
            for _ in range(30):
                if call.handler.owner.released.wait(0.1):
                    break
                raw(call, drop)
        except OSError:
            pass

    return fault


def _late(call: Call) -> None:
    time.sleep(0.2)
    send(call, 200, embeddings(call.seen.body["input"]))


def _half_of_right(call: Call) -> None:
    body = json.dumps(embeddings(call.seen.body["input"])).encode()
    call.answer(200, body[: len(body) // 2], {"Connection": "close"}, length=len(body))


def _cut(call: Call) -> None:
    body = json.dumps(embeddings(call.seen.body["input"])).encode()
    call.answer(200, body[: len(body) // 2])


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

FAULTS: dict[str, Fault] = {
    **{
        f"status {code}": status(code)
        for code in (400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 418, 421, 422, 425, 429, 431, 451)
    },
    **{f"status {code} for ever": status(code) for code in (500, 501, 502, 503, 504, 507, 520, 529, 599)},
    "300": status(300),
    "302 to another host": status(302, {}, Location="http://other.example/"),
    "304": lambda call: call.answer(304, b""),
    "307 in a circle": status(307, {}, Location="/v1/embeddings"),
    "308 without Location": status(308),
    "429 with Retry-After": status(429, Retry_After="0.2"),
    "503 with a long Retry-After": status(503, Retry_After="100000"),
    "200 with an error": _said(200, "Provider overloaded"),
    "200 with an error and a code": _said(200, "no credit", code=402),
    "500 too large": _said(500, "input is too large to process"),
    "413 batch": _said(413, "batch size 4 > maximum allowed batch size 1"),
    "HTML with 200": _body(b"<html><title>Welcome</title></html>", 200, "text/html"),
    "HTML with 502": _body(b"<html><title>502 Bad Gateway</title></html>", 502, "text/html"),
    "empty with 200": _body(b""),
    "empty with 500": _body(b"", 500),
    "cut JSON": _cut,
    "half of the answer": _half_of_right,
    "reset": reset,
    "hang": _hang,
    "drip of a body": _drip(HEAD + b"Content-Length: 9999\r\n\r\n", b" "),
    "drip of headers": _drip(HEAD, b"X-A: b\r\n"),
    "late": _late,
}

DEEP = b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def _items(edit: Callable[[list[Any]], Any]) -> Fault:
    """The right answer with changed items; `edit` changes them, or returns what `data` becomes."""

    def fault(call: Call) -> None:
        content = embeddings(call.seen.body["input"])
        changed = edit(content["data"])
        send(call, 200, {"data": content["data"] if changed is None else changed})

    return fault


def _embedding(value: Any) -> Fault:
    return _items(lambda items: items[-1].update(embedding=value))


def _index(value: Any) -> Fault:
    return _items(lambda items: items[-1].update(index=value))


def _text(text: str) -> Fault:
    return _body(text.encode())


VALUES: dict[str, Any] = {
    "booleans": [True] * WIDTH,
    "texts": ["0.1"] * WIDTH,
    "null": None,
    "nulls": [None] * WIDTH,
    "NaN": [float("nan")] * WIDTH,
    "infinity": [float("inf")] * WIDTH,
    "10^400": [10**400] * WIDTH,
    "1e300": [1e300] * WIDTH,
    "zeros": [0.0] * WIDTH,
    "empty": [],
    "nested": [[0.1] * WIDTH],
    "deep": [[[[[[[0.1]]]]]]],
    "objects": [{}] * WIDTH,
    "an object": {"0": 0.1},
    "a number": 0.5,
    "true": True,
    "too narrow": [0.1] * (WIDTH - 1),
    "too wide": [0.1] * 100_000,
    "not base64": "not base64!",
    "base64 of 3 bytes": "AAAA",
    "empty base64": "",
    "control characters": WRONG * 1000,
}

INDEXES: dict[str, Any] = {
    "-1": -1,
    "10^18": 10**18,
    "10^400": 10**400,
    "true": True,
    "0.5": 0.5,
    "word": "first",
    "control characters": WRONG * 1000,
    "a list": [0],
    "an object": {"a": 1},
    "NaN": float("nan"),
    "-0.5": -0.5,
    "99": 99,
}

HOSTILE: dict[str, Fault] = {
    **{f"vector: {name}": _embedding(value) for name, value in VALUES.items()},
    **{f"index: {name}": _index(value) for name, value in INDEXES.items()},
    "items: none": _items(lambda items: []),
    "items: one too few": _items(lambda items: items[:-1]),
    "items: one too many": _items(lambda items: [*items, items[0]]),
    "items: twice the same": _items(lambda items: [items[0]] * 5),
    "items: a million": _items(lambda items: [0] * 1_000_000),
    "items: nulls": _items(lambda items: [None for _ in items]),
    "items: numbers": _items(lambda items: [1 for _ in items]),
    "items: lists": _items(lambda items: [[] for _ in items]),
    "items: texts": _items(lambda items: [WRONG for _ in items]),
    "items: an object": _items(lambda items: {"0": items}),
    "items: true": _items(lambda items: True),
    "deep JSON": _body(DEEP),
    "deep objects": _text('{"a":' * 50_000 + "1" + "}" * 50_000),
    "deep error": _body(DEEP, 400),
    "an integer of 5,000 digits": _text('{"data": ' + "9" * 5000 + "}"),
    "bad UTF-8": _body(b'{"data": "\xff\xfe\xc0"}'),
    "bad UTF-8 in an error": _body(b'{"error": "\xff\xfe\xc0"}', 400),
    "lone surrogate": _text('{"error": {"message": "\\ud800"}}'),
    "UTF-16": _body('{"data": []}'.encode("utf-16")),
    "a number": _text("17"),
    "true": _text("true"),
    "null": _text("null"),
    "a text": _text('"hello"'),
    "NaN": _text("NaN"),
    "a list": _text("[1, 2, 3]"),
    "many keys": _text(json.dumps({f"{WRONG}{number}": 1 for number in range(10_000)})),
    "control characters in an error": _said(400, WRONG * 500),
    "control characters in a page": _body((WRONG * 100).encode(), 200, "text/html"),
    "an error of a megabyte": _said(500, "x" * (1 << 20)),
    "an error of a list": _body({"error": [[[[[[["no"]]]]]]]}, 400),
    "an error of numbers": _body({"error": {"message": 10**400, "code": 10**400}}, 400),
    "no HTTP": _raw(b"\x00\x01\x02\xff\r\n\r\n"),
    "bad status line": _raw(b"HTTP/1.1 9999999 WHAT\r\n\r\n"),
    "bad length": _raw(HEAD + b"Content-Length: -5\r\n\r\n{}"),
    "huge length": _raw(HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}"),
    "bad chunk": _raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    "bad gzip": lambda call: send(call, 200, b"not gzip", {"Content-Encoding": "gzip"}),
    "unknown coding": lambda call: send(call, 200, b"{}", {"Content-Encoding": "br, gzip"}),
    "headers of a megabyte": _raw(HEAD + b"X-A: " + b"y" * (1 << 20) + b"\r\n\r\n{}"),
    "Location with control characters": lambda call: send(call, 302, b"", {"Location": "http://\x1b[31m/"}),
    "usage of texts": lambda call: send(call, 200, {**embeddings(call.seen.body["input"])} | {"usage": {"prompt_tokens": WRONG}}),
    "usage of 10^400": lambda call: send(call, 200, {**embeddings(call.seen.body["input"])} | {"usage": {"prompt_tokens": 10**400}}),
}

assert len(FAULTS) >= 50
assert len(HOSTILE) >= 70
