"""The JSON bodies of this server's own addresses: names and types of their fields.

These objects check each JSON request before ``forms`` looks at the values, and
``/openapi.json`` is generated from them, so the document and the behaviour cannot differ.
Limits that depend on the model (its context, its vocabulary) are checked in ``forms``.

Invariant: a field that no object names is an error that says which one was meant.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpt2core.errors import InputError
from gpt2core.stopping import MAX_STOP_CHARS, MAX_STOPS

# Names that other servers give to fields of ours.
OTHER_NAMES = {
    "max_tokens": "n_tokens",
    "max_new_tokens": "n_tokens",
    "max_length": "n_tokens",
    "n_predict": "n_tokens",
    "n_tokens_to_generate": "n_tokens",
    "text": "prompt",
    "input": "prompt",
    "inputs": "prompt",
    "content": "prompt",
    "stop_sequences": "stop",
    "temp": "temperature",
    "random_seed": "seed",
}
# Fields of OpenAI's API that have no counterpart here.
ONLY_OPENAI = {"stream", "logprobs", "echo", "n", "model", "logit_bias", "suffix", "best_of"}
ONLY_OPENAI |= {"presence_penalty", "frequency_penalty", "messages", "user"}

# Errors for which ``forms`` has a better sentence.
LEFT_TO_FORMS = {"missing", "too_long", "string_too_short", "string_too_long"}

Number = Annotated[int | float | str | None, Field(title="Number")]  # text: as a form has it
WholeNumber = Annotated[int | str | None, Field(title="Whole number")]
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]


class Body(BaseModel):
    """What all bodies share: only fields with a name, and no conversions of types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TokenizeBody(Body):
    """The body of ``POST /tokenize``."""

    prompt: Annotated[str, Field(description="any text")]
    special_tokens: Annotated[
        bool | str | int | None,
        Field(description="whether names such as <|endoftext|> are these tokens"),
    ] = None


class ScoreBody(TokenizeBody):
    """The body of ``POST /score``."""


class NextBody(TokenizeBody):
    """The body of ``POST /next``: a text, and what decides about its next token."""

    temperature: Annotated[Number, Field(description="0: always the likeliest token")] = 0.7
    top_k: Annotated[WholeNumber, Field(description="keep the k likeliest; 0: all")] = 40
    top_p: Annotated[Number, Field(description="keep this share; 1: all")] = 1
    kept: Annotated[
        list[int] | str | None, Field(description="ids after the prompt that are there already")
    ] = None


class GenerateBody(NextBody):
    """The body of ``POST /generate``; ``POST /append`` takes the same fields."""

    n_tokens: Annotated[WholeNumber, Field(description="at most so many tokens")] = 200
    seed: Annotated[WholeNumber, Field(description="absent: another text each time")] = None
    regenerate: Annotated[
        bool | str | None, Field(description="another text, whatever the seed")
    ] = None
    stop: Annotated[
        list[StopString] | StopString | None,
        Field(description="the text ends before the first of these", max_length=MAX_STOPS),
    ] = None


def check_names(values: Mapping[str, Any], body: type[Body]) -> None:
    """Raise InputError for the first field that ``body`` does not have."""
    for name in values:
        if name not in body.model_fields:
            raise InputError(unknown_field(name, body), name)


def unknown_field(name: str, body: type[Body]) -> str:
    """A sentence on a field that ``body`` does not have: what it is called here."""
    known = [*body.model_fields]
    meant = OTHER_NAMES.get(name)
    if meant in known and name.startswith("max_"):
        return f"{name}: here it is {meant}, or use /v1/completions."
    if meant in known:
        return f"{name}: here it is {meant}."
    if name in ONLY_OPENAI:
        return f"{name}: only /v1/completions has it; the fields here are {', '.join(known)}."
    close = get_close_matches(name, known, n=1)
    guess = f" Do you mean {close[0]}?" if close else ""
    return f"There is no field {name[:40]!r}.{guess} The fields are {', '.join(known)}."


def check_types(values: Mapping[str, Any], body: type[Body]) -> None:
    """Raise InputError for the first value of a type that ``body`` refuses.

    A value that is missing, too long or too short is left to ``forms``.
    """
    try:
        body.model_validate(dict(values))
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False):
            if one["type"] not in LEFT_TO_FORMS:
                field = str(one["loc"][0])
                message = f"{field} is {str(values[field])[:40]!r}; {one['msg'].lower()}."
                raise InputError(message, field) from None
