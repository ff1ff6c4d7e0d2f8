"""Output of all commands: consoles for results and messages, the form of errors, the exit codes."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import IO, Any, cast

import typer
from rich.console import Console
from typer.core import TyperGroup

from qwen3_integrations.errors import (
    AuthenticationFailed,
    ConfigError,
    HandshakeFailed,
    InputError,
    ModelNotFound,
    Qwen3Error,
    ServerUnreachable,
)


class ExitCode(IntEnum):
    """The meaning of a command's exit code."""

    DONE = 0
    FAILED = 1
    """The engine, the server, the model, or a check of `verify` or `doctor`."""
    USAGE = 2
    """An option, an argument or an input that can't be used."""
    SKIPPED = 3
    """Done, but some lines were left out, with `--on-error skip`."""
    INTERRUPTED = 130
    """Ctrl-C; everything written before it is complete."""
    BROKEN_PIPE = 141
    """The reader of the output closed the pipe, as `head` does."""
    TERMINATED = 143
    """SIGTERM; otherwise as after Ctrl-C."""


EXIT_CODES = (
    "Exit codes: 0 done; 1 failed (engine, server, model, or a check); 2 wrong usage (an option or an input); "
    "3 done, but lines were left out (--on-error skip); 130 interrupted; "
    "141 the reader of a pipe closed it; 143 terminated."
)

_HINTS: tuple[tuple[type[Qwen3Error], str], ...] = (
    (ServerUnreachable, "`qwen3-integrations status` lists the servers that were started on this machine"),
    (AuthenticationFailed, "`qwen3-integrations status --show-keys` shows the keys of servers that were started on this machine"),
    (HandshakeFailed, "`qwen3-integrations verify URL` shows everything that is wrong with a server"),
    (ModelNotFound, "`qwen3-integrations doctor` shows which models are on this machine"),
    (ConfigError, "`qwen3-integrations {command} --help` shows all options"),
)


_FLAGS = {"served_name": "name", "score_threshold": "threshold", "timeout_s": "timeout"}
"""Option of an error -> parameter of a command, where the names differ."""


def console() -> Console:
    """Console for results: standard output. Created for each call, so that a redirection has an effect."""
    return _Results(file=sys.stdout)


def messages() -> Console:
    """Console for progress, warnings and errors: standard error. Messages that can't be written are lost; the command goes on."""
    return Console(file=cast("IO[str]", _Lossy(sys.stderr)))


class _Results(Console):
    def on_broken_pipe(self) -> None:
        """Raise the error again: `Commands` gives it the exit code of a closed pipe."""
        raise BrokenPipeError


class _Lossy:
    """A stream that ignores errors of writing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def print_json(value: Any) -> None:
    """One JSON document, or one line of JSON lines, on standard output."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not text.isprintable():  # a terminal may obey characters that JSON permits, such as U+009B
        text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Commands(TyperGroup):
    """The command group: turns the errors of all commands into one line, a hint and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed with >&-
                setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  open until the end
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # a message about wrong usage that can't be written
            _lose_output()
            sys.exit(getattr(error.__context__, "exit_code", ExitCode.FAILED))

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments; this prints the help and the version."""
        with _output_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the requested command."""
        try:
            with _output_errors():
                result = super().invoke(ctx)
                sys.stdout.flush()  # so that an error is raised here and not when the interpreter exits
                return result
        except Qwen3Error as error:
            _show(_flagged(error, self, ctx), ctx.invoked_subcommand or "")
            raise typer.Exit(ExitCode.USAGE if _is_usage(error) else ExitCode.FAILED) from None
        except KeyboardInterrupt:
            messages().print("interrupted", highlight=False)
            raise typer.Exit(ExitCode.INTERRUPTED) from None


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a stream whose disk is full, has no quota left, has a limit, or is broken."""


@contextmanager
def _output_errors() -> Iterator[None]:
    """Turn an error of standard output into one line and an exit code."""
    try:
        yield
    except BrokenPipeError:
        _lose_output()
        raise typer.Exit(ExitCode.BROKEN_PIPE) from None
    except OSError as error:
        is_of_stream = error.filename is None and error.errno in _FULL
        if isinstance(error, Qwen3Error) or not (is_of_stream or _is_of_output()):
            raise
        _lose_output()
        messages().print(f"error: standard output can't be written: {error.strerror or error}", highlight=False, soft_wrap=True)
        raise typer.Exit(ExitCode.FAILED) from None
    except Qwen3Error:
        if _is_of_output():  # the interpreter would try again at exit
            _lose_output()
        raise


def _is_of_output() -> bool:
    """Whether standard output can't be written: what was not written is still in its buffer."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return True
    return False


def _lose_output() -> None:
    """Send the rest of the output's buffer nowhere. Otherwise the interpreter would write it at exit, and raise again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_usage(error: Qwen3Error) -> bool:
    return isinstance(error, InputError | ConfigError) and not isinstance(error, ModelNotFound)


def _flagged(error: Qwen3Error, commands: TyperGroup, ctx: Any) -> Qwen3Error:
    """The error with the command's own flag for the setting at fault, where it has one."""
    command = commands.get_command(ctx, ctx.invoked_subcommand or "")
    if not isinstance(error, ConfigError) or error.option is None or command is None:
        return error
    name = _FLAGS.get(error.option, error.option)
    flags = {each.name: [word for word in each.opts if word.startswith("--")] for each in command.params}
    if flags.get(name):
        return error.replace(option=flags[name][0])
    is_option = name not in flags and "option" in flags and name.isidentifier() and name not in os.environ  # HTTPS_PROXY is no option
    return error.replace(option=f"--option {name}") if is_option else error


def _show(error: Exception, command: str) -> None:
    out = messages()
    out.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
    for kind, hint in _HINTS:
        if isinstance(error, kind):
            out.print(f"hint: {hint.format(command=command)}", markup=False, highlight=False, soft_wrap=True)
            return
