"""The loop that engines run on."""

from __future__ import annotations

import threading

from qwen3_integrations.core.event_loop import BackgroundLoop


def test_a_failure_at_the_end_is_logged_and_ends_the_loop(caplog):
    """A connection that can't be closed in order must not hold up the interpreter's exit."""

    async def last():
        raise OSError("reset while closing")

    thread = threading.Thread(target=BackgroundLoop("a model").close, args=[last], daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert "closing a model failed: OSError: reset while closing" in caplog.text
