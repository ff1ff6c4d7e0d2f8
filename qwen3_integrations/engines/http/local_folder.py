"""What a client knows of a served model from a folder on this machine: tokenizer, prompts, width."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qwen3_integrations.core.prompts import MODEL_CARD, TextConventions
from qwen3_integrations.core.tokenizer import Tokenizer
from qwen3_integrations.core.types import Task
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.models.catalog import CHECKPOINTS
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.conventions import declared_prompts
from qwen3_integrations.models.folders import CONFIG
from qwen3_integrations.models.tokenizer_files import read_tokenizer
from qwen3_integrations.models.transformer_config import TransformerConfig


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A served model, as far as this machine knows it.

    Attributes:
        tokenizer: Its tokenizer; None where no folder of it is here.
        conventions: What its folder declares about its texts; the model card's where no folder of it is here.
        token_ids: Of a reranker: the ids of the tokens for "yes" and for "no" that its folder declares; None for the tokens of these words.
        dimensions: Width of its embeddings; None for a reranker, and where it is not known.
    """

    tokenizer: Tokenizer | None = None
    conventions: TextConventions = MODEL_CARD
    dimensions: int | None = None
    token_ids: tuple[int, int] | None = None


def known_model(task: Task, model: str, folder: Path | None) -> KnownModel:
    """What is known of a model.

    Args:
        task: `embed` or `rerank`.
        model: The name under which it is served.
        folder: The model's folder, or a folder with its tokenizer alone; None for none.

    Raises:
        ModelNotFound: If the folder has no tokenizer.
        ConfigError: If its files are damaged or for the other task, or its pooling leaves out the prompt.
    """
    published = CHECKPOINTS[model].width if task == "embed" and model in CHECKPOINTS else None
    if folder is None:
        return KnownModel(dimensions=published)
    if not (folder / CONFIG).is_file():
        tokenizer = read_tokenizer(folder, lower_case=TransformerConfig.read(folder).lower_case)
        return KnownModel(tokenizer, declared_prompts(folder) if task == "embed" else MODEL_CARD, published)
    files = read_model(folder, task)
    if not files.conventions.pooled:
        raise ConfigError(
            f"{folder} pools without the prompt (include_prompt in the config of its pooling), and no server is told where the prompt ends",
            advice="Open the folder in this process with backend='torch'",
        )
    dimensions = published or (files.dimensions if task == "embed" else None)
    return KnownModel(files.read_tokenizer(), files.conventions, dimensions, files.token_ids)
