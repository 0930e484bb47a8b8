"""The JSON bodies of this server's own addresses: names and types of their fields.

These objects check each JSON request before ``forms`` looks at the values, and
``/openapi.json`` is generated from them, so the document and the behaviour cannot differ.
Limits that depend on the model (its context, its vocabulary) are checked in ``forms``.

Invariant: a field that no object names is an error that says which one was meant.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpt2core.errors import InputError
from gpt2core.sampling import MAX_SEED, MAX_TEMPERATURE
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

# Each type is checked here; what json_schema_extra adds to the document is checked in ``forms``,
# as lengths are, because ``forms`` has a better sentence.
Number = Annotated[int | float | str | None, Field(title="Number")]  # text: as a form has it
WholeNumber = Annotated[int | str | None, Field(title="Whole number")]
Flag = Annotated[bool | Literal[0, 1, "", "0", "1"] | None, Field(title="Flag")]
Text = Annotated[str, Field(min_length=1, description="any text")]
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
SpecialTokens = Annotated[
    Flag, Field(description="whether names such as <|endoftext|> are these tokens")
]


class Body(BaseModel):
    """What all bodies share: only fields with a name, and no conversions of types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TokenizeBody(Body):
    """The body of ``POST /tokenize``."""

    prompt: Annotated[str, Field(description="any text, also an empty one")]
    special_tokens: SpecialTokens = None


class ScoreBody(Body):
    """The body of ``POST /score``."""

    prompt: Text
    special_tokens: SpecialTokens = None


class NextBody(ScoreBody):
    """The body of ``POST /next``: a text, and what decides about its next token."""

    temperature: Annotated[
        Number,
        Field(
            description="0: always the likeliest token",
            json_schema_extra={"minimum": 0, "maximum": MAX_TEMPERATURE},
        ),
    ] = 0.7
    top_k: Annotated[
        WholeNumber,
        Field(description="keep the k likeliest; 0: all", json_schema_extra={"minimum": 0}),
    ] = 40
    top_p: Annotated[
        Number,
        Field(
            description="keep this share; 1: all",
            json_schema_extra={"exclusiveMinimum": 0, "maximum": 1},
        ),
    ] = 1
    kept: Annotated[
        list[Annotated[int, Field(ge=0)]] | str | None,
        Field(
            description="ids after the prompt that are there already",
            json_schema_extra={"pattern": "^([0-9]+(,[0-9]+)*)?$"},
        ),
    ] = None


class GenerateBody(NextBody):
    """The body of ``POST /generate``; ``POST /append`` takes the same fields."""

    n_tokens: Annotated[
        WholeNumber, Field(description="at most so many tokens", json_schema_extra={"minimum": 1})
    ] = 200
    seed: Annotated[
        WholeNumber,
        Field(
            description="absent: another text each time",
            json_schema_extra={"minimum": 0, "maximum": MAX_SEED},
        ),
    ] = None
    regenerate: Annotated[Flag, Field(description="another text, whatever the seed")] = None
    stop: Annotated[
        Annotated[list[StopString], Field(max_length=MAX_STOPS)] | StopString | None,
        Field(description="the text ends before the first of these"),
    ] = None


class ScoreQuery(Body):
    """The query of ``GET /score``, a permalink; ``forms`` checks it."""

    prompt: Annotated[str, Field(description="any text; without one, the page with a form")] = ""
    special_tokens: Annotated[Literal["", "0", "1"], Field(title="Flag")] = ""


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
        first: dict[str, Any] = {}  # of the types that a field can have, each has an error
        for one in error.errors(include_url=False, include_context=False):
            first.setdefault(str(one["loc"][0]), one)
        for field, one in first.items():
            if one["type"] not in LEFT_TO_FORMS:
                message = f"{field} is {str(values[field])[:40]!r}; {one['msg'].lower()}."
                raise InputError(message, field) from None
