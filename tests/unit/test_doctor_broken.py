"""`doctor` where a check breaks: what could not be read, and what moves it."""

from __future__ import annotations

import pytest

from qwen3_integrations.diagnosis import Finding, checks, diagnose
from qwen3_integrations.errors import ConfigError

SERVERS_DIR = "export QWEN3_SERVERS_DIR=/a/folder/of/yours"


@pytest.mark.parametrize(
    ("area", "error", "says", "fix"),
    [
        ("models", PermissionError(13, "Permission denied", "/else where"), "/else where can't be read or written", "export HF_HUB_CACHE="),
        ("servers", PermissionError(13, "Permission denied", "/state"), "/state can't be read or written: Permission denied", SERVERS_DIR),
        ("servers", ConfigError("/state can't be written"), "/state can't be written", SERVERS_DIR),
        ("memory", OSError(5, "Input/output error", "/proc/x y"), "/proc/x y can't be read or written", "ls -ld '/proc/x y'"),
        ("extras", ImportError("no numpy"), "ImportError: no numpy", "pip check"),
    ],
)
def test_the_fix_matches_the_fault(area, error, says, fix):
    def broken() -> list[Finding]:
        raise error

    (finding,) = diagnose([(area, broken)])
    assert says in finding.text
    assert finding.fix.startswith(fix)


def test_a_cache_that_is_a_file_says_which_variable_moves_it(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "cache_folders", lambda: {"huggingface": tmp_path / "huggingface", "modelscope": tmp_path / "modelscope"})
    (tmp_path / "modelscope").mkdir()
    (tmp_path / "modelscope" / "models").touch()

    def listed() -> list[Finding]:
        return [Finding("models", path.name, "ok", "") for path in (tmp_path / "modelscope" / "models").iterdir()]

    (finding,) = diagnose([("models", listed)])
    assert f"NotADirectoryError: {tmp_path}/modelscope/models can't be read or written: Not a directory" in finding.text
    assert finding.fix == "export MODELSCOPE_CACHE=/a/folder/of/yours"
