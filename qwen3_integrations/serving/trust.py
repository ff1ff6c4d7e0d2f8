"""Which files of this machine are trusted: the user's own, in folders that no other user can change.

Source: OpenSSH's StrictModes, which requires the same of a user's keys. On a system without POSIX accounts everything is trusted.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from qwen3_integrations.errors import ConfigError

_LINKS = 40
"""Most symbolic links in a path. Source: the limit of Linux."""


def check_folder(folder: Path) -> None:
    """Check that only this user and root can change the content of a folder.

    The folder must belong to the user, and only the user may write to it. All folders and links on the path must belong to the user or
    root; a folder that others can write to must have the sticky bit, as /tmp has.

    Args:
        folder: An absolute path of a folder that exists.

    Raises:
        ConfigError: Names the part that others can change, its owner and mode, and the command that fixes it.
    """
    if not hasattr(os, "getuid"):
        return
    for step, about in _way(folder):
        if about.st_uid not in (os.geteuid(), 0):
            raise _refusal(folder, step, about, "name a folder of your own in QWEN3_SERVERS_DIR")
        is_open = about.st_mode & stat.S_IWOTH or (about.st_mode & stat.S_IWGRP and not _is_private(about))
        if stat.S_ISDIR(about.st_mode) and is_open and not about.st_mode & stat.S_ISVTX:
            raise _refusal(folder, step, about, f"chmod go-w {shlex.quote(str(step))}, or name another folder in QWEN3_SERVERS_DIR")
    about = folder.stat()
    if about.st_uid != os.geteuid():
        raise _refusal(folder, folder, about, "name a folder of your own in QWEN3_SERVERS_DIR")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refusal(folder, folder, about, f"check its content, then run chmod 700 {shlex.quote(str(folder))}")


def is_own_file(descriptor: int) -> bool:
    """Whether an open file is a regular file of this user that no other user can write to."""
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        return False
    return not hasattr(os, "getuid") or (about.st_uid == os.geteuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def read_own(path: Path) -> bytes | None:
    """The content of a file of this user; None for a link, another kind of file, or another user's file.

    Raises:
        OSError: If there is no such file, or it can't be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    if path.is_symlink():
        return None
    descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as file:
        return file.read() if is_own_file(descriptor) else None


def _way(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The folders and links on the path to a folder, without the folder itself, each with its owner and mode."""
    at, left, links = Path(folder.anchor), list(folder.parts[1:]), 0
    yield at, at.lstat()
    while left:
        name = left.pop(0)
        step = at.parent if name == ".." else at / name
        about = step.lstat()
        if stat.S_ISLNK(about.st_mode):
            links += 1
            if links > _LINKS:
                raise ConfigError(f"the path of {folder} has too many symbolic links")
            yield step, about
            target = step.readlink()
            at, left = (Path(target.anchor) if target.is_absolute() else at), [*target.parts[target.is_absolute() :], *left]
            continue
        at = step
        if left:
            yield step, about


def _is_private(about: os.stat_result) -> bool:
    """Whether a file's group has this user as its only member and carries the user's name: many systems give each user such a group."""
    import grp
    import pwd

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
        group = grp.getgrgid(about.st_gid)
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}


def _refusal(folder: Path, step: Path, about: os.stat_result, fix: str) -> ConfigError:
    import pwd

    try:
        owner = pwd.getpwuid(about.st_uid).pw_name
    except KeyError:
        owner = str(about.st_uid)
    where = f"{step} on its path" if step != folder else "it"
    return ConfigError(
        f"{folder}, the folder of the servers' records, is not trusted: {where} belongs to {owner} and has mode "
        f"{stat.S_IMODE(about.st_mode):o}, so others can change its content: {fix}"
    )
