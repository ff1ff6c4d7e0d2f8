"""A forged record is not trusted: files of other users delete, read and end nothing. Most tests need a second account."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from qwen3_integrations.errors import ConfigError
from qwen3_integrations.serving import attach, servers
from qwen3_integrations.serving.records import FOLDER_VARIABLE, ServerRecord, servers_folder
from qwen3_integrations.serving.trust import check_folder

if sys.platform == "win32":
    pytest.skip("accounts and modes are POSIX'", allow_module_level=True)

NOBODY = 65534


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "state" / "servers"
    monkeypatch.setenv(FOLDER_VARIABLE, str(path))
    return path


def record_in(folder, **changes):
    name = changes.pop("name", "embed-model-8000")
    about = {
        "task": "embed",
        "model": "model",
        "engine": "vllm",
        "url": "http://127.0.0.1:8000",
        "owner_pid": 1,
        "keep_running": True,
        "started_at": time.time(),
        "command": ("server",),
        "log": str(folder / f"{name}.log"),
        "folder": "/nowhere",
        "options": {},
    }
    return ServerRecord(name=name, **about | changes)


def plant(path, record):
    path.write_text(json.dumps(asdict(record)))
    return path


def needs_root():
    if os.getuid():
        pytest.skip("only root can give files to a second account")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o1777])
def test_a_folder_that_others_can_write_is_refused_with_the_command_that_repairs_it(folder, mode):
    servers_folder()
    folder.chmod(mode)
    damaged = folder / "x.json"
    damaged.write_text("{")
    for call in (servers, servers_folder, attach):
        with pytest.raises(ConfigError, match=rf"servers, the folder of .* is not trusted.*has mode {mode:o}.*chmod 700 {folder}"):
            call()
    assert damaged.exists()
    folder.chmod(0o700)
    assert servers() == ()


def test_a_folder_of_another_account_is_refused(folder):
    needs_root()
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    for call in (servers, servers_folder):
        with pytest.raises(ConfigError, match=r"belongs to nobody and has mode 700.*QWEN3_SERVERS_DIR"):
            call()


@pytest.mark.parametrize("mode", [0o777, 0o702])
def test_a_folder_above_that_others_can_write_is_refused(folder, mode):
    servers_folder()
    folder.parent.chmod(mode)
    with pytest.raises(ConfigError, match=rf"{folder.parent} on its path .* mode {mode:o}.*chmod go-w {folder.parent}"):
        servers()
    folder.parent.chmod(mode | 0o1000)  # as for /tmp
    assert servers() == ()


def test_a_folder_above_that_is_another_accounts_is_refused(folder):
    needs_root()
    servers_folder()
    os.chown(folder.parent, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="on its path belongs to nobody"):
        servers()


def test_an_own_link_to_an_own_folder_is_followed_and_another_accounts_is_not(folder, tmp_path):
    needs_root()
    servers_folder()
    link = tmp_path / "link"
    link.symlink_to(folder)
    os.environ[FOLDER_VARIABLE] = str(link)
    record_in(link, started_at=time.time()).write()
    assert [server.name for server in servers()] == ["embed-model-8000"]
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(ConfigError, match=r"link, the folder of .* is not trusted.* belongs to nobody"):
        servers()


def test_folders_are_made_for_their_user_alone_whatever_the_umask(folder):
    before = os.umask(0)
    try:
        servers_folder()
    finally:
        os.umask(before)
    assert [each.stat().st_mode & 0o777 for each in (folder, folder.parent)] == [0o700, 0o700]


def test_a_file_of_another_account_or_that_others_can_write_is_no_record(folder, caplog):
    needs_root()
    servers_folder()
    theirs = plant(folder / "theirs.json", record_in(folder, name="theirs"))
    os.chown(theirs, NOBODY, NOBODY)
    loose = plant(folder / "loose.json", record_in(folder, name="loose"))
    loose.chmod(0o666)
    link = folder / "link.json"
    link.symlink_to(plant(folder.parent / "elsewhere", record_in(folder, name="link")))
    os.mkfifo(folder / "pipe.json")
    for _ in range(2):
        assert servers() == ()
    assert {path.name for path in folder.glob("*.json")} == {"theirs.json", "loose.json", "link.json", "pipe.json"}
    assert len([line for line in caplog.messages if "is not trusted" in line]) == 4


@pytest.mark.parametrize(
    "planted",
    [
        lambda folder, target: {"key_config": str(target)},
        lambda folder, target: {"key_config": f"{folder}/../{target.name}"},
        lambda folder, target: {"log": str(target)},
        lambda folder, target: {"name": f"../../{target.stem}"},
    ],
)
def test_a_record_that_names_files_elsewhere_deletes_and_reads_nothing(folder, tmp_path, planted):
    """Such a record could be written while other users could write to the folder."""
    servers_folder()
    target = tmp_path / "precious.json"
    target.write_text('api-key: "root-only"')
    for more in ({"started_at": 0.0}, {"supervisor_pid": 2**22 - 1}, {}):
        plant(folder / "embed-model-8000.json", replace(record_in(folder), **planted(folder, target) | more))
        assert servers() == ()
        assert target.read_text() == 'api-key: "root-only"'


@pytest.mark.parametrize(
    "damage",
    [
        {"supervisor_pid": "1"},
        {"supervisor_pid": 2**70},
        {"server_pid": "1"},
        {"started_at": "now"},
        {"started_at": None, "supervisor_pid": 0},
        {"url": 5},
        {"options": None},
        {"command": None},
    ],
    ids=str,
)
def test_a_record_with_values_of_another_kind_is_no_servers(folder, damage):
    servers_folder()
    path = plant(folder / "embed-model-8000.json", record_in(folder))
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    path.chmod(0o600)
    assert servers() == ()


def test_a_record_that_is_nested_too_deeply_is_no_servers(folder):
    servers_folder()
    path = folder / "embed-model-8000.json"
    path.write_text("[" * 200_000)
    path.chmod(0o600)
    assert servers() == ()


def test_a_key_file_that_is_a_link_is_not_read(folder, tmp_path):
    servers_folder()
    target = tmp_path / "target"
    target.write_text('api-key: "root-only"')
    key = folder / "embed-model-8000.key.yaml"
    key.symlink_to(target)
    record_in(folder, key_config=str(key)).write()
    (server,) = servers()
    assert server.api_key is None
    key.unlink()
    key.write_text('api-key: "own"')
    key.chmod(0o600)
    assert attach().api_key == "own"


def test_a_log_that_is_a_link_is_not_read(folder, tmp_path):
    servers_folder()
    (tmp_path / "target").write_text("root only\n")
    (folder / "embed-model-8000.log").symlink_to(tmp_path / "target")
    record_in(folder).write()
    assert attach().logs() == []


def test_a_process_of_another_account_is_no_supervisor(folder):
    needs_root()
    servers_folder()
    record = record_in(folder)
    script = "import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(record.path)]) as own:
        replace(record, supervisor_pid=own.pid).write()
        assert [server.name for server in servers()] == [record.name]
        own.kill()
    tail = ["/bin/sh", "-c", "sleep 60; :", str(record.path)]
    with subprocess.Popen(tail, user=NOBODY, group=NOBODY, extra_groups=[], start_new_session=True) as theirs:
        replace(record, supervisor_pid=theirs.pid).write()
        try:
            assert servers() == ()
        finally:
            os.killpg(theirs.pid, 9)


def test_an_existing_link_at_the_path_of_a_lock_or_record_is_not_followed(folder, tmp_path):
    servers_folder()
    target = tmp_path / "target"
    target.write_text("precious")
    record = record_in(folder)
    (folder / f"{record.name}.json.{os.getpid()}").symlink_to(target)
    record.path.symlink_to(target)
    record.write()
    assert target.read_text() == "precious"
    assert json.loads(record.path.read_text())["name"] == record.name
    (folder / ".records.lock").unlink()
    (folder / ".records.lock").symlink_to(tmp_path / "made through a link")
    with pytest.raises(OSError, match="symbolic link"):
        record.write()
    assert not (tmp_path / "made through a link").exists()


def test_the_command_that_repairs_a_folder_is_quoted(tmp_path):
    folder = tmp_path / "模型 目录" / "it's"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(ConfigError) as raised:
        check_folder(folder)
    words = shlex.split(str(raised.value).partition("then run ")[2])
    assert words == ["chmod", "700", str(folder)]
