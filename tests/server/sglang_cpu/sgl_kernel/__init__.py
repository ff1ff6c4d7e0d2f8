"""Stands in for `sgl_kernel`, the CUDA kernels of SGLang, on a machine without a GPU.

SGLang imports names of this package wherever it may need a kernel, also where it then computes with PyTorch. Every name and every
submodule can be imported here. A kernel that is called raises an error with its name, so that no wrong number is ever computed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "0.3.21"
"""The version that SGLang 0.5.9 asks for."""


class MissingKernel:
    """A kernel, or a group of kernels, that is not here."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> MissingKernel:
        if name.startswith("__"):
            raise AttributeError(name)
        return MissingKernel(f"{self._name}.{name}")

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{self._name} is a CUDA kernel, and this is the stand-in for a CPU")


class KernelModule(ModuleType):
    """A submodule with every name."""

    def __getattr__(self, name: str) -> MissingKernel:
        if name.startswith("__"):
            raise AttributeError(name)
        return MissingKernel(f"{self.__name__}.{name}")


class Submodules(MetaPathFinder, Loader):
    """Finds every submodule of this package."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.startswith(f"{__name__}.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return KernelModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is to be run."""


def __getattr__(name: str) -> MissingKernel:
    if name.startswith("__"):
        raise AttributeError(name)
    return MissingKernel(f"{__name__}.{name}")


sys.meta_path.insert(0, Submodules())
