"""What this machine has: GPUs through NVML, memory within a container's limit; nothing here initialises CUDA."""
# ruff: noqa: N802  the stand-in has NVML's names

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from qwen3_integrations.errors import EngineError
from qwen3_integrations.models.devices import Gpu, Memory, gpus, host_memory, visible_devices, within_limits
from qwen3_integrations.models.memory import GIB

pynvml = pytest.importorskip("pynvml")
UUIDS = ["GPU-aaaa1111-0000", "GPU-aaaa2222-0000", "GPU-bbbb3333-0000"]
MACHINE = Memory(64 * GIB, 40 * GIB)


@pytest.mark.parametrize(
    ("wanted", "devices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("0,7,1", [0]),
        ("0,-1,1", [0]),
        ("none", []),
        ("1,1", []),
        ("GPU-bbbb3333-0000,0", [2, 0]),
        ("GPU-aaaa2", [1]),
        ("GPU-aaaa", []),  # two begin so
        ("GPU-cccc,0", []),
        ("MIG-5c89852c-d268,1", ["MIG-5c89852c-d268", 1]),
    ],
)
def test_cuda_visible_devices(wanted, devices):
    assert visible_devices(wanted, UUIDS) == devices


class Driver:
    """NVML's functions over a machine of three GPUs, one of which has a MIG slice; the exceptions are the real bindings'."""

    NVMLError = pynvml.NVMLError
    NVMLError_LibraryNotFound = pynvml.NVMLError_LibraryNotFound
    NVMLError_DriverNotLoaded = pynvml.NVMLError_DriverNotLoaded
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported

    def __init__(self, *, starts: Exception | None = None, memory: Exception | None = None, text=str) -> None:
        self.starts, self.memory, self.text, self.open = starts, memory, text, 0

    def nvmlInit(self):
        if self.starts:
            raise self.starts
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return 3

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUUID(self, handle):
        return self.text(UUIDS[handle])

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid != b"MIG-1":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "slice"

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle):
        return {"slice": 2}[handle]

    def nvmlDeviceGetIndex(self, handle):
        return handle

    def nvmlDeviceGetMemoryInfo(self, handle):
        if self.memory:
            raise self.memory
        return SimpleNamespace(total={"slice": 10}.get(handle, 80) * GIB, free={"slice": 9}.get(handle, 70) * GIB)

    def nvmlDeviceGetUtilizationRates(self, handle):
        if handle == "slice":
            raise pynvml.NVMLError_NotSupported(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=25, memory=10)

    def nvmlDeviceGetName(self, handle):
        return self.text(f"card {handle}")

    def nvmlSystemGetDriverVersion(self):
        return self.text("580.65.06")


@pytest.fixture
def install(monkeypatch):
    def _install(**options):
        driver = Driver(**options)
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        return driver

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return _install


@pytest.mark.parametrize("text", [str, str.encode], ids=["text", "bytes"])
def test_gpus_come_in_the_order_that_is_asked_for(install, monkeypatch, text):
    driver = install(text=text)
    assert [gpu.index for gpu in gpus()] == [0, 1, 2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1,1")
    assert gpus() == (Gpu(2, "card slice", 10 * GIB, 9 * GIB, "580.65.06"), Gpu(1, "card 1", 80 * GIB, 70 * GIB, "580.65.06"))
    assert [gpu.use for gpu in gpus()] == [None, 0.25]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == ()
    assert driver.open == 0


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_no_driver_is_no_gpu(install, error):
    install(starts=pynvml.NVMLError(error))
    assert gpus() == ()


def test_a_driver_that_does_not_answer_is_an_error(install):
    install(starts=pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH))
    with pytest.raises(EngineError, match=r"does not answer: RM has detected an NVML/RM version mismatch.*restart"):
        gpus()


def test_a_slice_that_is_not_there_is_an_error_and_the_library_is_given_back(install, monkeypatch):
    driver = install()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2")
    with pytest.raises(EngineError, match="does not describe a GPU: Not Found"):
        gpus()
    assert driver.open == 0


def test_a_gpu_that_shares_the_machines_memory_shows_it(install):
    install(memory=pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED))
    assert {gpu.total_bytes for gpu in gpus()} == {host_memory().total_bytes}


def test_the_real_library_answers_without_cuda_in_the_process():
    code = (
        "import sys; from qwen3_integrations.models.devices import gpus; assert isinstance(gpus(), tuple); "
        "print('torch' in sys.modules, 'libcuda.so' in open('/proc/self/maps').read())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False False\n"


def test_host_memory_is_within_the_machines():
    memory = host_memory()
    assert 0 < memory.available_bytes <= memory.total_bytes <= psutil.virtual_memory().total


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_without_groups_all_memory_counts(tmp_path):
    assert within_limits(MACHINE, "", tmp_path) == MACHINE
    assert within_limits(MACHINE, "0::/gone\n", tmp_path) == MACHINE


def test_a_limit_of_version_2_counts_without_file_caches(tmp_path):
    write(tmp_path / "pod", memory__max=16 * GIB, memory__current=10 * GIB, memory__stat=f"anon 1\ninactive_file {4 * GIB}")
    assert within_limits(MACHINE, "0::/pod\n", tmp_path) == Memory(16 * GIB, 10 * GIB)


def test_the_tightest_group_around_counts(tmp_path):
    write(tmp_path / "pod", memory__max=16 * GIB, memory__current=15 * GIB, memory__stat="inactive_file 0")
    write(tmp_path / "pod" / "box", memory__max="max", memory__current=GIB)
    assert within_limits(MACHINE, "0::/pod/box\n", tmp_path) == Memory(16 * GIB, GIB)
    assert within_limits(Memory(64 * GIB, GIB // 2), "0::/pod/box\n", tmp_path) == Memory(16 * GIB, GIB // 2)


def test_a_container_that_sees_its_group_as_the_root(tmp_path):
    write(tmp_path, memory__max=8 * GIB, memory__current=GIB, memory__stat="inactive_file 0")
    assert within_limits(MACHINE, "0::/../../kubepods/pod\n", tmp_path) == Memory(8 * GIB, 7 * GIB)


def test_a_limit_of_version_1(tmp_path):
    group = tmp_path / "memory" / "docker" / "box"
    write(group, memory__limit_in_bytes=4 * GIB, memory__usage_in_bytes=3 * GIB, memory__stat=f"total_inactive_file {GIB}")
    write(tmp_path / "memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=30 * GIB)
    groups = "9:name=systemd:/\n4:cpu,memory:/docker/box\n0::/\n"
    assert within_limits(MACHINE, groups, tmp_path) == Memory(4 * GIB, 2 * GIB)


def test_a_group_that_is_over_its_limit_has_nothing_available(tmp_path):
    write(tmp_path, memory__max=GIB, memory__current=2 * GIB)
    assert within_limits(MACHINE, "0::/\n", tmp_path).available_bytes == 0
