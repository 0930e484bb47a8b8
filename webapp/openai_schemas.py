"""OpenAI's completions API: the body of a request, and its errors.

Checks names, types and ranges; ``completions`` checks what depends on the model.
``/openapi.json`` is generated from the same objects.

Source: OpenAI's API reference, "Completions (Legacy)".
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpt2core.errors import GPT2Error
from gpt2core.stopping import MAX_STOP_CHARS, MAX_STOPS

MAX_LOGPROBS = 20

StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
TokenId = Annotated[str, Field(pattern="^[0-9]{1,9}$")]  # keys of JSON are strings
Bias = Annotated[float, Field(ge=-100, le=100)]


class ApiError(GPT2Error):
    """An error in OpenAI's shape."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


class Arguments(BaseModel):
    """Only arguments with a name here, and no conversions of types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Arguments):
    """The argument ``stream_options``."""

    include_usage: bool | None = None


class CompletionBody(Arguments):
    """The body of ``POST /v1/completions``. A description completes "it must be"."""

    model: Annotated[str, Field(description="the name of the model")]
    prompt: Annotated[
        str
        | Annotated[list[str], Field(min_length=1)]
        | Ids
        | Annotated[list[Ids], Field(min_length=1)]
        | None,
        Field(
            description="a string, a list of strings, a list of token ids, or a list of such lists"
        ),
    ] = None
    max_tokens: Annotated[int | None, Field(ge=0, description="a whole number of at least 0")] = 16
    temperature: Annotated[float | None, Field(ge=0, le=2, description="a number from 0 to 2")] = (
        1.0
    )
    top_p: Annotated[float | None, Field(ge=0, le=1, description="a number from 0 to 1")] = 1.0
    n: Annotated[int | None, Field(ge=1, le=128, description="a whole number from 1 to 128")] = 1
    stream: Annotated[bool | None, Field(description="true or false")] = False
    stream_options: Annotated[
        StreamOptions | None, Field(description='an object such as {"include_usage": true}')
    ] = None
    logprobs: Annotated[
        int | None,
        Field(ge=0, le=MAX_LOGPROBS, description=f"a whole number from 0 to {MAX_LOGPROBS}"),
    ] = None
    echo: Annotated[bool | None, Field(description="true or false")] = False
    stop: Annotated[
        StopString | Annotated[list[StopString], Field(max_length=MAX_STOPS)] | None,
        Field(
            description=f"a string or a list of up to {MAX_STOPS} strings, each of 1 to "
            f"{MAX_STOP_CHARS} characters"
        ),
    ] = None
    seed: Annotated[int | None, Field(description="a whole number")] = None
    presence_penalty: Annotated[
        float | None, Field(ge=-2, le=2, description="a number from -2 to 2")
    ] = 0.0
    frequency_penalty: Annotated[
        float | None, Field(ge=-2, le=2, description="a number from -2 to 2")
    ] = 0.0
    logit_bias: Annotated[
        dict[TokenId, Bias] | None,
        Field(description="an object from token ids to numbers from -100 to 100"),
    ] = None
    user: Annotated[str | None, Field(description="a string")] = None
    top_k: Annotated[
        int | None, Field(ge=0, description="a whole number of at least 0; 0: all tokens")
    ] = 0


def parse_body(values: Mapping[str, Any]) -> CompletionBody:
    """The arguments, with defaults for those that are absent or null. Raises ApiError."""
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return CompletionBody.model_validate(given)
    except ValidationError as error:
        raise as_api_error(error, given) from None


def as_api_error(error: ValidationError, values: Mapping[str, Any]) -> ApiError:
    """The first error as a sentence that names its argument."""
    errors = error.errors(include_url=False, include_context=False)
    # Unknown arguments first: they explain why another one is missing.
    first = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    param = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        name = ".".join(str(part) for part in first["loc"])[:80]
        return ApiError(400, f"Unrecognized request argument supplied: {name}.", name)
    if first["type"] == "missing":
        return ApiError(400, f"You must provide a {param} parameter.", param)
    description = CompletionBody.model_fields[param].description
    shown = repr(values[param])[:60]
    return ApiError(400, f"{shown} is not valid for {param}: it must be {description}.", param)
