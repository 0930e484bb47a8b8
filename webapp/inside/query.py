"""The fields of an inside view, read and checked: which text, which token, layer and head.

A view is a GET address, so everything it shows is in these fields. ``layer`` and ``head``
count from 0, as in ``model.py``; ``at`` counts tokens from 1. ``cell`` is layer and head in
one field, ``"5.7"``, for a button of a table.

Invariants: all invalid fields are found at once (FormErrors). Whether a number fits this text
and this model is checked by :func:`gpt2core.inside.document.select`, once there is a
recording.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gpt2core.errors import InputError
from gpt2core.hparams import HParams
from gpt2core.sampling import SamplingParams
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import replace_surrogates
from webapp.formatting import shortest_repr
from webapp.forms import (
    DEFAULTS,
    FormErrors,
    parse_kept,
    parse_number,
    parse_prompt,
    parse_special_tokens,
)

LABELS = {
    "at": "Token",
    "layer": "Layer",
    "head": "Head",
    "for": "Token",
    "against": "Token",
    "key": "Key",
    "neuron": "Neuron",
    "id": "Token",
}
TOKEN_FIELDS = ("for", "against", "id")  # a token's text or id; the other fields are whole numbers
MAX_DIGITS = 9
# Of the fields that say how a token is drawn: the form's own, with a seed, without which a
# draw cannot be shown.
DEFAULT_FIELDS = {**DEFAULTS, "seed": "0"}
T = TypeVar("T")


@dataclass(frozen=True)
class Query:
    """Checked fields. None stands for a default that depends on the text.

    ``ids`` are the prompt's tokens and those in ``kept``. ``token`` and ``against`` are the
    ids of the fields ``for`` and ``against``.
    ``key`` is the token, counted from 1, whose attention weight is explained.
    ``special_tokens`` says whether the prompt's special tokens are read as such, where that
    is not the tokenizer's own default.
    """

    prompt: str
    kept: tuple[int, ...]
    ids: tuple[int, ...]
    at: int | None = None
    layer: int | None = None
    head: int | None = None
    token: int | None = None
    against: int | None = None
    key: int | None = None
    sampling: SamplingParams = SamplingParams()
    special_tokens: bool | None = None

    @property
    def n_prompt(self) -> int:
        """Number of the prompt's own tokens."""
        return len(self.ids) - len(self.kept)


def parse_query(
    values: Mapping[str, Any], encoder: Encoder, hparams: HParams, max_chars: int
) -> Query:
    """Check every field. Raises FormErrors with all that is wrong."""
    found: list[InputError] = []

    def checked(check: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return check(*arguments)
        except InputError as error:
            found.append(error)
            return None

    prompt = checked(read_prompt, values, max_chars) or ""
    kept = tuple(checked(parse_kept, values, hparams, encoder, 0) or ())
    numbers = {
        name: checked(token_id, values, name, encoder)
        if name in TOKEN_FIELDS
        else checked(whole, values, name)
        for name in LABELS
    }
    if values.get("cell"):
        cell = checked(parse_cell, values["cell"])
        if cell:
            numbers["layer"], numbers["head"] = cell
    sampling = checked(parse_sampling, values)
    special_tokens = checked(parse_special_tokens, values)
    if found:
        raise FormErrors(found, values)
    if special_tokens == encoder.rules.reads_special_tokens:
        special_tokens = None
    prompt, kept = as_typed(prompt, kept, encoder, special_tokens)
    ids = (*encoder.encode(prompt, special_tokens), *kept)
    return Query(
        prompt,
        kept,
        ids,
        numbers["at"],
        numbers["layer"],
        numbers["head"],
        numbers["for"],
        numbers["against"],
        numbers["key"],
        sampling or SamplingParams(),
        special_tokens,
    )


def read_prompt(values: Mapping[str, Any], max_chars: int) -> str:
    """The text of ``prompt_json`` or ``prompt``. Raises InputError."""
    as_json = values.get("prompt_json")
    if as_json is not None:
        try:
            values = {"prompt": json.loads(as_json)}
        except (TypeError, ValueError, RecursionError):
            raise InputError(
                "The field prompt_json must be the prompt as JSON.", "prompt"
            ) from None
        return replace_surrogates(parse_prompt(values, max_chars))
    # A form writes each line end of a text area or hidden field as CR LF.
    return replace_surrogates(parse_prompt(values, max_chars).replace("\r\n", "\n"))


def as_typed(
    prompt: str, kept: tuple[int, ...], encoder: Encoder, special_tokens: bool | None
) -> tuple[str, tuple[int, ...]]:
    """``prompt`` and ``kept``; ids alone that are some text's own tokens become that text.

    A link to a text that is too long for an address holds its ids in ``kept``.
    """
    if prompt or not kept:
        return prompt, kept
    data = b"".join(encoder.token_bytes(id) for id in kept)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return prompt, kept
    return (text, ()) if tuple(encoder.encode(text, special_tokens)) == kept else (prompt, kept)


def whole(values: Mapping[str, Any], name: str) -> int | None:
    """A field as a whole number, None where it is empty. Raises InputError."""
    value = values.get(name)
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    if isinstance(value, bool) or not re.fullmatch(rf"-?[0-9]{{1,{MAX_DIGITS}}}", text):
        raise InputError(f"{LABELS[name]} is {text[:40]!r}; it must be a whole number.", name)
    return int(text)


def token_id(values: Mapping[str, Any], name: str, encoder: Encoder) -> int | None:
    """A field that names a token of the vocabulary, None where it is empty. Raises InputError.

    A whole number is an id. Anything else is the text of one token, leading space included,
    or its piece in the byte alphabet, ``Ġwas``.
    """
    value = values.get(name)
    text = "" if value is None else replace_surrogates(str(value))
    if not text or re.fullmatch(rf"\s*-?[0-9]{{1,{MAX_DIGITS}}}\s*", text):
        return whole(values, name)
    ids = encoder.encode(text, False)
    if len(ids) == 1:
        return ids[0]
    if text in encoder.encoder:
        return encoder.encoder[text]
    pieces = " ".join(encoder.decoder[id] for id in ids[:5]) + (" …" if len(ids) > 5 else "")
    raise InputError(
        f"“{text[:40]}” is {len(ids)} tokens, {pieces}; enter the text of one token, or its id.",
        name,
        n_tokens=len(ids),
    )


def token_value(id: int, encoder: Encoder) -> str:
    """What :func:`token_id` reads as ``id``: its piece, or its id where that names another."""
    piece = encoder.decoder[id]
    try:
        found = token_id({"for": piece}, "for", encoder)
    except InputError:
        found = None
    return piece if found == id else str(id)


def parse_cell(value: Any) -> tuple[int, int]:
    """``"5.7"``, a table's cell, as layer and head. Raises InputError."""
    if not re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}\.[0-9]{{1,{MAX_DIGITS}}}", str(value)):
        raise InputError(f"Head is {str(value)[:40]!r}; it must be layer.head, as in 5.7.", "head")
    layer, head = str(value).split(".")
    return int(layer), int(head)


def parse_sampling(values: Mapping[str, Any]) -> SamplingParams:
    """Temperature, top-k, top-p and seed, as the page's own form has them. Raises InputError."""
    given = {name: values.get(name) or default for name, default in DEFAULT_FIELDS.items()}
    temperature, top_p = (parse_number(given, name, float) for name in ("temperature", "top_p"))
    top_k, seed = (parse_number(given, name, int) for name in ("top_k", "seed"))
    return SamplingParams(temperature or 0.0, top_k or 0, top_p or 0.0, seed)


def sampling_fields(sampling: SamplingParams) -> dict[str, str]:
    """The fields that :func:`parse_sampling` reads as ``sampling``, without the defaults."""
    fields = {
        "temperature": shortest_repr(sampling.temperature),
        "top_k": str(sampling.top_k),
        "top_p": shortest_repr(sampling.top_p),
        "seed": str(sampling.seed),
    }
    return {name: value for name, value in fields.items() if value != DEFAULT_FIELDS[name]}
