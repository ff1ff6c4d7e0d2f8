"""The options of a server, declared once: the command line, the panel's form, records and each engine's argv are made from them.

To add an option, add one field to `ServerOptions`.
"""

# ruff: noqa: RUF009  `option` is `dataclasses.field` with metadata

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from qwen3_integrations.core.types import Task
from qwen3_integrations.engines.secrets import KEY_VARIABLE
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import Source, checked_model
from qwen3_integrations.serving.guard import KEY
from qwen3_integrations.serving.hidden import HoldsHidden
from qwen3_integrations.serving.listen_address import check_address, exposure_warning, is_public
from qwen3_integrations.serving.option_fields import Option, option, options_of, secret_option

EngineName = Literal["vllm", "sglang", "torch"]
EngineChoice = Literal["auto", "torch", "vllm", "sglang"]
TITLES: Mapping[EngineName, str] = {"vllm": "vLLM", "sglang": "SGLang", "torch": "our own server"}

_DTYPES = ("auto", "bfloat16", "float16", "float32")

# The groups of the form; an option without a group is always visible.
_address = partial(option, group="Address")
_speed = partial(option, group="Speed")
_memory = partial(option, group="Memory")
_gpus = partial(option, group="GPUs")
_program = partial(option, group="Program")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServerOptions(HoldsHidden):
    """The options of a server to start.

    `api_key` and `env` stay in this process: they are not fields of the dataclass, so `asdict` omits them, and options that have
    them can't be pickled. Copies and `dataclasses.replace` keep them.

    Raises:
        ConfigError: For a value that can't work; names the option.
    """

    task: Task = option(help="What the model does.", positional=True)
    model: str | Path | None = option(
        None,
        help="A hub's name, a folder, or qwen3-tiny-demo.",
        empty="the task's 0.6B model",
        positional=True,
        vllm=("model", "model-tag"),
        sglang=("model-path", "model"),
        torch=("embed", "rerank"),
    )
    engine: EngineChoice = option(
        "auto",
        help="The program that serves: torch is our own server; auto takes it where it can serve model and options, else vLLM.",
    )
    port: int = option(
        0,
        help="The port to listen on; 0 for a free one.",
        empty="any free one",
        least=0,
        most=65535,
        note=" (0 means any free one)",
        vllm="port",
        sglang="port",
        torch="port",
    )
    max_tokens: int = option(
        8192,
        help="Longest prompt in tokens, template included.",
        label="Longest prompt",
        vllm="max-model-len",
        sglang="context-length",
        torch="max-tokens",
    )
    concurrency: int = option(4, help="How many prompts of max_tokens the key-value cache can hold at once.")
    dtype: str = option(
        "auto",
        help="Number format; auto takes the checkpoint's, and with torch bfloat16 on a GPU, else float32.",
        label="Precision",
        choices=_DTYPES,
        vllm="dtype",
        sglang="dtype",
        torch="dtype",
    )

    host: str = _address(
        "127.0.0.1", help="The address to listen on; the default is this machine alone.", vllm="host", sglang="host", torch="host"
    )
    uds: str | Path | None = _address(
        None,
        help="Path of a Unix socket to listen on, instead of host and port.",
        label="Unix socket",
        empty="none",
        vllm="uds",
        torch="uds",
        since={"vllm": "0.10.1"},
    )
    served_name: str | None = _address(
        None,
        help="The model's name for clients.",
        empty="the model's",
        cli="name",
        vllm="served-model-name",
        sglang="served-model-name",
        torch=("embed-name", "rerank-name"),
    )
    without_key: bool = _address(False, help="Ask for no key: everybody who reaches the server may use it.", label="Ask for no key")

    max_num_seqs: int | None = _speed(
        None,
        help="Largest number of prompts in one forward pass.",
        label="Prompts in a pass",
        empty="the engine's",
        vllm="max-num-seqs",
        sglang="max-running-requests",
    )
    max_num_batched_tokens: int | None = _speed(
        None,
        help="Largest number of tokens in one forward pass.",
        label="Tokens in a pass",
        empty="8192, or max_tokens if that is more",
        vllm="max-num-batched-tokens",
        sglang="chunked-prefill-size",
        torch="max-batch-tokens",
    )
    api_server_count: int | None = _speed(
        None,
        help="Processes that receive requests; use more for short texts.",
        label="API processes",
        empty="one",
        vllm="api-server-count",
        since={"vllm": "0.9.1"},
    )
    prefix_caching: bool = _speed(
        True, help="Compute the common prefix of prompts once.", vllm="no-enable-prefix-caching", sglang="disable-radix-cache"
    )
    enforce_eager: bool = _speed(
        False,
        help="Skip compilation and CUDA graphs: starts sooner, runs slower.",
        label="Start eagerly",
        vllm="enforce-eager",
        sglang="disable-cuda-graph",
    )

    quantization: str | None = _memory(
        None,
        help="Quantisation to apply while loading, such as fp8.",
        label="Quantise while loading",
        empty="as stored",
        vllm=("quantization", "-q"),
        sglang="quantization",
        torch="quantization",
    )
    kv_cache_memory_bytes: int | None = _memory(
        None,
        help="Bytes of the key-value cache, instead of a size planned from concurrency.",
        label="Cache",
        empty="planned",
        vllm="kv-cache-memory-bytes",
        sglang="max-total-tokens",
        since={"vllm": "0.10.2"},
    )
    gpu_memory_utilization: float | None = _memory(
        None,
        help="Share of each GPU to fill, in (0, 1], instead of a memory plan.",
        label="Share of each GPU",
        empty="planned",
        vllm="gpu-memory-utilization",
        sglang="mem-fraction-static",
    )

    tensor_parallel_size: int = _gpus(
        1,
        help="GPUs that split every layer.",
        label="Tensor parallel",
        vllm=("tensor-parallel-size", "-tp"),
        sglang=("tp-size", "tensor-parallel-size"),
    )
    pipeline_parallel_size: int = _gpus(
        1,
        help="GPUs that split the stack of layers.",
        label="Pipeline parallel",
        vllm=("pipeline-parallel-size", "-pp"),
        sglang=("pp-size", "pipeline-parallel-size"),
    )
    data_parallel_size: int = _gpus(
        1,
        help="Copies of the model, each on its own GPUs.",
        label="Data parallel",
        vllm=("data-parallel-size", "-dp"),
        sglang=("dp-size", "data-parallel-size"),
    )

    lora: str | Path | None = _program(
        None,
        help="Folder of a LoRA adapter (PEFT) to serve too. Clients ask for it by its folder's name, and for the model by the model's.",
        label="LoRA adapter",
        empty="none",
    )
    source: Source = _program("auto", help="Where to look for the model's name.")
    revision: str | None = _program(None, help="A branch, tag or commit of the hub's repository.", empty="the default branch")
    python: str | Path | None = _program(None, help="The Python interpreter that has the engine installed.", empty="this one")
    extra_args: tuple[str, ...] = _program(
        (), help="Other flags of the engine, in its own spelling: --seed 1", label="More flags", empty="none"
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
        check_address(self.host, self.uds)
        if self.gpu_memory_utilization is not None and self.kv_cache_memory_bytes is not None:
            reason = "can't be combined with kv_cache_memory_bytes: both set the size of the cache"
            raise ConfigError(reason, option="gpu_memory_utilization", advice="Leave one of them out")
        if self.without_key and self.api_key is not None:
            raise ConfigError("can't be combined with api_key", option="without_key", advice="Leave one of them out")
        if self.api_key is not None and (not self.api_key or not self.api_key.isascii() or any(map(str.isspace, self.api_key))):
            raise ConfigError("must be visible ASCII without blanks, since it is sent in an HTTP header", option="api_key")
        for name in ("VLLM_API_KEY", KEY):
            if name in (self.env or {}):
                raise ConfigError(f"can't contain {name}", option="env", advice="Give the key as api_key")
        if isinstance(self.extra_args, str):
            raise ConfigError("must be a sequence of words such as ('--seed', '1'), not one string", option="extra_args")
        name = checked_model(self.model, self.task)
        if self.model is not None:
            object.__setattr__(self, "model", name)
        object.__setattr__(self, "extra_args", tuple(map(str, self.extra_args)))

    @property
    def model_name(self) -> str:
        """The requested model, or the task's default."""
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
    def client_model(self) -> str:
        """The name under which the clients that this package makes ask: the adapter's, if there is one, else the model's."""
        return self.name if self.lora is None else Path(self.lora).expanduser().absolute().name

    @property
    def batched_tokens(self) -> int:
        """Largest number of tokens in one forward pass."""
        return self.max_num_batched_tokens or max(self.max_tokens, _BATCHED_TOKENS)

    @property
    def devices(self) -> int:
        """GPUs of one copy of the model."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def is_public(self) -> bool:
        """True when other machines can reach the server."""
        return is_public(self.host, self.uds)

    @property
    def warning(self) -> str | None:
        """What the user must know before other machines can reach the server; None where they can't."""
        return exposure_warning(self.host, without_key=self.without_key) if self.is_public else None

    def to_words(self) -> tuple[str, ...]:
        """The command line that starts the same server, `qwen3-integrations serve ...`; without secret options."""
        words = ["qwen3-integrations", "serve"]
        for each in OPTIONS:
            value = getattr(self, each.name)
            if each.positional and value is not None:
                words.append(str(value))
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
        if self.lora is not None:
            plain["lora"] = Path(self.lora).expanduser().absolute()
        return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}


OPTIONS = options_of(ServerOptions)
"""All options, in the order of their declaration."""

_BATCHED_TOKENS = 8192
"""Default of `max_num_batched_tokens`. vLLM's own is from 2048 to 16384, by device and version; a memory plan needs a fixed number."""


def _documented(option: Option) -> str:
    default = f" Default: {option.empty}." if option.empty and option.default is None else ""
    return f"        {option.name}: {option.help}{default}\n"


_ATTRIBUTES = "".join(map(_documented, OPTIONS))
ServerOptions.__doc__ = (ServerOptions.__doc__ or "").replace("    Raises:", f"    Attributes:\n{_ATTRIBUTES}\n    Raises:")
