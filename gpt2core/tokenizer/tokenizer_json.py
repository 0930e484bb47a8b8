"""Hugging Face's ``tokenizer.json``: a vocabulary, its merges, and what is done around BPE.

Used by :mod:`gpt2core.tokenizer.folder`. The file can describe many kinds of tokenizer;
GPT-2's is one of them.

Invariant: a setting that changes ids is either part of the result or raises ModelFileError
by its name. Settings of decoding, padding and truncation change no id of a text.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2core.tokenizer.added import AddedToken
from gpt2core.tokenizer.json_settings import JsonSettings, brief


@dataclass(frozen=True)
class TokenizerJson:
    """What a ``tokenizer.json`` says. ``first_tokens`` (token and id) precede every text."""

    merges: list[tuple[str, str]]
    vocabulary: dict[str, int]
    added_tokens: list[AddedToken]
    add_prefix_space: bool
    ignore_merges: bool
    first_tokens: list[tuple[str, int]]


def read_tokenizer_json(path: Path) -> TokenizerJson:
    """Read and check the file. Raises ModelFileError, naming a setting that is not GPT-2's."""
    file = JsonSettings(path)
    model = file.expect(file.values, "model", dict)
    file.expect(file.values, "added_tokens", list)  # every writer writes it, if empty
    if model.get("type") != "BPE":
        raise file.refusal("the type of the model", model)
    for values, names in (
        (file.values, ["normalizer"]),
        (model, ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]),
    ):
        for name in names:
            if values.get(name):
                raise file.refusal(name, values[name])
    # These change no id; of another type, no other reader takes the file.
    for name, kind in (("unk_token", str), ("fuse_unk", bool), ("byte_fallback", bool)):
        file.get(model, name, kind, None)
    decoder = file.values.get("decoder")
    if decoder is not None and part_type(file, "decoder", decoder) != "ByteLevel":
        raise file.refusal("decoder", decoder)
    return TokenizerJson(
        merges=read_pairs(file, file.expect(model, "merges", list)),
        vocabulary=file.expect(model, "vocab", dict),
        added_tokens=[
            read_added_token(file, token) for token in file.objects(file.values, "added_tokens")
        ],
        add_prefix_space=read_pre_tokenizer(file),
        ignore_merges=file.get(model, "ignore_merges", bool, False),
        first_tokens=read_post_processor(file),
    )


def read_pairs(file: JsonSettings, merges: list[Any]) -> list[tuple[str, str]]:
    """The merges: older files spell one ``"a b"``, newer ones ``["a", "b"]``."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    for pair in pairs:
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not is_pair or not all(isinstance(piece, str) for piece in pair):
            raise file.error(f"the merge {brief(pair)} does not join two pieces.")
    return [(left, right) for left, right in pairs]


def read_added_token(file: JsonSettings, values: dict[str, Any]) -> AddedToken:
    """An added token. Here all flags must be there, as for the format's own reader."""
    for flag in ("special", "single_word", "lstrip", "rstrip", "normalized"):
        file.expect(values, flag, bool)
    return file.added_token(values, file.expect(values, "id", int))


def part_type(file: JsonSettings, name: str, part: Any) -> str:
    """The type of a part of the tokenizer, such as its pre-tokenizer."""
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise file.refusal(name, part)
    return str(part["type"])


def read_parts(file: JsonSettings, name: str, list_name: str) -> list[dict[str, Any]]:
    """The parts of a ``Sequence``, or the one part that there is, or none."""
    part = file.values.get(name)
    if part is None:
        return []
    return file.objects(part, list_name) if part_type(file, name, part) == "Sequence" else [part]


def read_pre_tokenizer(file: JsonSettings) -> bool:
    """Whether a space precedes a text. Refuses any pre-tokenizer but GPT-2's."""
    parts = read_parts(file, "pre_tokenizer", "pretokenizers")
    for part in parts:
        if part_type(file, "pre_tokenizer", part) != "ByteLevel":
            raise file.refusal("pre_tokenizer", part)
    if len(parts) != 1:
        raise file.refusal("pre_tokenizer", file.values.get("pre_tokenizer"))
    if not file.get(parts[0], "use_regex", bool, True):
        raise file.refusal("use_regex", False)
    return bool(file.expect(parts[0], "add_prefix_space", bool))


def read_post_processor(file: JsonSettings) -> list[tuple[str, int]]:
    """The tokens that precede every text. Refuses what adds anything else."""
    first: list[tuple[str, int]] = []
    for part in read_parts(file, "post_processor", "processors"):
        kind = part_type(file, "post_processor", part)
        if kind == "TemplateProcessing":
            first = read_template(file, part) + first
        elif kind != "ByteLevel":  # which changes offsets, and no id
            raise file.refusal("post_processor", part)
    return first


def read_template(file: JsonSettings, template: dict[str, Any]) -> list[tuple[str, int]]:
    """The tokens of a template that has all of them before the text."""
    *items, text = file.objects(template, "single") or [{}]
    sequence = text.get("Sequence")
    if not isinstance(sequence, dict) or sequence.get("id") != "A":
        raise file.error(
            "post_processor is a TemplateProcessing that adds more than tokens before a text, "
            "which this tokenizer does not support."
        )
    first: list[tuple[str, int]] = []
    for item in items:
        name = file.expect(item.get("SpecialToken"), "id", str)
        special = file.expect(file.expect(template, "special_tokens", dict), name, dict)
        tokens, ids = file.expect(special, "tokens", list), file.expect(special, "ids", list)
        if len(tokens) != len(ids):
            raise file.error(f"the template's {name} has {len(tokens)} tokens and {len(ids)} ids.")
        first += zip(tokens, ids, strict=True)
    return first
