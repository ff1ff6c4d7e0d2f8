"""Files of a model's folder, with errors that name the file and what to do."""

from __future__ import annotations

import errno
import json
import stat
from pathlib import Path
from typing import Any

from qwen3_integrations.errors import ConfigError

_POINTER = b"version https://git-lfs.github.com/spec/"
"""The first bytes of a Git LFS pointer. Source: the specification of Git LFS."""

_AGAIN = "Download the model again"
_PERMISSIONS = "Check the file and its permissions"


def file_exists(path: Path) -> bool:
    """Whether there is a file.

    Raises:
        ConfigError: If there is something else of this name: a broken link, a circle of links, a folder, or a file out of reach.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise ConfigError(
                f"{path} is a link to {path.readlink()}, which does not exist: the model is not complete", advice=_AGAIN
            ) from None
        return False
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:  # a zero byte in a name that another file declares
        raise ConfigError(f"{str(path)!r} can't be a file: {error}", advice=_AGAIN) from None
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{path} is not a file, but {'a folder' if stat.S_ISDIR(mode) else 'a device or a pipe'}", advice=_AGAIN)
    return True


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8.

    Raises:
        ConfigError: If it is empty, a Git LFS pointer, not in UTF-8, or begins with a byte order mark.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:  # a zero byte in the path
        raise ConfigError(f"{str(path)!r} can't be a file: {error}", advice=_AGAIN) from None
    check_no_pointer(path, content[:64])
    if not content.strip():
        raise ConfigError(f"{path} is empty: the download of the model is not complete", advice=_AGAIN)
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        reason = f"{path} begins with a byte order mark, which other programs refuse"
        raise ConfigError(reason, advice="Save the file as UTF-8 without a byte order mark")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not in UTF-8: it is damaged", advice=_AGAIN) from None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ConfigError: As `read_text`, and if it is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise ConfigError(f"{path} is not valid JSON ({where}): it is damaged, or its download is not complete", advice=_AGAIN) from None


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Raises:
        ConfigError: As `read_json`, and if it holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a JSON {type(content).__name__}, not an object: it is damaged", advice=_AGAIN)
    return content


def read_optional_object(path: Path) -> dict[str, Any]:
    """As `read_object`; empty where the file does not exist.

    Raises:
        ConfigError: As `read_object` and `file_exists`.
    """
    return read_object(path) if file_exists(path) else {}


def check_no_pointer(path: Path, beginning: bytes) -> None:
    """Refuse a Git LFS pointer.

    Args:
        path: The file, for the message.
        beginning: Its first bytes, at least 40.

    Raises:
        ConfigError: If the file is a pointer.
    """
    if beginning.startswith(_POINTER):
        raise ConfigError(
            f"{path} is a Git LFS pointer, not the file itself", advice="Run `git lfs pull` in the repository, or download the model again"
        )


def _unreadable(path: Path, error: OSError) -> ConfigError:
    if error.errno == errno.ENOENT:
        return ConfigError(f"{path} does not exist: the model is not complete", advice=_AGAIN)
    if error.errno == errno.ELOOP:
        return ConfigError(f"{path} can't be read: its links form a circle", advice="Replace the link by the file")
    return ConfigError(f"{path} can't be read: {error.strerror or error}", advice=_PERMISSIONS)
