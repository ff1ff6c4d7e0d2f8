"""The body of a request: bounded in bytes and time, decompressed, decoded."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.types import Receive

from qwen3_integrations.server.bodies import Body
from qwen3_integrations.server.refusal import Refusal
from qwen3_integrations.server.settings import MEBIBYTE

B = TypeVar("B", bound=Body)

_LARGE = 256 << 10
"""A body from this size on, in bytes, is decoded in a worker thread: JSON is decoded at about 500 MB/s."""

_ENCODINGS = {"gzip": 31, "deflate": 15}
"""`Content-Encoding` -> the `wbits` of zlib."""


async def read_body(request: Request, max_mib: int, timeout_s: float) -> bytes:
    """All bytes of a body, decompressed.

    Args:
        request: The request.
        max_mib: Its largest size in MiB, before and after decompression.
        timeout_s: Seconds in which it must arrive.

    Raises:
        Refusal: 413 if it is too large, 408 if it is too slow, 415 for another encoding, 400 if it can't be decompressed.
    """
    most = max_mib * MEBIBYTE
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise _too_large(max_mib)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", *_ENCODINGS):
        raise Refusal(415, f"Content-Encoding {encoding!r} is not known; gzip and deflate are", code="unknown_encoding")
    unpack = zlib.decompressobj(_ENCODINGS[encoding]) if encoding in _ENCODINGS else None
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                part = unpack.decompress(chunk, most - size + 1) if unpack else chunk
                parts.append(part)
                size += len(part)
                if size > most:
                    raise _too_large(max_mib)
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {timeout_s:g} s", code="slow_body") from None
    except zlib.error as error:
        raise Refusal(400, f"the body is not {encoding}: {error}", code="invalid_encoding") from None
    if unpack is not None and not unpack.eof:
        raise Refusal(400, f"the {encoding} body is cut off", code="invalid_encoding")
    return b"".join(parts)


async def decoded(content: bytes, kind: type[B]) -> B:
    """The body as a structure; a large one in a worker thread.

    Raises:
        msgspec.DecodeError: If it is not JSON.
        msgspec.ValidationError: If a field is missing, unknown, or of the wrong type.
    """
    decoder: msgspec.json.Decoder[B] = msgspec.json.Decoder(kind)
    return await asyncio.to_thread(decoder.decode, content) if len(content) > _LARGE else decoder.decode(content)


async def gone(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return


def _too_large(max_mib: int) -> Refusal:
    return Refusal(413, f"the body is larger than {max_mib} MiB; send fewer texts in a request", code="body_too_large")
