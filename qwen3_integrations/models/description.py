"""What a model's folder is, and what was taken from its files: for people, and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Task
from qwen3_integrations.models.checkpoint import FindBase, ModelFiles, is_adapter_alone, read_model, stated_task
from qwen3_integrations.models.config import read_config
from qwen3_integrations.models.conventions import PROMPTS, length_source
from qwen3_integrations.models.folders import CONFIG, MODULES
from qwen3_integrations.models.identity import revision_of
from qwen3_integrations.models.tasks import task_evidence
from qwen3_integrations.models.tokenizer_files import MERGES, TOKENIZER, VOCABULARY
from qwen3_integrations.models.transformer_config import TransformerConfig
from qwen3_integrations.models.weights import INDEX

CARD = "the model card"


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact about a model.

    Attributes:
        name: Such as `pooling`.
        value: A string, a number, or None.
        source: The file that says it, or the model card.
    """

    name: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model's folder, read and checked.

    Attributes:
        folder: The folder.
        task: What it is read for.
        files: Its description.
        facts: What it is, and what was taken from which file.
    """

    folder: Path
    task: Task
    files: ModelFiles
    facts: tuple[Fact, ...]


def describe_folder(folder: Path, task: Task | None = None, find_base: FindBase | None = None) -> ModelDescription:
    """Read a model's folder with all checks that an engine makes before it starts.

    Args:
        folder: The model's folder.
        task: What to read it for; None for what its files state, or else embedding.
        find_base: Finds the base of an adapter that is alone.

    Raises:
        ModelNotFound: If the folder, or a file that the model needs, is not there.
        ConfigError: If a file is damaged, or declares what this package can't compute; names file and field.
    """
    if not is_adapter_alone(folder):
        read_config(folder)
    chosen: Task = task or stated_task(folder) or "embed"
    files = read_model(folder, chosen, find_base)
    files.check(chosen)
    return ModelDescription(folder, chosen, files, tuple(_facts(files, chosen, files.read_tokenizer())))


def _facts(files: ModelFiles, task: Task, tokenizer: Tokenizer) -> Iterator[Fact]:
    evidence = [each.reason for each in task_evidence(files.folder, files.config) if each.task == task]
    yield Fact("task", task, evidence[0] if evidence else "nothing in the folder says it")
    yield Fact("architecture", files.config["architectures"][0], CONFIG)
    if revision := revision_of(files.folder):
        yield Fact("revision", revision, "the hub's cache")
    shape = files.shape
    sizes = f"{shape.layers} layers, width {shape.hidden_size}, {shape.query_heads} query and {shape.kv_heads} KV heads of {shape.head_dim}"
    derived = [name for name in ("head_dim", "num_key_value_heads") if not files.config.get(name)]
    yield Fact("sizes", sizes, f"{CONFIG}; {' and '.join(derived)} from the shapes of the tensors" if derived else CONFIG)
    yield Fact("vocabulary", files.vocabulary, CONFIG)
    yield Fact("context", files.context, CONFIG)
    yield Fact("number format", files.dtype, CONFIG)
    quantisation = (files.config.get("quantization_config") or {}).get("quant_method")
    yield Fact("quantisation", quantisation, CONFIG)
    yield from _weights(files)
    if files.adapter:
        yield Fact("adapter", str(files.adapter), str(files.adapter.config.path))
    yield from _tokenizer(files.tokenizer_folder, tokenizer)
    if task == "embed":
        yield from _embedding(files)
    else:
        yield from _reranking(files)


def _weights(files: ModelFiles) -> Iterator[Fact]:
    names = [path.name for path in files.weights.files()]
    shown = names[0] if len(names) == 1 else f"{len(names)} files, {names[0]} to {names[-1]}"
    source = INDEX if len(names) > 1 and (files.folder / INDEX).is_file() else "names of the files"
    yield Fact("weights", f"{shown}, {decimal(files.stored_bytes())}", source)
    prefixes = sorted(files.weights.prefixes())
    yield Fact("names of tensors", " and ".join(f"with {prefix!r}" if prefix else "without a prefix" for prefix in prefixes), names[0])


def _tokenizer(folder: Path, tokenizer: Tokenizer) -> Iterator[Fact]:
    source = TOKENIZER if (folder / TOKENIZER).is_file() else f"{VOCABULARY} and {MERGES}"
    yield Fact("tokenizer", tokenizer.digest, source)
    for name, ids in (("start tokens", tokenizer.start_ids), ("end tokens", tokenizer.end_ids)):
        yield Fact(name, ", ".join(tokenizer.spelling(int(number)) for number in ids) or None, source)


def _embedding(files: ModelFiles) -> Iterator[Fact]:
    modules = files.modules
    declared = MODULES if (files.folder / MODULES).is_file() else "1_Pooling" if (files.folder / "1_Pooling").is_dir() else CARD
    yield Fact("pooling", str(modules.pooling), declared)
    yield Fact("layers behind it", ", ".join(map(str, modules.layers)) or None, declared)
    yield Fact("dimensions", files.dimensions, declared if modules.dense else CONFIG)
    conventions = files.conventions
    for name, text in (("prompt of queries", conventions.query), ("prompt of documents", conventions.document)):
        yield Fact(name, text, CARD if text is None else PROMPTS)
    yield _longest("longest text", files)
    yield Fact("lower case", files.lower_case, TransformerConfig.read(files.folder).path.name if files.lower_case else CARD)


def _reranking(files: ModelFiles) -> Iterator[Fact]:
    if files.classifier:
        head = files.stored_head()
        yield Fact("head", f"score.weight, {head.rows} row{'s' * (head.rows > 1)}{', with a bias' if head.bias else ''}", CONFIG)
        meaning = "its only row" if head.rows == 1 else f"row {files.labels.positive}"
        yield Fact("'yes' is", meaning, CONFIG if files.labels.count else CARD)
    else:
        no, yes = files.score_head.token_names(files.tokenizer_folder)
        yield Fact("head", f"the rows of {yes!r} and {no!r} in {files.score_head.matrix}", CARD if files.token_ids is None else MODULES)
    if files.conventions.query is not None:
        yield Fact("instruction", files.conventions.query, PROMPTS)
    if files.conventions.max_tokens is not None:
        yield _longest("longest prompt", files)


def _longest(name: str, files: ModelFiles) -> Fact:
    longest = files.conventions.max_tokens
    return Fact(name, longest or files.context, CONFIG if longest is None else length_source(files.folder))
