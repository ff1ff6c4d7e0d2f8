"""Start SGLang behind `KeyGuard`: `python guarded_sglang.py FLAGS...`, with the flags of `sglang.launch_server`.

SGLang has no flag for middleware, and its own key leaves routes open: all that begin with /health or /metrics, and every OPTIONS.
"""

from __future__ import annotations

import runpy
from typing import Any

from qwen3_key_guard import KeyGuard  # type: ignore[import-not-found]  # in the folder of this script


def guard_uvicorn() -> None:
    """Put the guard around each application that uvicorn serves in this process."""
    import uvicorn

    plain = uvicorn.Config.__init__

    def guarded(self: Any, app: Any, *positional: Any, **named: Any) -> None:
        if isinstance(app, str):  # for processes that uvicorn starts itself, which would serve it without the guard
            raise SystemExit("error: SGLang's flag for several tokenizer processes can't be combined with a key")
        plain(self, KeyGuard(app), *positional, **named)

    uvicorn.Config.__init__ = guarded  # type: ignore[method-assign]


if __name__ == "__main__":
    guard_uvicorn()
    runpy.run_module("sglang.launch_server", run_name="__main__", alter_sys=True)
