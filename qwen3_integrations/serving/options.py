"""What a server shall be: options in this package's words, checked, and still without any server's flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from qwen3_integrations.core.types import Task
from qwen3_integrations.core.validation import check_choice, fraction, optional_whole_number, whole_number
from qwen3_integrations.engines.http.address import is_loopback
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import Source, checked_model
from qwen3_integrations.serving.hidden import Hidden, HoldsHidden

EngineName = Literal["vllm", "sglang"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServerOptions(HoldsHidden):
    """A server as it shall be started.

    `api_key` and `env` stay in this process: they are no fields of the dataclass, so `asdict` leaves them out, and options that have
    them are not pickled. Copies and `dataclasses.replace` keep them.

    Attributes:
        task: `embed` or `rerank`.
        model: A folder, a hub's name, or `qwen3-tiny-demo`; None for the task's 0.6B model.
        engine: `vllm` or `sglang`.
        host: Where it listens. The default is this machine alone.
        port: 0 finds a free one.
        uds: A Unix socket's path instead of host and port: only this machine's users who may open it get in. vLLM only.
        api_key: What clients must send; None makes a random one. Never in a command line, a record or a repr.
        without_key: Serve without any key.
        served_name: The name clients ask for; None for `model` as it is given.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        max_tokens: Longest prompt, in tokens; never more than the model's context. Source: the model cards' examples have 8192.
        concurrency: How many prompts of that length the key-value cache holds at once; shorter ones fit in greater number.
        max_num_seqs: Prompts in one forward pass, at most; None for the engine's own.
        max_num_batched_tokens: Tokens in one forward pass, at most; None for 8192, or `max_tokens` if that is more.
        tensor_parallel_size: GPUs that share every layer.
        pipeline_parallel_size: GPUs that share out the layers.
        data_parallel_size: Copies of the model, each with GPUs of its own.
        api_server_count: Processes that take requests: a single one is the limit of short texts. vLLM only.
        quantization: Quantise while loading, such as `fp8`; None takes the checkpoint as it is (GPTQ, AWQ and FP8 ones too).
        kv_cache_memory_bytes: Size of the cache, instead of one planned from `concurrency`.
        gpu_memory_utilization: Share of each GPU that the engine may fill, in (0, 1], instead of a memory plan.
        prefix_caching: Whether what prompts begin with alike is computed once.
        enforce_eager: Start sooner and run slower, without compiling and capturing.
        python: The interpreter that has the engine; None for this one.
        source, revision: Where the model's name may lead, and which revision; see `resolve_model`.
        extra_args: Any other flags of the engine, as it spells them: `("--seed", "1")`.
        env: Environment variables for the server, beside this process's.

    Raises:
        ConfigError: For a value that can't work; names the option.
    """

    task: Task
    model: str | None = None
    engine: EngineName = "vllm"
    host: str = "127.0.0.1"
    port: int = 0
    uds: str | Path | None = None
    if TYPE_CHECKING:
        api_key: str | None = None
    else:
        api_key: InitVar[str | None] = Hidden()
    without_key: bool = False
    served_name: str | None = None
    dtype: str = "auto"
    max_tokens: int = 8192
    concurrency: int = 4
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    api_server_count: int | None = None
    quantization: str | None = None
    kv_cache_memory_bytes: int | None = None
    gpu_memory_utilization: float | None = None
    prefix_caching: bool = True
    enforce_eager: bool = False
    python: str | Path | None = None
    source: Source = "auto"
    revision: str | None = None
    extra_args: tuple[str, ...] = ()
    if TYPE_CHECKING:
        env: Mapping[str, str] | None = None
    else:
        env: InitVar[Mapping[str, str] | None] = Hidden()

    def __post_init__(self, api_key: str | None = None, env: Mapping[str, str] | None = None) -> None:  # noqa: RUF033  fields to type checkers
        self._hide(api_key=api_key, env=None if env is None else MappingProxyType(dict(env)))
        for name, allowed in (("task", get_args(Task)), ("engine", get_args(EngineName)), ("dtype", _DTYPES)):
            check_choice(getattr(self, name), allowed, name)
        for name in _COUNTS:
            object.__setattr__(self, name, whole_number(getattr(self, name), name))
        for name in _OPTIONAL_COUNTS:
            object.__setattr__(self, name, optional_whole_number(getattr(self, name), name))
        self._check_place()
        if self.gpu_memory_utilization is not None:
            object.__setattr__(self, "gpu_memory_utilization", fraction(self.gpu_memory_utilization, "gpu_memory_utilization"))
            if self.kv_cache_memory_bytes is not None:
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
        object.__setattr__(self, "port", whole_number(self.port, "port", 0, _MAX_PORT, note=" (0 means any free one)"))
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
        """The words of the command line that starts the same: `qwen3-integrations serve ...`; without the key and the environment."""
        words = ["qwen3-integrations", "serve", self.task, *([self.model] if self.model is not None else [])]
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("task", "model", "extra_args") or value == each.default:
                continue
            flag = {"served_name": "name"}.get(each.name, each.name).replace("_", "-")
            words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
        return (*words, "--", *self.extra_args) if self.extra_args else tuple(words)

    def to_dict(self) -> dict[str, Any]:
        """The options as plain values, without the key and the environment."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.socket is not None:
            plain["uds"] = self.socket
        return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}


_DTYPES = ("auto", "float32", "bfloat16", "float16")
_COUNTS = ("max_tokens", "concurrency", "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
_OPTIONAL_COUNTS = ("max_num_seqs", "max_num_batched_tokens", "api_server_count", "kv_cache_memory_bytes")
_MAX_PORT = 65535
_SOCKET_BYTES = 107
"""Source: `sun_path` of Linux' <sys/un.h>, less its last zero."""

_BATCHED_TOKENS = 8192
"""vLLM's own default for a server lies between 2048 and 16384, by device and version; a plan needs a number of its own."""
