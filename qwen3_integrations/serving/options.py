"""The options of a server, declared once: the command line, the panel's form, records and each engine's argv are made from them.

To add an option, add one field to `ServerOptions`.
"""

# ruff: noqa: RUF009  `option` is `dataclasses.field` with metadata

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.http.address import is_loopback
from qwen3_integrations.engines.registry import KEY_VARIABLE
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import Source, checked_model
from qwen3_integrations.serving.hidden import HoldsHidden
from qwen3_integrations.serving.option_fields import Option, option, options_of, secret_option

EngineName = Literal["vllm", "sglang"]
TITLES: Mapping[EngineName, str] = {"vllm": "vLLM", "sglang": "SGLang"}

_DTYPES = ("auto", "bfloat16", "float16", "float32")
_ADDRESS, _SPEED, _MEMORY, _GPUS, _PROGRAM = "Address", "Speed", "Memory", "GPUs", "Program"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServerOptions(HoldsHidden):
    """The options of a server to start.

    `api_key` and `env` stay in this process: they are no fields of the dataclass, so `asdict` leaves them out, and options that have
    them can't be pickled. Copies and `dataclasses.replace` keep them.

    Raises:
        ConfigError: For a value that can't work; names the option.
    """

    task: Task = option(help="What the model does.", positional=True)
    model: str | None = option(
        None,
        help="A hub's name, a folder, or qwen3-tiny-demo.",
        empty="the task's 0.6B model",
        positional=True,
        vllm=("model", "model-tag"),
        sglang=("model-path", "model"),
    )
    engine: EngineName = option("vllm", help="The program that serves.")
    port: int = option(
        0,
        help="The port to listen on; 0 for a free one.",
        empty="any free one",
        least=0,
        most=65535,
        note=" (0 means any free one)",
        vllm="port",
        sglang="port",
    )
    max_tokens: int = option(
        8192,
        help="Longest prompt in tokens, template included.",
        label="Longest prompt",
        vllm="max-model-len",
        sglang="context-length",
    )
    concurrency: int = option(4, help="Longest prompts that the key-value cache holds at once.")
    dtype: str = option(
        "auto",
        help="Number format; auto takes the checkpoint's.",
        label="Precision",
        choices=_DTYPES,
        vllm="dtype",
        sglang="dtype",
    )

    host: str = option(
        "127.0.0.1", help="The address to listen on; the default is this machine alone.", group=_ADDRESS, vllm="host", sglang="host"
    )
    uds: str | Path | None = option(
        None,
        help="Path of a Unix socket to listen on, instead of host and port.",
        group=_ADDRESS,
        label="Unix socket",
        empty="none",
        vllm="uds",
        since={"vllm": "0.10.1"},
    )
    served_name: str | None = option(
        None,
        help="The model's name for clients.",
        group=_ADDRESS,
        empty="the model's",
        cli="name",
        vllm="served-model-name",
        sglang="served-model-name",
    )
    without_key: bool = option(
        False, help="Ask for no key: everybody who reaches the server may use it.", group=_ADDRESS, label="Ask for no key"
    )

    max_num_seqs: int | None = option(
        None,
        help="Most prompts in one forward pass.",
        group=_SPEED,
        label="Prompts in a pass",
        empty="the engine's",
        vllm="max-num-seqs",
        sglang="max-running-requests",
    )
    max_num_batched_tokens: int | None = option(
        None,
        help="Most tokens in one forward pass.",
        group=_SPEED,
        label="Tokens in a pass",
        empty="8192, or max_tokens if that is more",
        vllm="max-num-batched-tokens",
        sglang="chunked-prefill-size",
    )
    api_server_count: int | None = option(
        None,
        help="Processes that take requests; use more for short texts.",
        group=_SPEED,
        label="API processes",
        empty="one",
        vllm="api-server-count",
        since={"vllm": "0.9.1"},
    )
    prefix_caching: bool = option(
        True, help="Compute the common prefix of prompts once.", group=_SPEED, vllm="no-enable-prefix-caching", sglang="disable-radix-cache"
    )
    enforce_eager: bool = option(
        False,
        help="Skip compilation and CUDA graphs: starts sooner, runs slower.",
        group=_SPEED,
        label="Start eagerly",
        vllm="enforce-eager",
        sglang="disable-cuda-graph",
    )

    quantization: str | None = option(
        None,
        help="Quantise while loading, such as fp8.",
        group=_MEMORY,
        label="Quantise while loading",
        empty="as stored",
        vllm=("quantization", "-q"),
        sglang="quantization",
    )
    kv_cache_memory_bytes: int | None = option(
        None,
        help="Bytes of the key-value cache, instead of a size planned from concurrency.",
        group=_MEMORY,
        label="Cache",
        empty="planned",
        vllm="kv-cache-memory-bytes",
        sglang="max-total-tokens",
        since={"vllm": "0.10.2"},
    )
    gpu_memory_utilization: float | None = option(
        None,
        help="Share of each GPU to fill, in (0, 1], instead of a memory plan.",
        group=_MEMORY,
        label="Share of each GPU",
        empty="planned",
        vllm="gpu-memory-utilization",
        sglang="mem-fraction-static",
    )

    tensor_parallel_size: int = option(
        1,
        help="GPUs that split every layer.",
        group=_GPUS,
        label="Tensor parallel",
        vllm=("tensor-parallel-size", "-tp"),
        sglang=("tp-size", "tensor-parallel-size"),
    )
    pipeline_parallel_size: int = option(
        1,
        help="GPUs that split the stack of layers.",
        group=_GPUS,
        label="Pipeline parallel",
        vllm=("pipeline-parallel-size", "-pp"),
        sglang=("pp-size", "pipeline-parallel-size"),
    )
    data_parallel_size: int = option(
        1,
        help="Copies of the model, each on its own GPUs.",
        group=_GPUS,
        label="Data parallel",
        vllm=("data-parallel-size", "-dp"),
        sglang=("dp-size", "data-parallel-size"),
    )

    source: Source = option("auto", help="Where to look for the model's name.", group=_PROGRAM)
    revision: str | None = option(None, help="A branch, tag or commit of the hub's repository.", group=_PROGRAM, empty="the default branch")
    python: str | Path | None = option(None, help="The Python interpreter that has the engine installed.", group=_PROGRAM, empty="this one")
    extra_args: tuple[str, ...] = option(
        (), help="Other flags of the engine, in its own spelling: --seed 1", group=_PROGRAM, label="More flags", empty="none"
    )

    if TYPE_CHECKING:  # fields to type checkers; at run time values that are not shown, see `hidden`
        api_key: str | None = None
        env: Mapping[str, str] | None = None
    else:
        api_key: InitVar[str | None] = secret_option(
            help="The key that clients must send. It is in no record, no repr and no command line of the server.",
            empty="a random key",
            envvar=KEY_VARIABLE,
        )
        env: InitVar[Mapping[str, str] | None] = secret_option(help="Environment variables of the server, added to this process's.")

    def __post_init__(self, api_key: str | None = None, env: Mapping[str, str] | None = None) -> None:  # noqa: RUF033  fields to type checkers
        self._hide(api_key=api_key, env=None if env is None else MappingProxyType(dict(env)))
        for each in OPTIONS:
            if not each.secret:
                object.__setattr__(self, each.name, each.checked(getattr(self, each.name)))
        self._check_place()
        if self.gpu_memory_utilization is not None and self.kv_cache_memory_bytes is not None:
            reason = "can't be combined with kv_cache_memory_bytes: both set the size of the cache"
            raise ConfigError(reason, option="gpu_memory_utilization", advice="Leave one of them out")
        if self.without_key and self.api_key is not None:
            raise ConfigError("can't be combined with api_key", option="without_key", advice="Leave one of them out")
        if self.api_key is not None and (not self.api_key or not self.api_key.isascii() or any(map(str.isspace, self.api_key))):
            raise ConfigError("must be visible ASCII without blanks, since it is sent in an HTTP header", option="api_key")
        if isinstance(self.extra_args, str):
            raise ConfigError("must be a sequence of words such as ('--seed', '1'), not one string", option="extra_args")
        checked_model(self.model, self.task)
        object.__setattr__(self, "extra_args", tuple(map(str, self.extra_args)))

    def _check_place(self) -> None:
        if self.socket is None:
            if not self.host.strip():
                raise ConfigError("must be an address such as 127.0.0.1, not an empty string", option="host")
            return
        if not str(self.uds) or len(bytes(self.socket)) > _SOCKET_BYTES:
            raise ConfigError(f"must be a path of 1 to {_SOCKET_BYTES} bytes (the system's limit), not {str(self.uds)!r}", option="uds")
        if not self.socket.parent.is_dir():
            raise ConfigError(f"{str(self.uds)!r} is in a folder that does not exist", option="uds", advice="Create the folder")

    @property
    def model_name(self) -> str:
        """The model as it was asked for, or the task's default."""
        return checked_model(self.model, self.task)

    @property
    def socket(self) -> Path | None:
        """The Unix socket's absolute path; None for host and port."""
        return None if self.uds is None else Path(self.uds).absolute()

    @property
    def name(self) -> str:
        """The name under which clients ask for the model."""
        return self.served_name or self.model_name

    @property
    def batched_tokens(self) -> int:
        """Tokens in one forward pass, at most."""
        return self.max_num_batched_tokens or max(self.max_tokens, _BATCHED_TOKENS)

    @property
    def devices(self) -> int:
        """GPUs of one copy of the model."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def is_public(self) -> bool:
        """True when other machines can reach the server."""
        return self.uds is None and self.host != "localhost" and not is_loopback(self.host)

    @property
    def warning(self) -> str | None:
        """What to know before other machines can reach the server; None where they can't.

        Source: vLLM's documentation of `--api-key`: it guards the routes under /v1, /v2, /inference and /cohere alone.
        """
        if not self.is_public:
            return None
        if self.without_key:
            return f"{self.host} can be reached by other machines, and the server asks for no key: anybody there may use it"
        if self.engine == "sglang":
            return f"{self.host} can be reached by other machines: key and texts travel unencrypted"
        return (
            f"{self.host} can be reached by other machines, and vLLM's key guards only the routes under /v1: /classify, /score, /rerank, "
            "/tokenize and /metrics answer anybody. Listen on 127.0.0.1 or a Unix socket (uds), behind a proxy that checks the key"
        )

    def to_words(self) -> tuple[str, ...]:
        """The command line that starts the same server, `qwen3-integrations serve ...`; without secret options."""
        words = ["qwen3-integrations", "serve"]
        for each in OPTIONS:
            value = getattr(self, each.name)
            if each.positional and value is not None:
                words.append(value)
            if each.positional or each.secret or each.kind == "words" or value == each.default:
                continue
            if each.kind == "switch":
                words.append(each.cli_flag if value else f"--no-{each.cli}")
            else:
                words += [each.cli_flag, str(value)]
        return (*words, "--", *self.extra_args) if self.extra_args else tuple(words)

    def to_dict(self) -> dict[str, Any]:
        """The options as plain values, without the secret ones."""
        plain = {each.name: getattr(self, each.name) for each in OPTIONS if not each.secret}
        if self.socket is not None:
            plain["uds"] = self.socket
        return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}


OPTIONS = options_of(ServerOptions)
"""All options, in the order of their declaration."""

_SOCKET_BYTES = 107
"""Source: `sun_path` of Linux' <sys/un.h>, less its last zero."""

_BATCHED_TOKENS = 8192
"""vLLM's own default for a server lies between 2048 and 16384, by device and version; a plan needs a number of its own."""


def _documented(option: Option) -> str:
    default = f" Default: {option.empty}." if option.empty and option.default is None else ""
    return f"        {option.name}: {option.help}{default}\n"


_ATTRIBUTES = "".join(map(_documented, OPTIONS))
ServerOptions.__doc__ = (ServerOptions.__doc__ or "").replace("    Raises:", f"    Attributes:\n{_ATTRIBUTES}\n    Raises:")
