"""Files of this user that a run opens, locks and writes; links and other users' files are refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from qwen3_integrations.errors import InputError, Qwen3Error


def open_own(path: Path, *, make: bool = True) -> BinaryIO:
    """Open a file of an earlier run, or create a new one. A link, and a file that another user could change, are refused.

    Args:
        path: The file. Its folder may be one that other users can write to, such as /tmp. Links among the folders of the path are
            followed; the file itself must not be a link.
        make: Create the file if it does not exist, and open it for appending. Otherwise it is opened for reading.

    Raises:
        InputError: If it is a link, is not a regular file, belongs to another user, or can't be opened.
        FileNotFoundError: If it does not exist, and `make` is False.
    """
    flags = (os.O_RDWR | os.O_APPEND | os.O_CREAT if make else os.O_RDONLY) | getattr(os, "O_BINARY", 0)
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link, which is not followed: remove it, or name another file")
        descriptor = os.open(path, flags | safe, 0o666)
    except OSError as error:
        if not make and isinstance(error, FileNotFoundError):
            raise
        raise InputError(f"{path} can't be {'written' if make else 'read'}: {error.strerror}") from error
    about = os.fstat(descriptor)
    refusal = _refusal(about)
    if refusal:
        os.close(descriptor)
        raise InputError(f"{path} {refusal}: remove it, or name another file")
    return os.fdopen(descriptor, "a+b" if make else "rb")


def is_process_file(out: Path) -> bool:
    """Whether a path is an open file of a process, such as /dev/stdout. Such a path is a link that other processes need."""
    target = out.parent / out.readlink() if out.is_symlink() else out
    return any(each.parent.resolve().parts[:2] == ("/", "proc") for each in (out, target))


@contextmanager
def write_errors(where: object) -> Iterator[None]:
    """Turn an OSError into a `Qwen3Error`, except for a closed pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Qwen3Error(f"{where} can't be written: {error.strerror or error}") from error


def lock(file: BinaryIO, path: Path) -> None:
    """Lock the part file for this process, if the system has such locks. The lock ends with the process."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"another run is writing {path}", advice="Wait for it, or name another file") from None
    except OSError:  # a file system without locks
        return


def _refusal(about: os.stat_result) -> str | None:
    """Why a file is refused; None if it may be used."""
    if not stat.S_ISREG(about.st_mode):
        return "is not a regular file"
    if hasattr(os, "getuid") and about.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user ({about.st_uid})"
    return "has a second name (a hard link), whose content would change too" if about.st_nlink > 1 else None
