"""GPUs, the programs that use them, and the models that fit into free memory."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from qwen3_integrations.diagnosis.finding import Finding
from qwen3_integrations.diagnosis.software import bounds_of, is_within, needs_of, pip_line
from qwen3_integrations.errors import EngineError
from qwen3_integrations.models.devices import Gpu, Memory, gpus, has_driver, host_memory
from qwen3_integrations.models.memory import PASSES, MemoryPlan, in_gib, plan_memory
from qwen3_integrations.models.shapes import PUBLISHED_SHAPES, PUBLISHED_VOCABULARY
from qwen3_integrations.serving.installed import Installed, find_server

DRIVER_FOR_CUDA: Mapping[int, int] = MappingProxyType({11: 450, 12: 525, 13: 580})
"""The oldest driver series for each major version of CUDA. Source: NVIDIA's "CUDA Compatibility", minor version compatibility."""

ELSEWHERE = "export QWEN3_EMBEDDING_URL=http://gpu-host:8000/v1"


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """The installed PyTorch.

    Attributes:
        version: With the label of its build, such as `2.9.0+cu128`.
        cuda: The version of CUDA that it was built for; None for none.
    """

    version: str
    cuda: str | None


def gpu() -> list[Finding]:
    """The GPUs and their driver."""
    try:
        found = gpus()
    except EngineError as error:
        return [Finding("GPU", "driver", "problem", str(error), "nvidia-smi")]
    if not found and has_driver():
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        if hidden is not None:
            text = f"none is visible with CUDA_VISIBLE_DEVICES={hidden!r}"
            return [Finding("GPU", "NVIDIA", "note", text, "unset CUDA_VISIBLE_DEVICES")]
        return [Finding("GPU", "NVIDIA", "note", "a driver, but no GPU: models run on the CPU, or on a server elsewhere", ELSEWHERE)]
    if not found:
        text = "no NVIDIA driver: models run on the CPU, or on a server elsewhere"
        return [Finding("GPU", "NVIDIA", "note", text, ELSEWHERE)]
    return [Finding("GPU", f"GPU {card.index}", "ok", f"{card.name}, {in_gib(card.total_bytes)}, driver {card.driver}") for card in found]


def torch() -> list[Finding]:
    """The build of PyTorch, compared with the driver."""
    return torch_findings(torch_build(), visible_gpus())


def torch_build() -> TorchBuild | None:
    """The installed PyTorch, read from its `version.py` without importing it; None if there is none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    values = dict(re.findall(r"^(__version__|cuda)\b[^=\n]*=\s*'([^']*)'", text, re.MULTILINE))
    return TorchBuild(values.get("__version__", "of unknown version"), values.get("cuda"))


def torch_findings(build: TorchBuild | None, found: Sequence[Gpu]) -> list[Finding]:
    """Whether PyTorch can use the GPUs."""
    if build is None:
        return []  # the torch extra has a line of its own
    name = f"torch {build.version}"
    if not found:
        return [
            Finding("GPU", "PyTorch", "ok", f"{name}, {f'for CUDA {build.cuda}' if build.cuda else 'a CPU build'}; runs on the CPU here")
        ]
    if build.cuda is None:
        fix = "pip install --force-reinstall torch"
        return [Finding("GPU", "PyTorch", "warning", f"{name} is not a CUDA build: it does not use the GPU", fix)]
    needed = DRIVER_FOR_CUDA.get(int(build.cuda.partition(".")[0]), 0)
    driver = found[0].driver
    if int(driver.partition(".")[0]) < needed:
        text = f"{name} is built for CUDA {build.cuda}, which needs driver {needed} or later; this is {driver}"
        return [
            Finding(
                "GPU",
                "PyTorch",
                "warning",
                text,
                f"nvidia-smi  # update the driver to {needed}, or see pytorch.org for a build of older CUDA",
            )
        ]
    return [Finding("GPU", "PyTorch", "ok", f"{name}, for CUDA {build.cuda}")]


def vllm() -> list[Finding]:
    """Whether vLLM is installed and usable."""
    if importlib.util.find_spec("vllm") is None:
        text = "not installed: nothing can be served from this environment, nor embedded"
        text += "" if sys.platform == "linux" else "; it runs on Linux only"
        return [Finding("vLLM", "vllm", "note", text, "pip install 'qwen3-integrations[vllm]'")]
    installed = find_server("vllm")
    needs = [need for need in needs_of(_requires(installed.distribution)) if need.name == "torch"]
    return vllm_findings(installed, bounds_of("vllm", "vllm"), needs, torch_build(), visible_gpus())


def vllm_findings(
    installed: Installed, bounds: SpecifierSet, needs: Sequence[Requirement], build: TorchBuild | None, found: Sequence[Gpu]
) -> list[Finding]:
    """The problems of an installed vLLM.

    Args:
        installed: The program.
        bounds: The versions that this package was tested with.
        needs: Its requirements for PyTorch.
        build: The installed PyTorch.
        found: The GPUs of this machine.
    """
    name = f"{installed.distribution} {installed.version}"
    findings = []
    if not is_within(installed.version, bounds):
        text = f"{name} is not among the tested {bounds}"
        findings.append(Finding("vLLM", "version", "warning", text, f"pip install 'vllm{bounds}'"))
    for need in needs:
        if build is None or not is_within(build.version, need.specifier):
            text = f"{name} needs torch{need.specifier}; installed is {build.version if build else 'none'}"
            findings.append(Finding("vLLM", "torch", "warning", text, pip_line([need])))
    if installed.is_cpu_build and found:
        fix = f"pip uninstall -y {installed.distribution} && pip install 'vllm{bounds}'"
        findings.append(Finding("vLLM", "build", "warning", f"{name} is a CPU build: it does not use the GPU", fix))
    if not installed.is_cpu_build and not found:
        text = f"{name} needs a GPU, and none is visible: models run on torch here"
        findings.append(Finding("vLLM", "build", "note", text, "pip install 'qwen3-integrations[torch]'"))
    return findings or [Finding("vLLM", "vllm", "ok", f"{name}{', a CPU build' if installed.is_cpu_build else ''}")]


def memory() -> list[Finding]:
    """Free memory, and the published models that fit."""
    return [*(gpu_memory(card) for card in visible_gpus()), host_finding(host_memory())]


def gpu_memory(card: Gpu) -> Finding:
    """Which published models vLLM could load onto a GPU now, by the memory plan with its defaults."""
    plans = [_published_plan(name, 2) for name in PUBLISHED_SHAPES]
    needed = {plan.model: plan.total_bytes for plan in plans}
    return _fits(f"GPU {card.index}", card.free_bytes, card.total_bytes, needed, "in vLLM", "nvidia-smi")


def host_finding(host: Memory) -> Finding:
    """Which published models PyTorch could load on the CPU now: float32 weights and one forward pass."""
    plans: list[MemoryPlan] = [_published_plan(name, 4) for name in PUBLISHED_SHAPES]
    needed = {plan.model: plan.weights_bytes + plan.pass_bytes // PASSES for plan in plans}
    return _fits("main memory", host.available_bytes, host.total_bytes, needed, "in PyTorch on the CPU", "free -h")


def _published_plan(name: str, value_bytes: int) -> MemoryPlan:
    shape = PUBLISHED_SHAPES[name]
    return plan_memory(name, shape, shape.weights_bytes(PUBLISHED_VOCABULARY, value_bytes), value_bytes=value_bytes)


def _fits(subject: str, free: int, total: int, needed: Mapping[str, int], how: str, fix: str) -> Finding:
    can = ", ".join(f"{name} ({in_gib(size)})" for name, size in needed.items() if size <= free)
    text = f"{in_gib(free)} of {in_gib(total)} free; "
    if not can:
        return Finding(
            "memory", subject, "warning", f"{text}no published model fits {how}, the smallest takes {in_gib(min(needed.values()))}", fix
        )
    return Finding("memory", subject, "ok", f"{text}models that fit {how}, one at a time: {can}")


def _requires(distribution: str) -> list[str]:
    try:
        return importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def visible_gpus() -> tuple[Gpu, ...]:
    """The GPUs; none if the driver is broken, which has its own finding."""
    try:
        return gpus()
    except EngineError:
        return ()
