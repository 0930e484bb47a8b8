"""The JSON that this server answers with, as schema objects for the OpenAPI document.

Nothing is made from them: ``continuation``, ``score_report`` and ``completions`` make the answers,
and tests check that each answer fits its object here.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from gpt2core.engine.packed import Precision


class Answer(BaseModel):
    """An answer has exactly these fields."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Token(Answer):
    """A token: its id, its spelling in the byte alphabet, its bytes in hex."""

    id: int
    piece: str
    bytes: str


class PlacedToken(Token):
    """A token of a given text, with the characters ``start`` to ``end`` that it touches."""

    start: int
    end: int


class TokenizeAnswer(Answer):
    n_tokens: int
    tokens: list[PlacedToken]


class GeneratedToken(Token):
    logprob: float


class GenerateAnswer(Answer):
    model: str
    prompt: str
    prompt_tokens: int
    text: str
    tokens: list[GeneratedToken]
    finish_reason: Literal["length", "endoftext", "context", "stop"]
    seed: int
    weights: Precision
    tokens_per_second: float | None


class Candidate(Token):
    """``logprob`` is the model's own; ``sampling_probability`` is 0 for a token that is cut off."""

    logprob: float
    sampling_probability: float


class NextAnswer(Answer):
    """The likeliest tokens after a text, likeliest first."""

    model: str
    prompt: str
    prompt_tokens: int
    candidates: list[Candidate]
    weights: Precision


class ScoredToken(PlacedToken):
    """``logprob`` and ``entropy`` in nats; null for the first token of a text."""

    logprob: float | None
    rank: int | None
    entropy: float | None


class ScoreAnswer(Answer):
    """``overlap`` is what the windows of a text longer than the context share; 0 if it fits."""

    model: str
    weights: Precision
    n_tokens: int
    tokens: list[ScoredToken]
    logprob: float
    perplexity: float | None
    bits_per_byte: float | None
    overlap: int


class ErrorDetails(BaseModel):
    """A message for people, the invalid field, and the numbers of the message."""

    model_config = ConfigDict(extra="allow")

    message: str
    field: str | None = None


class ErrorAnswer(Answer):
    error: ErrorDetails


class Logprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Answer):
    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: Literal["length", "stop"] | None


class Usage(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionAnswer(Answer):
    """The whole answer; the parts of a stream have the same fields."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ModelAnswer(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsAnswer(Answer):
    object: Literal["list"]
    data: list[ModelAnswer]


class OpenaiErrorDetails(Answer):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenaiErrorAnswer(Answer):
    error: OpenaiErrorDetails
