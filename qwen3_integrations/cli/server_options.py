"""The options of a server as parameters of a command: made from their declaration."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from qwen3_integrations.serving.flag_hints import hint_for
from qwen3_integrations.serving.option_fields import Option
from qwen3_integrations.serving.options import OPTIONS, TITLES, EngineName

_NOT_HERE = ("words", "mapping")
"""Kinds of values that no command-line option holds."""


class ServeCommand(TyperCommand):
    """A command that says what to write instead of a flag of vLLM or of another program."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        words = list(args)  # the parser takes them out of the list
        named = {word.rpartition("=")[2] for word in words}
        engine: EngineName = next((name for name in TITLES if name in named), "vllm")
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # of click, or of typer's copy of it
            flag = getattr(error, "option_name", "")
            if not flag.startswith("--"):  # click reads -tp as -t -p
                flag = next((word for word in words if flag and word.startswith(flag)), flag)
            if type(error).__name__ == "NoSuchOption" and (hint := hint_for(flag, engine)):
                error.message, error.possibilities = f"No such option: {flag}. {hint}", None  # type: ignore[attr-defined]
            raise


def with_server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `ServerOptions`, in place of its `**options`.

    Args:
        command: A function whose parameters are a context, keywords of its own, and `**options`.

    Returns:
        The same function; its signature, which typer reads, names every option.
    """
    signature = inspect.signature(command, eval_str=True)
    context, *own = (each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD)
    options = [_parameter(each) for each in OPTIONS if each.kind not in _NOT_HERE]
    command.__signature__ = signature.replace(parameters=[context, *options, *own])  # type: ignore[attr-defined]
    return command


def _parameter(option: Option) -> inspect.Parameter:
    default = inspect.Parameter.empty if option.positional and option.default is None and not option.empty else option.default
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_annotation(option))


def _annotation(option: Option) -> Any:
    kind: Any = Literal[option.choices] if option.choices else option.type
    shown = option.empty if option.empty and option.default is None else True
    if option.positional:
        about = typer.Argument(help=option.help, show_default=shown)
        return Annotated[kind if not option.empty else kind | None, about]
    flag = f"{option.cli_flag}/--no-{option.cli}" if option.default is True else option.cli_flag
    limits = {"min": option.least, "max": option.most} if option.kind == "number" else {}
    about = typer.Option(flag, help=option.help, show_default=shown, envvar=option.envvar or None, **limits)  # type: ignore[arg-type]
    return Annotated[kind | None if option.default is None else kind, about]
