"""The added tokens of a folder, collected from all files that state them.

Used by :mod:`gpt2core.tokenizer.folder`. Up to five files may state the same token, some
with flags and some without.

Invariant: a token has one id and an id one token; files that contradict each other raise
ModelFileError, which names both.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpt2core.errors import ModelFileError
from gpt2core.tokenizer.added import AddedToken
from gpt2core.tokenizer.json_settings import JsonSettings, brief
from gpt2core.tokenizer.table import ENDOFTEXT

# Settings that name a special token, in the order in which tokens without an id get one.
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
NAMED_LISTS = ("additional_special_tokens", "extra_special_tokens")


class AddedTable:
    """Added tokens by content, over a vocabulary of pieces."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self._vocabulary = vocabulary
        self._piece_of = {token_id: piece for piece, token_id in vocabulary.items()}
        self._tokens: dict[str, AddedToken] = {}
        self._stated_in: dict[str, Path] = {}

    @property
    def tokens(self) -> tuple[AddedToken, ...]:
        return tuple(self._tokens.values())

    def id_of(self, content: str) -> int | None:
        """The id of a token or a piece, or None if there is none."""
        token = self._tokens.get(content)
        return token.id if token else self._vocabulary.get(content)

    def has_id(self, token_id: int) -> bool:
        """Whether some token or piece has this id."""
        return token_id in self._piece_of or any(t.id == token_id for t in self.tokens)

    def path_of(self, token: AddedToken) -> Path:
        """The file that stated a token first."""
        return self._stated_in[token.content]

    def add(self, token: AddedToken, path: Path, has_flags: bool = True) -> None:
        """Add a token that ``path`` states, or check it against what is known of it."""
        known = self._tokens.get(token.content)
        if known is None:
            self._check_new(token, path)
            self._tokens[token.content], self._stated_in[token.content] = token, path
        elif known.id != token.id or (has_flags and not same_flags(known, token)):
            raise ModelFileError(
                f"{path} contradicts {self._stated_in[token.content].name} about the added "
                f"token {token.content!r} (ids {token.id} and {known.id})."
            )

    def _check_new(self, token: AddedToken, path: Path) -> None:
        """Raise ModelFileError if the id is taken, or the content is a piece of another id."""
        taken_by = next((t.content for t in self._tokens.values() if t.id == token.id), None)
        taken_by = taken_by or self._piece_of.get(token.id, token.content)
        if taken_by != token.content or self._vocabulary.get(token.content, token.id) != token.id:
            raise ModelFileError(
                f"{path}: the added token {token.content!r} has id {token.id}, which is not its "
                "own in this vocabulary."
            )
        if token.id < 0:
            raise ModelFileError(f"{path}: the added token {token.content!r} has id {token.id}.")

    def add_endoftext(self, path: Path) -> None:
        """Make ``<|endoftext|>`` special if it is a piece: GPT-2's tokenizer always has it so."""
        token_id = self._vocabulary.get(ENDOFTEXT)
        if token_id is not None and ENDOFTEXT not in self._tokens:
            self.add(AddedToken(ENDOFTEXT, token_id, special=True, normalized=False), path)

    def add_decoder(self, file: JsonSettings) -> None:
        """Add ``added_tokens_decoder`` of a ``tokenizer_config.json``."""
        table = file.get(file.values, "added_tokens_decoder", dict, {})
        for key in table:
            if not (key.isascii() and key.isdecimal()):
                raise file.error(f"added_tokens_decoder has the id {key!r}.")
        for key in sorted(table, key=int):  # transformers adds them in this order
            self.add(file.added_token(table[key], int(key)), file.path)

    def add_file(self, file: JsonSettings) -> None:
        """Add an ``added_tokens.json``: content -> id, without flags."""
        ids = {content: file.expect(file.values, content, int) for content in file.values}
        if "" in ids:
            raise file.error("an added token has no content.")
        for content in sorted(ids, key=ids.__getitem__):  # as in add_decoder
            self.add(AddedToken(content, ids[content]), file.path, has_flags=False)

    def add_named(self, file: JsonSettings) -> None:
        """Mark the tokens special that settings name, and give an id to those without one."""
        for name, value in named_tokens(file):
            values = {"content": value} if isinstance(value, str) else value
            content = file.expect(values, "content", str)
            if not content:
                raise file.error(f"{name} is empty.")
            known = self._tokens.get(content)
            if known:
                self._tokens[content] = replace(known, special=True)
            else:
                token_id = self.id_of(content)
                if token_id is None:
                    token_id = self._next_id(content, file.path)
                self.add(file.added_token({**values, "special": True}, token_id), file.path)

    def renumbered(self) -> list[tuple[AddedToken, int]]:
        """The tokens that Hugging Face's fast tokenizers number otherwise, with their numbers.

        Those ignore the ids that files state: an added token that is no piece gets the
        number behind all pieces and all added tokens before it. Source:
        ``AddedVocabulary::add_tokens`` in ``added_vocabulary.rs``.
        """
        found, following = [], len(self._vocabulary)
        for token in self.tokens:
            number = self._vocabulary.get(token.content, following)
            following = max(following, number + 1)
            if number != token.id:
                found.append((token, number))
        return found

    def _next_id(self, content: str, path: Path) -> int:
        """The id behind all others, which a token gets that is named and has none."""
        ids = {*self._piece_of, *(token.id for token in self._tokens.values())}
        if max(ids) + 1 != len(ids):
            raise ModelFileError(
                f"{path} names the special token {content!r}, which has no id; which one it "
                "would get is unclear, because the ids have gaps."
            )
        return len(ids)


def same_flags(one: AddedToken, other: AddedToken) -> bool:
    """Whether two statements of a token agree. ``normalized`` matters to normalizers only."""
    return replace(one, normalized=other.normalized) == other


def check_names(one: JsonSettings, other: JsonSettings) -> None:
    """Raise ModelFileError if two files name different tokens for the same purpose.

    Versions of transformers differ in which of them they take, and a named token is special.
    """
    for name in (*NAMED, *NAMED_LISTS):
        mine, others = (sorted_contents(file.values.get(name)) for file in (one, other))
        if mine and others and mine != others:
            raise ModelFileError(
                f"{other.path} contradicts {one.path.name} about {name} "
                f"({brief(others)} and {brief(mine)})."
            )


def sorted_contents(value: Any) -> list[str]:
    """The contents of a named token or of several, as text."""
    is_one = isinstance(value, str) or (isinstance(value, dict) and "content" in value)
    values = [value] if is_one else value.values() if isinstance(value, dict) else value or ()
    if not isinstance(values, Iterable):
        return []  # of another type, which named_tokens refuses
    return sorted(str(v.get("content") if isinstance(v, dict) else v) for v in values)


def named_tokens(file: JsonSettings) -> list[tuple[str, Any]]:
    """The special tokens that a ``tokenizer_config.json`` or ``special_tokens_map.json`` names."""
    named = [(name, file.values[name]) for name in NAMED if file.values.get(name) is not None]
    for name in NAMED_LISTS:
        values = file.values.get(name)
        if values is None:
            continue
        is_table = isinstance(values, dict) and name == "extra_special_tokens"  # name -> token
        if not isinstance(values, list) and not is_table:
            raise file.error(f"{name} must be a list.")
        named += [(name, one) for one in (values.values() if isinstance(values, dict) else values)]
    return named
