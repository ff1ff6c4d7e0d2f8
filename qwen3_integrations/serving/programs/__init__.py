"""The programs that serve, each with what differs between them: command line, environment, folders, memory, routes."""

from __future__ import annotations

from collections.abc import Mapping

from qwen3_integrations.serving.options import EngineName
from qwen3_integrations.serving.programs.program import Program
from qwen3_integrations.serving.programs.sglang import SGLANG
from qwen3_integrations.serving.programs.torch import TORCH
from qwen3_integrations.serving.programs.vllm import VLLM

PROGRAMS: Mapping[EngineName, Program] = {"torch": TORCH, "vllm": VLLM, "sglang": SGLANG}

__all__: list[str] = []
