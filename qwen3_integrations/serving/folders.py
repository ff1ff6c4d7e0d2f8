"""Which folders a server can serve so that every client gets the numbers that the folder declares."""

from __future__ import annotations

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.checkpoint import ModelFiles
from qwen3_integrations.serving.options import EngineName, ServerOptions
from qwen3_integrations.serving.programs import PROGRAMS

_IN_PROCESS = "Open the folder in this process with backend='torch', which computes it"


def check_served_folder(options: ServerOptions, files: ModelFiles, engine: EngineName) -> None:
    """Refuse a folder that a program would serve with other numbers than it declares.

    Args:
        options: The options of the server.
        files: The model on disk.
        engine: The program.

    Raises:
        ModelNotFound: If the folder has no safetensors weights, or no tokenizer.
        ConfigError: Says why, with file and field, and what to run instead.
    """
    files.read_tokenizer()
    if reason := PROGRAMS[engine].refusal(options, files):
        raise ConfigError(reason, option="model", advice=None if engine == "torch" else _IN_PROCESS)
