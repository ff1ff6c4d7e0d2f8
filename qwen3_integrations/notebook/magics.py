"""The magics of `%load_ext qwen3_integrations`: short forms of `serving`, `Reranker` and `Embedder`."""

# mypy: disable-error-code="untyped-decorator, no-untyped-call, no-any-return"
# IPython's decorators have no types.

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from qwen3_integrations.core.results import Ranking
from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import check_options
from qwen3_integrations.engines.registry import open_engine
from qwen3_integrations.engines.sharing import SharedEngine
from qwen3_integrations.errors import ConfigError, InputError, ModelNotFound, Qwen3Error, ServerUnreachable
from qwen3_integrations.notebook.arguments import (
    BACKEND,
    BASE_URL,
    INSTRUCTION,
    MODEL,
    NAME,
    OPTION,
    PARAGRAPHS,
    SERVER,
    SERVER_ARGUMENTS,
    checked_options,
    pair,
    parsed,
    server_argument,
    texts_in,
)
from qwen3_integrations.notebook.completion import complete
from qwen3_integrations.notebook.vectors_view import Vectors
from qwen3_integrations.serving import ServerStatus

if TYPE_CHECKING:
    from qwen3_integrations.core.reranker import Reranker
    from qwen3_integrations.serving import Server

COMPLETED = r"^%%?qwen3_\w+\s"
"""Lines whose arguments are completed."""

_HINTS: tuple[tuple[type[Qwen3Error], str], ...] = (
    (ServerUnreachable, "%qwen3_status lists the servers that run on this machine"),
    (ModelNotFound, "!qwen3-integrations doctor shows which models are on this machine"),
    (ConfigError, "%{magic}? shows all arguments"),
    (InputError, "%{magic}? shows all arguments"),
)


class ServerStatuses(tuple[ServerStatus, ...]):
    """The status of several servers, shown as tables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(f"{each.name}: {each.state}, {each.url}" for each in self) or "no servers run here; %qwen3_serve starts one"

    def _repr_html_(self) -> str | None:
        return "".join(each._repr_html_() for each in self) or None


@magics_class
class Qwen3Magics(Magics):
    """The magics, and the engines that stay open between cells, one for each task."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._held: dict[Task, tuple[object, SharedEngine]] = {}
        self._reranker: Reranker | None = None

    @magic_arguments()
    @server_argument("task")
    @server_argument("model")
    @server_argument("port")
    @server_argument("max_tokens")
    @server_argument("dtype")
    @server_argument("enforce_eager")
    @argument(
        "--option",
        action="append",
        type=pair,
        default=[],
        metavar="NAME=VALUE",
        help="Another option of ServerOptions, such as concurrency=8 or engine=sglang.",
    )
    @argument("--timeout", type=float, default=900.0, metavar="SECONDS", help="Longest wait; downloading is not counted.")
    @argument("--keep-running", action="store_true", help="Leave it running when this kernel ends.")
    @argument("--new", action="store_true", help="Start another server, even if one with the same options runs.")
    @line_magic
    def qwen3_serve(self, line: str) -> Server:
        """Start a server, or reuse one with the same options, and wait for its first correct answer.

        The result is a `Server`. It ends with this kernel unless --keep-running is given. Words after -- are passed to
        the engine:

            server = %qwen3_serve rerank qwen3-tiny-demo --port 8001 -- --seed 1
        """
        with self._short_errors("qwen3_serve"):
            from qwen3_integrations.serving import ServerOptions, start
            from qwen3_integrations.serving.options import OPTIONS
            from qwen3_integrations.serving.progress_bar import start_bar

            own, _, extra = f"{line} ".partition(" -- ")
            arguments = self._parsed_serve(own)
            values = {name: getattr(arguments, name) for name in SERVER_ARGUMENTS} | {"extra_args": tuple(shlex.split(extra))}
            given = checked_options(arguments.option, values)
            check_options(given, [each.name for each in OPTIONS], "a server")
            options = ServerOptions(**values | given)
            with start_bar() as report:
                outcome = start(
                    options,
                    timeout_s=arguments.timeout,
                    keep_running=arguments.keep_running,
                    reuse=not arguments.new,
                    on_progress=report,
                )
            return outcome.running()

    def _parsed_serve(self, line: str) -> Namespace:
        from qwen3_integrations.serving.flag_hints import hint_for

        try:
            return parsed(self.qwen3_serve, line)
        except UsageError as error:
            unknown = [word.partition("=")[0] for word in str(error).split() if word.startswith("-")]
            hints = [f"{flag}: {hint}" for flag in unknown if (hint := hint_for(flag))]
            raise UsageError("\n".join([str(error), *hints])) from None

    @magic_arguments()
    @argument("name", nargs="?", help="A server's name or address. Default: all servers.")
    @line_magic
    def qwen3_status(self, line: str) -> ServerStatus | ServerStatuses:
        """The servers that run on this machine, started by notebooks, programs or the command line.

        The result is a tuple of `ServerStatus`, or the status of the named server.
        """
        with self._short_errors("qwen3_status"):
            from qwen3_integrations.serving import attach, servers

            arguments = parsed(self.qwen3_status, line)
            return attach(arguments.name).status() if arguments.name else ServerStatuses(server.status() for server in servers())

    @magic_arguments()
    @argument("names", nargs="*", help="Names or addresses of servers; not needed if only one of yours runs.")
    @argument("--all", action="store_true", help="Stop all your servers, those that other running notebooks and programs started too.")
    @line_magic
    def qwen3_stop(self, line: str) -> tuple[str, ...]:
        """Stop servers and all their processes; the result is a tuple of their names."""
        with self._short_errors("qwen3_stop"):
            from qwen3_integrations.serving import attach, servers
            from qwen3_integrations.serving.ownership import only_own_server

            arguments = parsed(self.qwen3_stop, line)
            chosen = list(servers()) if arguments.all else [attach(name) for name in arguments.names] or [only_own_server()]
            for server in chosen:
                server.stop()
            return tuple(server.name for server in chosen)

    @magic_arguments("%qwen3_rank")
    @argument("query", nargs="+", help="The query.")
    @argument("--top-n", type=int, metavar="N", help="Largest number of texts to keep.")
    @argument("--threshold", type=float, metavar="SCORE", help="Smallest score to keep, in [0, 1].")
    @INSTRUCTION
    @MODEL
    @SERVER
    @BASE_URL
    @BACKEND
    @OPTION
    @PARAGRAPHS
    @NAME
    @cell_magic
    def qwen3_rank(self, line: str, cell: str) -> Ranking:
        """Rank the texts of the cell, one per line, by their relevance to the query on the first line.

        The result is a `Ranking`; `_.inspect()` in the next cell shows how the texts moved. The engine stays open for the next
        cell.

            %%qwen3_rank how do I copy a file --model qwen3-tiny-demo -o ranking
            shutil.copyfile copies the contents of a file.
            os.remove deletes a file.
        """
        with self._short_errors("%qwen3_rank"):
            from qwen3_integrations.core.reranker import Reranker

            arguments = parsed(self.qwen3_rank, line)
            texts = texts_in(cell, arguments.paragraphs)
            reranker = Reranker(self._engine("rerank", arguments))
            self._reranker = reranker  # rankings remember it weakly, and `_.inspect()` runs it again
            return self._kept(
                arguments, reranker.rank(" ".join(arguments.query), texts, arguments.top_n, arguments.threshold, arguments.instruction)
            )

    @magic_arguments("%qwen3_embed")
    @argument("--queries", action="store_true", help="Embed the texts as queries, with the instruction in front.")
    @INSTRUCTION
    @argument("--dimensions", type=int, metavar="N", help="Dimensions of the vectors. Default: the model's own.")
    @MODEL
    @SERVER
    @BASE_URL
    @BACKEND
    @OPTION
    @PARAGRAPHS
    @NAME
    @cell_magic
    def qwen3_embed(self, line: str, cell: str) -> Any:
        """Embed the texts of the cell, one per line.

        The result is a float32 array of shape (texts, dimensions) with rows of unit length, which shows itself in one line. The
        engine stays open for the next cell.

            %%qwen3_embed --model qwen3-tiny-demo -o vectors
            The capital of China is Beijing.
            Pandas eat bamboo.
        """
        with self._short_errors("%qwen3_embed"):
            from qwen3_integrations.core.embedder import Embedder

            arguments = parsed(self.qwen3_embed, line)
            if arguments.instruction is not None and not arguments.queries:
                raise ConfigError("applies only to queries", option="--instruction", advice="Add --queries, or leave it out")
            embedder = Embedder(self._engine("embed", arguments), dimensions=arguments.dimensions)
            texts = texts_in(cell, arguments.paragraphs)
            done = (
                embedder.embed_queries(texts, arguments.instruction)
                if arguments.queries
                else embedder.embed_documents(texts, progress=True)
            )
            return self._kept(arguments, done.view(Vectors))

    def close(self) -> None:
        """Close the engines."""
        for _, engine in self._held.values():
            engine.close()
        self._held.clear()
        self._reranker = None

    def _engine(self, task: Task, arguments: Namespace) -> SharedEngine:
        """The requested engine: the open one if it fits, otherwise a new one in its place."""
        wanted = (arguments.model, arguments.server, arguments.base_url, arguments.backend, arguments.option)
        held = self._held.get(task)
        if held and held[0] != wanted:
            self._held.pop(task)[1].close()  # first: memory may not hold two models
        options = checked_options(arguments.option, ("task", "model", "base_url", "backend"))
        if arguments.server:
            if arguments.model or arguments.base_url or arguments.backend != "auto":
                advice = "Leave out --model, --base-url and --backend"
                raise ConfigError("determines the model and its address", option="--server", advice=advice)
            from qwen3_integrations.serving import attach

            engine = attach(arguments.server, task=task).engine(**options)
        else:
            engine = open_engine(task, arguments.model, base_url=arguments.base_url, backend=arguments.backend, **options)
        if held:
            held[1].close()  # this cell's own reference keeps it open
        self._held[task] = (wanted, engine)
        return engine

    def _kept(self, arguments: Namespace, value: Any) -> Any:
        if arguments.output:
            assert self.shell is not None
            self.shell.user_ns[arguments.output] = value
        return value

    @contextmanager
    def _short_errors(self, magic: str) -> Iterator[None]:
        """Show errors of this package as one line and a hint, instead of a traceback."""
        try:
            yield
        except UsageError as error:
            raise UsageError(f"{error}. %{magic}? shows all arguments") from None
        except Qwen3Error as error:
            hint = next((text.format(magic=magic) for kind, text in _HINTS if isinstance(error, kind)), None)
            raise _shown_short(error, hint) from None


def load(shell: Any) -> None:
    """Register the magics with a shell; may be called again."""
    unload(shell)
    shell.register_magics(Qwen3Magics(shell))
    shell.set_hook("complete_command", partial(complete, Qwen3Magics), re_key=COMPLETED)


def unload(shell: Any) -> None:
    """Remove the magics, and close their engines."""
    held = shell.magics_manager.registry.pop(Qwen3Magics.__name__, None)
    if held is None:
        return
    held.close()
    shell.strdispatchers["complete_command"].regexs.pop(re.compile(COMPLETED), None)
    for kind, names in Qwen3Magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)


def _shown_short(error: Qwen3Error, hint: str | None) -> Qwen3Error:
    lines = [f"{type(error).__name__}: {error}"] + ([f"hint: {hint}"] if hint else [])
    error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]  # IPython's way for errors that show themselves,
    error.__context__ = None  # unless a group of exceptions led to them
    return error
