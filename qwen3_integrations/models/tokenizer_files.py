"""The tokenizer of a model's folder: `tokenizer.json`, or the older files that say the same.

Source: transformers 5.19: `tokenization_utils_base.py` (`_from_pretrained`), `tokenization_utils_tokenizers.py`,
`models/qwen2/tokenization_qwen2.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qwen3_integrations.core.tokenizer import END_TOKEN, Tokenizer
from qwen3_integrations.errors import ConfigError, ModelNotFound
from qwen3_integrations.models.json_files import file_exists, read_object, read_optional_object, read_text
from qwen3_integrations.models.tokenizer_settings import SETTINGS, SPLIT, as_loaded, check_settings

TOKENIZER = "tokenizer.json"
VOCABULARY, MERGES = "vocab.json", "merges.txt"

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The settings that name special tokens, in transformers' order."""


def read_tokenizer(folder: Path, *, lower_case: bool = False) -> Tokenizer:
    """The tokenizer of a model's folder.

    Args:
        folder: The model's folder.
        lower_case: Whether texts are put into lower case first.

    Raises:
        ModelNotFound: If the folder has none.
        ConfigError: If its files are damaged, or it is not that of a Qwen3 model.
    """
    source = folder / (TOKENIZER if file_exists(folder / TOKENIZER) else VOCABULARY)
    return Tokenizer(tokenizer_spec(folder), lower_case=lower_case, source=str(source))


def missing_tokenizer(folder: Path) -> tuple[str, ...]:
    """The names of the files that a folder lacks for a tokenizer: none if it has `tokenizer.json`, or both older files."""
    if (folder / TOKENIZER).is_file() or all((folder / name).is_file() for name in (VOCABULARY, MERGES)):
        return ()
    return (TOKENIZER,)


def tokenizer_spec(folder: Path) -> str:
    """The content of a folder's `tokenizer.json`, or what it would be, made from `vocab.json` and `merges.txt`.

    Where `tokenizer_config.json` says that transformers reads it in another way, the result is what transformers makes.

    Raises:
        ModelNotFound: If the folder has neither.
        ConfigError: If a file is damaged, or the two files contradict each other.
    """
    check_settings(folder, folder / TOKENIZER)
    if file_exists(folder / TOKENIZER):
        return _stored(folder)
    lacking = [name for name in (VOCABULARY, MERGES) if not file_exists(folder / name)]
    if lacking:
        more = f", and no {' and '.join(lacking)} to make it from" if len(lacking) == 1 else ""
        raise ModelNotFound(
            f"{folder} has no {TOKENIZER}{more}", advice="Download the model again, or copy the file from the model's page on its hub"
        )
    return _made(folder)


def _stored(folder: Path) -> str:
    text = read_text(folder / TOKENIZER)
    try:
        content = json.loads(text)
        loaded = as_loaded(content, folder, folder / TOKENIZER)
    except ConfigError:
        raise
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return text  # damaged: `Tokenizer` says how
    return text if loaded is content else json.dumps(loaded)


def _made(folder: Path) -> str:
    """The tokenizer that transformers makes of the older files, as the content of a `tokenizer.json`."""
    vocabulary, merges = read_object(folder / VOCABULARY), _merges(folder / MERGES)
    settings = read_optional_object(folder / SETTINGS)
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Built

    try:
        built = Built(models.BPE(vocab=vocabulary, merges=merges, continuing_subword_prefix="", end_of_word_suffix=""))
        built.normalizer, built.decoder = normalizers.NFC(), decoders.ByteLevel()
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get("add_prefix_space")), use_regex=False)
        built.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"), byte_level])
        special = dict(_special_tokens(folder, settings))
        for token in _added_tokens(folder, settings, set(special.values())):
            built.add_tokens([AddedToken(**{**token, "special": token.get("special", False) or token["content"] in special.values()})])
        built.add_tokens([AddedToken(content, special=True) for content in special.values()])
        _append_ends(built, special, settings)
    except BaseException as error:  # the library's panics are no `Exception`
        if isinstance(error, ConfigError | KeyboardInterrupt | SystemExit):
            raise
        raise ConfigError(
            f"{folder / VOCABULARY}, {MERGES} and {SETTINGS} don't make a tokenizer: {error}", advice="Download the model again"
        ) from error
    return str(built.to_str())


def _merges(path: Path) -> list[tuple[str, str]]:
    pairs = [tuple(line.split(" ")) for line in read_text(path).split("\n") if line and not line.startswith("#version")]
    wrong = next((number for number, pair in enumerate(pairs, 1) if len(pair) != 2), None)
    if wrong is not None:
        raise ConfigError(f"{path}: merge {wrong} has not two parts: it is damaged", advice="Download the model again")
    return [(left, right) for left, right in pairs]


def _special_tokens(folder: Path, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The special tokens by the setting that names them."""
    legacy = {} if "added_tokens_decoder" in settings else read_optional_object(folder / "special_tokens_map.json")
    merged = dict.fromkeys(("unk_token", "eos_token", "pad_token"), END_TOKEN) | dict(settings) | legacy
    for name in _SPECIAL:
        if (content := _content(merged.get(name))) is not None:
            yield name, content
    more = merged.get("extra_special_tokens") or merged.get("additional_special_tokens") or []
    for number, token in enumerate(more.values() if isinstance(more, Mapping) else more):
        if (content := _content(token)) is not None:
            yield f"extra {number}", content


def _content(token: object) -> str | None:
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) and content else None


def _added_tokens(folder: Path, settings: Mapping[str, Any], special: set[str]) -> list[dict[str, Any]]:
    """The added tokens by rising id, as `tokenizer_config.json` or the older `added_tokens.json` lists them."""
    fields = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    if "added_tokens_decoder" in settings:
        listed = sorted(settings["added_tokens_decoder"].items(), key=lambda each: int(each[0]))
        return [{name: token[name] for name in fields if name in token} for _, token in listed]
    older = sorted(read_optional_object(folder / "added_tokens.json").items(), key=lambda each: int(each[1]))
    return [{"content": content, "normalized": content not in special, "special": content in special} for content, _ in older]


def _append_ends(built: Any, special: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    """Let the tokenizer put the first and the last token around a text, where the settings ask for it."""
    from tokenizers import processors

    first = special.get("bos_token") if settings.get("add_bos_token") else None
    last = special.get("eos_token") if settings.get("add_eos_token") else None
    single = f"{first + ':0 ' if first else ''}$A:0{' ' + last + ':0' if last else ''}"
    pair = f"{single}{' ' + first + ':1' if first else ''} $B:1{' ' + last + ':1' if last else ''}"
    tokens = [(token, built.token_to_id(token)) for token in (first, last) if token]
    built.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=tokens)
