"""What a queue runs: forward passes of a model on one device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qwen3_integrations.core.types import Prefix, Prompt, PromptPart, Rows

_NO_IDS = np.empty(0, dtype=np.int32)

PROBE = Prompt(Prefix("", _NO_IDS), PromptPart("", np.zeros(1, dtype=np.int32)), PromptPart("", _NO_IDS))
"""A prompt of one token, which every model can compute."""


class PassTooLarge(Exception):
    """The device has not enough memory for a pass."""


class PassRunner(Protocol):
    """Runs forward passes of a model.

    Attributes:
        asynchronous: Whether the device still computes a pass when `start` returns, so that the next pass can be started meanwhile.
    """

    asynchronous: bool

    def start(self, prompts: Sequence[Prompt]) -> Callable[[], Rows]:
        """Start a pass. The returned function waits for it and returns its rows, in the order of the prompts.

        Raises:
            PassTooLarge: If the device has not enough memory for the pass.
        """

    def empty_rows(self) -> Rows:
        """The rows of zero prompts."""

    def close(self) -> None:
        """Free the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """A device with a model.

    Attributes:
        name: A name for messages.
        runner: The model; called from one thread only.
        budget: Tokens of one pass, shared prefixes counted once.
    """

    name: str
    runner: PassRunner
    budget: int


def is_usable(runner: PassRunner) -> bool:
    """Whether a device still computes: whether it can run a pass of one token."""
    try:
        runner.start([PROBE])()
    except PassTooLarge:
        return True
    except Exception:  # noqa: BLE001  whatever it is, this device computes nothing
        return False
    return True
