"""Which program serves, when the options name none."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_integrations.errors import MissingExtra
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.models.torch_support import torch_refusals
from qwen3_integrations.serving.extra_flags import flags_of, spelled
from qwen3_integrations.serving.installed import Installed, find_server
from qwen3_integrations.serving.options import OPTIONS, ServerOptions

NAMED = "named by the caller"


@dataclass(frozen=True, slots=True)
class Choice:
    """A program and the reason why it was chosen.

    Attributes:
        installed: The program.
        reason: Half a sentence, such as `the model is quantised`.
    """

    installed: Installed
    reason: str

    def __str__(self) -> str:
        return f"{self.installed}: {self.reason}"


def choose(options: ServerOptions, files: ModelFiles | None) -> Choice:
    """The program for these options: our own server, unless options or folder need vLLM, or only vLLM is installed.

    Args:
        options: The options.
        files: The model on disk; None where it is not known yet.

    Raises:
        MissingExtra: If the program is not installed.
        ConfigError: If `options.python` is not a Python interpreter.
    """
    if options.engine != "auto":
        return Choice(find_server(options.engine, options.python), NAMED)
    try:
        ours = find_server("torch", options.python)
    except MissingExtra as missing:
        try:
            return Choice(find_server("vllm", options.python), "the extra server is not installed")
        except MissingExtra:
            raise missing from None
    if need := _needs_vllm(options, files, ours):
        return Choice(find_server("vllm", options.python), need)
    return Choice(ours, "an unquantised model on one device")


def _needs_vllm(options: ServerOptions, files: ModelFiles | None, ours: Installed) -> str | None:
    """What our own server does not have; None for nothing."""
    theirs = [option.name for option in OPTIONS if option.name == "lora" or (option.flags and "torch" not in option.flags)]
    defaults = {option.name: option.default for option in OPTIONS}
    if used := [name for name in theirs if getattr(options, name) != defaults[name]]:
        return f"{used[0]} is an option of vLLM's"
    if options.quantization not in (None, "fp8"):
        return f"our own server does not quantise to {options.quantization}"
    if foreign := [flag for flag in flags_of(options.extra_args) if not ours.has(flag)]:
        return f"{spelled(foreign[0])} is no flag of our own server"
    if files is not None and files.quantised:
        return "the model is quantised"
    if files is not None and torch_refusals(files):
        return "the torch engine does not compute this folder"
    return None
