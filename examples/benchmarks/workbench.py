"""What all rows share: models, texts, and engines, which stay open until no row needs them."""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import compare
import record
from compare import Bounds, Rows, Side, Work
from inputs import Prose
from peaks import Peaks
from targets import OURS_FP8, in_words, verdicts

TINY = "qwen3-tiny-demo"
KINDS = {"embed": "embedding", "rerank": "reranker"}
VLLM_SHARE = 0.5
"""Share of the GPU's memory for vLLM, which shares the GPU with the torch engine."""
SMALL_CACHE_BYTES = 128 << 20
"""vLLM's key-value cache in a dry run."""
VLLM_MAX_TOKENS = 8192


class Workbench:
    """One run of the benchmarks.

    Args:
        options: The options of the command line; see `run.py`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.small: bool = options.small
        self.device: str = options.device
        self.log = record.Log(options.out)
        self._open: dict[str, tuple[Any, Callable[[Any], object]]] = {}
        self._folders: dict[str, Path] = {}

    # Sizes ----------------------------------------------------------------------------------------------------------

    def count(self, full: int, small: int) -> int:
        """A number of items: `small` in a dry run, otherwise `full`."""
        return small if self.small else full

    @property
    def repeats(self) -> int:
        """Number of timed repeats of each side."""
        return int(self.options.repeats)

    @property
    def dtype(self) -> str:
        """Number format of both sides: bfloat16; float32 in a dry run on a CPU, where it is faster for the tiny pair."""
        return str(self.options.dtype or ("float32" if self.small and self.device == "cpu" else "bfloat16"))

    # Models ---------------------------------------------------------------------------------------------------------

    def folder(self, task: str) -> Path:
        """The model's folder; without a named model, random weights are made on first use."""
        if task not in self._folders:
            self._folders[task] = self._found(task)
        return self._folders[task]

    def _found(self, task: str) -> Path:
        from qwen3_integrations.models.hub import resolve_model

        named = {"embed": self.options.embedder, "rerank": self.options.reranker}[task]
        if named or self.small:
            return Path(resolve_model(named or TINY, task))  # type: ignore[arg-type]
        from weights import SIZES, write_models

        size = self.options.size
        models = self.options.models or Path(tempfile.gettempdir()) / f"qwen3-random-{size}"
        write_models(models, (KINDS[task],), self.options.tokenizer, **SIZES[size])
        return Path(models) / KINDS[task]

    def tokenizer(self, task: str) -> Path:
        """The model's tokenizer.json."""
        return self.folder(task) / "tokenizer.json"

    @cached_property
    def prose(self) -> Prose:
        """Texts, measured with the embedder's tokenizer; the reranker has the same."""
        return Prose(self.tokenizer("embed"))

    # Open objects ---------------------------------------------------------------------------------------------------

    def opened(self, key: str, make: Callable[[], Any], close: Callable[[Any], object] = lambda _: None) -> Any:
        """Return the object with this key, and open it if necessary."""
        if key not in self._open:
            started = time.perf_counter()
            self._open[key] = (make(), close)
            seconds = time.perf_counter() - started
            self.show(f"  opened {key} in {seconds:.1f} s")
            self.log.write(kind="opened", what=key, seconds=round(seconds, 2), small=self.small)
        return self._open[key][0]

    def close(self) -> None:
        """Close everything, in reverse order of opening."""
        while self._open:
            key, (thing, close) = self._open.popitem()
            try:
                close(thing)
            except Exception as error:  # noqa: BLE001 - the others must still be closed
                self.show(f"  {key} did not close: {error}")
            del thing
        gc.collect()
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()

    def torch_engine(self, task: str, device: str | None = None, **options: Any) -> Any:
        """Our torch engine."""
        from qwen3_integrations.engines.torch.engine import TorchEngine

        place = device or self.device
        options = {"device": place, "dtype": self.dtype} | dict(self.options.torch_option) | options
        key = f"our torch engine for {task} on {place}, {options['dtype']}"
        return self.opened(key, lambda: TorchEngine(task, str(self.folder(task)), **options), lambda engine: engine.close())  # type: ignore[arg-type]

    def vllm_engine(self, task: str) -> Any:
        """Our embedded vLLM engine."""
        from qwen3_integrations.engines.vllm.engine import VllmEngine

        options: dict[str, Any] = {"dtype": self.dtype} | self._small_vllm() | dict(self.options.engine_option)
        key = f"our vLLM engine for {task}"
        return self.opened(key, lambda: VllmEngine(task, str(self.folder(task)), **options), lambda engine: engine.close())  # type: ignore[arg-type]

    def vllm(self, task: str, **more: Any) -> Any:
        """VLLM's own `LLM`; with further options, such as `quantization`, one of its own."""
        from peers.vllm import close_llm, open_llm

        options: dict[str, Any] = {"dtype": self.dtype, "max_model_len": VLLM_MAX_TOKENS}
        if self.device.startswith("cuda"):
            options["gpu_memory_utilization"] = VLLM_SHARE
        options |= self._small_vllm() | dict(self.options.vllm_option) | more
        key = ", ".join([f"vLLM for {task}", *(f"{name} {value}" for name, value in more.items())])
        return self.opened(key, lambda: open_llm(task, self.folder(task), options), close_llm)

    def _small_vllm(self) -> dict[str, Any]:
        if not self.small:
            return {}
        return {"max_model_len": 2048, "enforce_eager": True, "kv_cache_memory_bytes": SMALL_CACHE_BYTES}

    def server(self, task: str) -> Any:
        """A `vllm serve` that this package starts with its own defaults."""
        from qwen3_integrations.serving import ServerOptions, start

        small: dict[str, Any] = (
            {"max_tokens": 2048, "enforce_eager": True, "kv_cache_memory_bytes": SMALL_CACHE_BYTES} if self.small else {}
        )
        options = (
            {"engine": "vllm", "dtype": self.dtype, "without_key": True, "served_name": f"qwen3-{task}"}
            | small
            | dict(self.options.server_option)
        )

        def started() -> Any:
            # Random weights do not recognise relevant documents, so only the token counts of the first answer are checked.
            wanted = ServerOptions(task=task, model=str(self.folder(task)), **options)  # type: ignore[arg-type]
            return start(wanted, reuse=False, handshake="counts").running()

        return self.opened(f"vllm serve for {task}", started, lambda server: server.stop())

    # Measuring ------------------------------------------------------------------------------------------------------

    def show(self, text: str) -> None:
        """Print progress."""
        print(text, flush=True)

    def sides(self, *openers: tuple[str, Callable[[], Side]]) -> tuple[list[Side], dict[str, str]]:
        """Open sides; a peer that can't be opened is skipped, with the reason. Our sides come first and must open.

        Returns:
            The sides, and reasons by name.
        """
        found: list[Side] = []
        missing: dict[str, str] = {}
        chosen = self.options.only
        for name, opener in openers:
            if chosen and found and not any(word.lower() in name.lower() for word in chosen):
                continue
            try:
                found.append(opener())
            except Exception as error:
                if not found:
                    raise
                missing[name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                self.show(f"  without {name}: {missing[name]}")
        return found, missing

    def measure(
        self,
        measurement: str,
        sides: Sequence[Side],
        work: Work,
        *,
        missing: dict[str, str] | None = None,
        check: Work | None = None,
        reference: Rows | None = None,
        bounds: Bounds | None = None,
        tokens: Sequence[int] | None = None,
        task: str = "embed",
        unit: str = "texts/s",
        repeats: int | None = None,
        device: str | None = None,
        **facts: Any,
    ) -> None:
        """Compare sides, and record the result.

        Args:
            measurement: Its name; a key of `targets.TARGETS` if it has targets.
            sides, work, check, reference, bounds: See `compare.compare`.
            missing: Peers that could not be opened, and why.
            tokens: Length of each item, to compute the share of the matmul ceiling; None for no share.
            task: The task of the model.
            unit: Unit of the rates.
            repeats: Number of repeats; None for that of the run.
            device: The device of the measurement; None for that of the run.
            facts: More facts to record.
        """
        self.show(f"  {measurement}: {len(work):,} items; {', '.join(side.name for side in sides)}")

        def on_time(side: str, repeat: int, seconds: float) -> None:
            self.show(f"    {side}: {seconds:.4g} s")
            self.log.write(kind="time", measurement=measurement, side=side, repeat=repeat, seconds=seconds, small=self.small)

        started = time.perf_counter()
        broken: dict[str, str] = {}
        with Peaks(self.device) as peaks:
            measured = compare.compare(
                sides,
                work,
                repeats=repeats or self.repeats,
                check=check,
                reference=reference,
                bounds=bounds,
                on_time=on_time,
                broken=broken,
            )
        for name, reason in broken.items():
            self.show(f"    without {name}: {reason}")
        listed = [numbers.to_dict() for numbers in measured]
        place = device or self.device
        if tokens is not None and place.startswith("cuda"):
            for side in listed:
                side["of_ceiling"] = self.work_flops(task, tokens) / side["median"] / self.ceiling
            facts["ceiling_tflops"] = round(self.ceiling / 1e12, 1)
        if tokens is not None:
            facts["tokens"] = int(sum(tokens))
        facts["peak"] = peaks.to_dict()
        self.write(
            measurement,
            listed,
            missing=(missing or {}) | broken,
            unit=unit,
            device=place,
            took_s=round(time.perf_counter() - started, 1),
            **facts,
        )

    def write(self, measurement: str, sides: list[dict[str, Any]], **facts: Any) -> None:
        """Record the numbers with the verdicts on the targets, and print them."""
        judged = [] if self.small else verdicts(measurement, sides)
        for side in sides:
            if "rate" in side:
                spread = f"{side['min']:.4g} to {side['max']:.4g} s"
                self.show(
                    f"    {side['name']}: {side['rate']:,.5g} {facts.get('unit', '')} ({side['median']:.4g} s; {spread}){_apart(side)}"
                )
            else:
                self.show(f"    {side['name']}: {side['value']:.5g} {side.get('unit', '')}")
        for verdict in judged:
            self.show(f"    {in_words(verdict)}")
        facts.setdefault("device", self.device)
        self.log.write(
            kind="result",
            measurement=measurement,
            date=record.now(),
            small=self.small,
            dtype=self.dtype,
            models={task: str(folder) for task, folder in self._folders.items()},
            sides=sides,
            targets=[{"words": in_words(verdict), "met": verdict.met, "figure": verdict.figure} for verdict in judged],
            hardware=record.hardware(),
            versions=record.versions(),
            **facts,
        )

    # The ceiling ----------------------------------------------------------------------------------------------------

    @cached_property
    def ceiling(self) -> float:
        """Measured FLOP/s of one large bf16 matmul, median of ten."""
        import torch

        size = 8192
        left = torch.randn(size, size, device=self.device, dtype=torch.bfloat16)
        right = torch.randn_like(left)
        times = []
        for _ in range(13):
            torch.cuda.synchronize()
            started = time.perf_counter()
            left @ right
            torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        return float(2 * size**3 / statistics.median(times[3:]))

    def work_flops(self, task: str, tokens: Sequence[int]) -> float:
        """FLOPs of texts of these lengths: two for each weight outside the token table, and causal attention."""
        import json

        shape = json.loads((self.folder(task) / "config.json").read_text(encoding="utf-8"))
        hidden, width = shape["hidden_size"], shape["head_dim"]
        queries, keys = shape["num_attention_heads"] * width, shape["num_key_value_heads"] * width
        layers = shape["num_hidden_layers"]
        weights = layers * (2 * hidden * queries + 2 * hidden * keys + 3 * hidden * shape["intermediate_size"])
        return float(sum(2 * weights * length + 2 * layers * queries * length**2 for length in tokens))


def _apart(side: dict[str, Any]) -> str:
    """Distance of a side's results from fp32, with a warning if ours is out of tolerance."""
    distance = side["reference_distance"]
    if distance is None:
        return ""
    ours = side["name"].startswith("ours") and side["name"] != OURS_FP8
    outside = ours and not compare.ours_within(distance, scores=side["scores"])
    return f"; {distance:.2g} from fp32{': BEYOND THE BOUNDS FOR OURS' if outside else ''}"


def quiet_environment() -> None:
    """Set environment variables for the libraries, unless they are set. Call it before any of them is imported."""
    for name, value in {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TOKENIZERS_PARALLELISM": "true",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }.items():
        os.environ.setdefault(name, value)
