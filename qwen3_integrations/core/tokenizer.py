"""Text and token ids. Text of users is data; only templates contain control tokens."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qwen3_integrations.core.fork_guard import was_forked
from qwen3_integrations.core.long_texts import first_cut, is_local, place_to_cut, settled
from qwen3_integrations.core.types import Ids
from qwen3_integrations.core.validation import checked_iterable, checked_list, kind_of, plain_text
from qwen3_integrations.errors import ConfigError, InvalidText

END_TOKEN = "<|endoftext|>"  # noqa: S105
"""What the tokenizers of the published embedding models append to a text."""

CONTROL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>"),
    *("<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
    *("<tool_response>", "</tool_response>", "<think>", "</think>"),
)
"""The added tokens of Qwen3's tokenizer (besides its byte-level BPE), ids 151643 to 151668 in this order."""

_CONTROL = re.compile("|".join(re.escape(token) for token in CONTROL_TOKENS))


def holds_control_token(text: str) -> bool:
    """Whether an ordinary Qwen3 tokenizer would read a control token in this text."""
    return "<" in text and _CONTROL.search(text) is not None


def split_control(text: str) -> tuple[str, str]:
    """Split a text after its last control token."""
    end = max((match.end() for match in _CONTROL.finditer(text)), default=0)
    return text[:end], text[end:]


def neutral(text: str) -> str:
    """The text with every spelling of a control token broken up, for servers that accept only text.

    A space is inserted after the `<`: `<|im_end|>` becomes `< |im_end|>`. This is not needed for token ids: `Tokenizer` encodes such
    spellings as ordinary characters.
    """
    return _CONTROL.sub(lambda match: f"< {match[0][1:]}", text)


def checked_texts(texts: Iterable[str], name: str = "texts", *, any_text: bool = False) -> list[str]:
    """The texts as a list, after the check that each is a `str` that can be encoded as UTF-8.

    Args:
        texts: Any iterable of strings; PyArrow's arrays of strings too.
        name: The argument's name, for messages.
        any_text: Whether lone surrogates are allowed, because they are replaced later.

    Raises:
        TypeError: For a string or None instead of a list, or an item that is not a string; the message has the index.
        InvalidText: For lone surrogates; the message has the index and the character.
    """
    checked = [plain_text(text) for text in checked_list(texts, name, "strings", "[text]")]
    for index, text in enumerate(checked):
        _check(text, name, index, any_text=any_text)
    return checked


def checked_stream(texts: Iterable[str], name: str = "texts", *, any_text: bool = False) -> Iterator[str]:
    """The texts of any iterable, each checked when it is read; errors as in `checked_texts`."""
    return _checked_one_by_one(checked_iterable(texts, name, "strings", "[text]"), name, any_text)


def _checked_one_by_one(texts: Iterator[str], name: str, any_text: bool) -> Iterator[str]:
    for index, text in enumerate(map(plain_text, texts)):
        _check(text, f"{name}[{index}]", index, any_text=any_text)
        yield text


def checked_text(text: str, name: str, *, any_text: bool = False) -> str:
    """The text, after the check that it is a `str` that can be encoded as UTF-8; errors as in `checked_texts`."""
    _check(text, name, None, any_text=any_text)
    return text


def _check(text: object, name: str, index: int | None, *, any_text: bool = False) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name if index is None else f'{name}[{index}]'} must be a string, not {kind_of(text)}")
    if any_text or text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidText(
            f"contains the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, which UTF-8 can't encode",
            argument=name,
            advice="Repair the text where it is read, for example by decoding with errors='replace', or set on_bad_text='replace'",
            index=index,
        ) from None


class Tokenizer:
    """A Qwen3 tokenizer that keeps text and control tokens apart.

    `encode` reads text as data: `<|im_end|>` becomes the ordinary tokens of these ten characters.
    `template` reads a part of a template, in which `<|im_end|>` is the control token.

    Tokens that were added after Qwen3's own vocabulary: a special one stays text, another is text that the model knows as one token.

    Args:
        spec: The content of a `tokenizer.json`.
        lower_case: Whether texts are put into lower case first.
        source: Where `spec` is from, for messages.

    Attributes:
        lower_case: Whether texts are put into lower case first.
        digest: The beginning of the SHA-256 of `spec` and `lower_case`, as hexadecimal digits.
        start_ids: Token ids that the tokenizer puts before an embedded text; none in the published models.
        end_ids: Token ids that the tokenizer appends to an embedded text; `<|endoftext|>` in the published models. The embedding is read
            at the last one.
        largest_id: The largest id that an embedded text can have.

    Raises:
        ConfigError: If it is not a tokenizer, or lacks a control token that the templates need.
    """

    def __init__(self, spec: str, *, lower_case: bool = False, source: str = "tokenizer.json") -> None:
        import tokenizers

        self.lower_case = lower_case
        self.digest = hashlib.sha256((spec + "lower case" * lower_case).encode(errors="surrogatepass")).hexdigest()[:16]
        try:
            content: dict[str, Any] = json.loads(spec)
            added = {token["content"]: int(token["id"]) for token in content["added_tokens"]}
            self._special = frozenset(int(token["id"]) for token in content["added_tokens"] if token.get("special"))
            # Without control tokens and post-processor, the result has only ordinary tokens, whatever the text contains.
            plain = _without_control_tokens(content, lower_case=lower_case)
            self._plain = tokenizers.Tokenizer.from_str(json.dumps(plain))
            self._is_local = is_local(plain)
            self._genuine = tokenizers.Tokenizer.from_str(json.dumps(_as_stored(content, lower_case=lower_case)))
            self.start_ids, self.end_ids = _around(self._genuine)
            words = [token["id"] for token in plain["added_tokens"]]
            self.largest_id = int(max(*plain["model"]["vocab"].values(), *words, *self.start_ids, *self.end_ids))
        except BaseException as error:  # the library's panics are no `Exception`
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ConfigError(f"{source} can't be read: {_first_line(error)}", advice="Download the model again") from error
        missing = [token for token in (END_TOKEN, "<|im_start|>", "<|im_end|>", "<think>", "</think>") if token not in added]
        if missing:
            raise ConfigError(f"{source} is not that of a Qwen3 model: it lacks {', '.join(missing)}")
        self._source = source
        self._added = added
        wrong = next(((token, number) for token, number in added.items() if self._genuine.token_to_id(token) != number), None)
        if wrong is not None:
            raise ConfigError(
                f"{source}: added_tokens has {wrong[0]!r} as the token {wrong[1]}, but the vocabulary makes it "
                f"{self._genuine.token_to_id(wrong[0])}",
                advice="Save the tokenizer again with transformers (save_pretrained)",
            )
        self._flagged = [token["content"] for token in content["added_tokens"] if any(token.get(flag) for flag in _FLAGS)]
        unusual = [token for token, number in added.items() if number in self._special and not _CONTROL.fullmatch(token)]
        self._unusual = re.compile("|".join(map(re.escape, unusual))) if unusual else None
        self._templates: dict[str, Ids] = {}
        known = {token["content"] for token in plain["added_tokens"]}  # as text too
        self._split = re.compile("|".join(map(re.escape, sorted(added.keys() - known, key=len, reverse=True))))

    def reads_control_token(self, text: str) -> bool:
        """Whether this model's tokenizer would read a control token in a text; special tokens that were added to it count too."""
        return holds_control_token(text) or (self._unusual is not None and self._unusual.search(text) is not None)

    @property
    def end_text(self) -> str:
        """The tokens that the tokenizer appends to an embedded text, as text; empty for none."""
        names = {number: token for token, number in self._added.items()}
        return "".join(names.get(number, f"[{number}]") for number in self.end_ids.tolist())

    def token_id(self, word: str) -> int:
        """The id of a word that is one ordinary token, such as `yes`.

        Raises:
            ConfigError: If it is not exactly one token.
        """
        ids = self.encode([word])[0]
        if len(ids) != 1:
            raise ConfigError(f"{self._source} encodes {word!r} as {len(ids)} tokens, but a reranker needs it to be one token")
        return int(ids[0])

    def spelling(self, number: int) -> str:
        """The text of a token id, such as `<|endoftext|>`; the id itself where there is none."""
        added = next((token for token, own in self._added.items() if own == number), None)
        return added or self._plain.id_to_token(number) or str(number)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, read as data, in one parallel batch. No end token is added."""
        if was_forked() and os.environ.get("TOKENIZERS_PARALLELISM"):
            # Otherwise the library itself stops to use threads, because those of the parent do not exist here. With this variable it
            # would wait for them for ever.
            encodings = [self._plain.encode(text, add_special_tokens=False) for text in texts]
        else:
            encodings = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]

    def encode_beginnings(self, texts: Sequence[str], rooms: Sequence[int]) -> list[tuple[str, Ids]]:
        """As `encode`, but of a text many times its room only the beginning is encoded, so that time and memory stay small.

        Args:
            texts: Any texts.
            rooms: How many tokens of each text are wanted.

        Returns:
            For each text, the text and its ids; or a beginning of it with more than `room` ids, of which the first `room + 1` are those
            of the whole text.
        """
        found: list[tuple[str, Ids] | None] = [None] * len(texts)
        cuts = [first_cut(room) for room in rooms]
        while waiting := [at for at, found_one in enumerate(found) if found_one is None]:
            long = [at for at in waiting if self._is_local and len(texts[at]) > 2 * cuts[at]]
            short = [at for at in waiting if at not in set(long)]
            for at, ids in zip(short, self.encode([texts[at] for at in short]) if short else (), strict=True):
                found[at] = texts[at], ids
            for at in long:
                found[at] = self._beginning(texts[at], rooms[at], cuts[at])
                cuts[at] *= 2
        return [one for one in found if one is not None]

    def _beginning(self, text: str, room: int, near: int) -> tuple[str, Ids] | None:
        """A beginning of about `near` characters with its ids; None if it does not settle enough tokens."""
        end = place_to_cut(text, near)
        if end is None:
            return None
        encoding = self._plain.encode(text[:end], add_special_tokens=False)
        return (text[:end], np.asarray(encoding.ids, dtype=np.int32)) if settled(encoding, end) > room else None

    def template(self, text: str) -> Ids:
        """Token ids of a part of a template, with its control tokens. The results are cached, because there are few different parts."""
        if (kept := self._templates.get(text)) is not None:
            return kept
        ids = self._genuine.encode(text, add_special_tokens=False).ids
        return self._templates.setdefault(text, np.asarray(ids, dtype=np.int32))

    def split_prompt(self, prompt: str) -> tuple[str, str]:
        """Split a prompt after its last control token: the first part is a template, the second part is encoded with the text."""
        end = max((match.end() for match in self._split.finditer(prompt)), default=0)
        return prompt[:end], prompt[end:]

    def check_template(self, before: str, after: str = "") -> None:
        """Prove that a template and a text in it, encoded one by one, have the ids that the whole has in the model's own tokenizer.

        Flags of an added token (`lstrip`, `rstrip`, `single_word`, `normalized`) let it depend on the text beside it.

        Args:
            before: The template before the text; its end after the last control token is encoded with the text.
            after: The template after the text.

        Raises:
            ConfigError: If they differ; names the tokens.
        """
        head, tail = self.split_prompt(before)
        for text in _BESIDE:
            parts = [*self.template(head), *self.encode([tail + text])[0], *self.template(after)]
            if parts != self._genuine.encode(before + text + after, add_special_tokens=False).ids:
                named = [token for token in self._flagged if token in before + after] or self._flagged or sorted(self._added)[:5]
                raise ConfigError(
                    f"{self._source}: in {before + after!r}, added tokens depend on the text beside them (lstrip, rstrip, single_word or "
                    f"normalized of {', '.join(map(repr, named))}), which is not supported",
                    advice="Run the model with sentence-transformers, or add the tokens without these flags",
                )

    def count_prompt(self, prompt: str) -> int:
        """How many tokens of an embedded text its prompt has, for a pooling that leaves them out.

        Source: `_get_prompt_length` of sentence-transformers 6.2: the prompt is encoded alone, and one special token at the end of that is
        not counted.
        """
        head, tail = self.split_prompt(prompt)
        ids = [*self.start_ids, *self.template(head), *self.encode([tail])[0], *self.end_ids]
        return len(ids) - (bool(ids) and int(ids[-1]) in self._special)

    def cut(self, text: str, limit: int) -> tuple[str, bool]:
        """The longest beginning of a text with at most `limit` tokens.

        Returns:
            The beginning, and whether it encodes to exactly the first `limit` ids of the text. It does not if these ids end inside a
            character; then the beginning ends before that character.
        """
        encoding = self._plain.encode(text, add_special_tokens=False)
        kept = limit
        while kept and kept < len(encoding.ids) and encoding.offsets[kept][0] < encoding.offsets[kept - 1][1]:
            kept -= 1
        beginning = text[: encoding.offsets[kept - 1][1]] if kept else ""
        again = self._plain.encode(beginning, add_special_tokens=False).ids
        return beginning, again == encoding.ids[:limit]


_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
_BESIDE = ("a", "a word ", "  two words  ", "\nline\n", "1", ".", "_", "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\u0301", "\u0301", "A", "s")
"""Texts that are put into a template to see whether its tokens depend on them."""


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _without_control_tokens(content: Mapping[str, Any], *, lower_case: bool) -> dict[str, Any]:
    """A tokenizer's specification that reads every control token as ordinary characters."""
    plain = _as_stored(content, lower_case=lower_case) | {"added_tokens": [], "post_processor": None}
    if words := [token for token in content["added_tokens"] if not token.get("special") and token["content"] not in CONTROL_TOKENS]:
        # In the vocabulary too, so that the library keeps their ids.
        vocabulary = content["model"]["vocab"] | {token["content"]: token["id"] for token in words}
        plain |= {"added_tokens": words, "model": content["model"] | {"vocab": vocabulary}}
    return plain


def _as_stored(content: Mapping[str, Any], *, lower_case: bool) -> dict[str, Any]:
    """A tokenizer's specification as it is, without cutting and padding."""
    stored = dict(content) | {"truncation": None, "padding": None}
    if lower_case:
        normalizers = [{"type": "Lowercase"}, *([content["normalizer"]] if content.get("normalizer") else [])]
        stored["normalizer"] = {"type": "Sequence", "normalizers": normalizers}
    return stored


def _around(tokenizer: Any) -> tuple[Ids, Ids]:
    """What a tokenizer's post-processor puts before and after a text.

    Raises:
        ValueError: If it changes the text's own tokens.
    """
    text = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(whole) - len(text) + 1):
        if whole[start : start + len(text)] == text:
            return np.asarray(whole[:start], dtype=np.int32), np.asarray(whole[start + len(text) :], dtype=np.int32)
    raise ValueError("its post_processor changes the tokens of a text")
