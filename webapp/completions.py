"""A request to ``/v1/completions`` as work for the model server, and its choices as JSON.

Between ``openai_schemas``, which has checked the arguments, and ``routes.openai``. A request has
one job for each choice, and one for each prompt whose own tokens are scored (``echo`` with
``logprobs``); all jobs run together in the decode batch.

Invariants: choice ``k`` of a prompt is drawn with the seed ``seed + k``, so it does not depend on
the other prompts; log-probabilities are the model's own, before penalties and temperature.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gpt2core.continuation import Continuation, Step
from gpt2core.engine.events import Failed, Scored, Unavailable
from gpt2core.engine.penalties import Penalties
from gpt2core.engine.scores import Scores
from gpt2core.engine.sequence import GeneratedToken, GenerationOptions
from gpt2core.errors import InputError
from gpt2core.hparams import check_ids
from gpt2core.sampling import MAX_SEED, SamplingParams, fresh_seed
from gpt2core.serving import ModelServer
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import is_utf8, replace_surrogates
from webapp.batch import AnyRequest, Batch
from webapp.forms import parse_prompt
from webapp.openai_schemas import ApiError, CompletionBody
from webapp.work import Work

MAX_CHOICES = 2048  # of one request, over all prompts
SMALLEST_TOP_P = 1e-6  # what 0 means: only the likeliest token
LOWEST_LOGPROB = -9999.0  # of a token that cannot follow: JSON has no infinity
FINISH_REASONS = {"length": "length", "context": "length", "endoftext": "stop", "stop": "stop"}


@dataclass(frozen=True)
class Completion:
    """A checked request: the arguments and the ids of each prompt."""

    body: CompletionBody
    prompts: list[list[int]]
    stop: list[str]
    seed: int
    penalties: Penalties

    @property
    def max_tokens(self) -> int:
        return 16 if self.body.max_tokens is None else self.body.max_tokens

    @property
    def n(self) -> int:
        return self.body.n or 1

    @property
    def scores_prompts(self) -> bool:
        """Whether log-probabilities of the prompts' own tokens are part of the answer."""
        return bool(self.body.echo) and self.body.logprobs is not None

    def sampling(self, k: int) -> SamplingParams:
        """How choice ``k`` of a prompt is sampled."""
        body = self.body
        return SamplingParams(
            1.0 if body.temperature is None else body.temperature,
            body.top_k or 0,
            max(1.0 if body.top_p is None else body.top_p, SMALLEST_TOP_P),
            (self.seed + k) % (MAX_SEED + 1),
        )


def check_completion(body: CompletionBody, server: ModelServer, max_chars: int) -> Completion:
    """The request with its ids. Raises ApiError and InputError for what the model cannot do."""
    if body.model != server.label:
        raise ApiError(
            404,
            f"The model {body.model[:80]!r} does not exist here; this server has {server.label!r}.",
            "model",
            "model_not_found",
        )
    server.check_encoder()
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "stream_options can only be used with stream.", "stream_options")
    prompts = prompt_ids(body, server, max_chars)
    if len(prompts) * (body.n or 1) > MAX_CHOICES:
        raise ApiError(
            400, f"A request can have at most {MAX_CHOICES:,} choices over all its prompts.", "n"
        )
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    completion = Completion(
        body,
        prompts,
        [replace_surrogates(one) for one in stop],
        fresh_seed() if body.seed is None else body.seed % (MAX_SEED + 1),
        penalties_of(body, server),
    )
    for ids in prompts:
        check_length(len(ids), completion.max_tokens, server.hparams.n_ctx)
    return completion


def prompt_ids(body: CompletionBody, server: ModelServer, max_chars: int) -> list[list[int]]:
    """The ids of each prompt. An absent or empty one is the beginning of a new text."""
    given: Any = "" if body.prompt is None else body.prompt
    prompts = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    encoder, found = server.encoder, []
    for prompt in prompts:
        if isinstance(prompt, str):
            text = replace_surrogates(parse_prompt({"prompt": prompt}, max_chars))
            ids = encoder.encode(text)
            if not ids and encoder.endoftext is not None:
                ids = [encoder.endoftext]
        else:
            ids = prompt
        check_ids(ids, server.hparams.n_vocab)
        unknown = next((id for id in ids if id not in encoder.decoder), None)
        if unknown is not None:
            raise InputError(f"Token id {unknown} is no token of this model.", "prompt")
        found.append(ids)
    return found


def penalties_of(body: CompletionBody, server: ModelServer) -> Penalties:
    """The penalties, with the ids of ``logit_bias`` as numbers. Raises ApiError."""
    bias: dict[int, float] = {}
    for key, value in (body.logit_bias or {}).items():
        is_number = key.isascii() and key.isdecimal() and len(key) < 10
        is_token = is_number and int(key) in server.encoder.decoder
        if not is_token or int(key) >= server.hparams.n_vocab:
            raise ApiError(400, f"{key[:40]!r} in logit_bias is no token's id.", "logit_bias")
        bias[int(key)] = float(value)
    return Penalties(body.presence_penalty or 0.0, body.frequency_penalty or 0.0, bias)


def check_length(n_prompt: int, max_tokens: int, n_ctx: int) -> None:
    """Raise ApiError unless prompt and completion fit into the context."""
    if n_prompt + max_tokens > n_ctx:
        raise ApiError(
            400,
            f"This model's maximum context length is {n_ctx} tokens, however you requested "
            f"{n_prompt + max_tokens} tokens ({n_prompt} in your prompt; {max_tokens} for the "
            "completion). Please reduce your prompt; or completion length.",
            "max_tokens" if n_prompt < n_ctx else "prompt",
            "context_length_exceeded",
        )


class Choice:
    """One text of the answer: it grows with the tokens of its job, and is taken in parts."""

    def __init__(self, completion: Completion, index: int, encoder: Encoder):
        self.completion, self.index, self._encoder = completion, index, encoder
        self.prompt = index // completion.n  # which prompt it continues
        # The prompt's ids are a prefix, so that a character that begins in it is completed.
        ids = completion.prompts[self.prompt]
        self.continuation = Continuation(encoder, "", [], ids, completion.stop)
        self.scores: Scores | None = None  # of the prompt's own tokens but the first
        self._n_taken = 0 if completion.body.echo else len(ids)
        self._ended = False

    @property
    def finish_reason(self) -> str | None:
        if not self.completion.max_tokens:
            return "length"
        reason = self.continuation.finish_reason
        return FINISH_REASONS[reason] if reason else None

    def take(self) -> dict[str, Any] | None:
        """What is new since the last call, as a choice of a chunk; None if there is nothing."""
        if self._ended or (self.completion.scores_prompts and self.scores is None):
            return None
        steps, reason = self.continuation.steps[self._n_taken :], self.finish_reason
        text = "".join(step.text for step in steps)
        if not text and reason is None:  # an incomplete character is sent with its last token
            return None
        self._n_taken += len(steps)
        self._ended = reason is not None
        wanted = self.completion.body.logprobs
        return {
            "text": text,
            "index": self.index,
            "logprobs": None if wanted is None else self._logprobs(steps, wanted),
            "finish_reason": reason,
        }

    def _logprobs(self, steps: Sequence[Step], n_top: int) -> dict[str, Any]:
        rows = [self._token_logprobs(step, n_top) for step in steps]
        return {
            "tokens": [token_text(self._encoder, step.token.id) for step in steps],
            "token_logprobs": [logprob for logprob, _ in rows],
            "top_logprobs": [top for _, top in rows],
            "text_offset": [step.token.start for step in steps],
        }

    def _token_logprobs(
        self, step: Step, n_top: int
    ) -> tuple[float | None, dict[str, float] | None]:
        """The log-probability of a step's token, and those of the likeliest at its place."""
        own = step.token.id
        if step.generated:
            logprob = step.generated.logprob
            top = [(one.id, one.logprob) for one in step.candidates[:n_top]]
        elif step.token.index == 0 or self.scores is None:
            return None, None  # nothing stands before the first token
        else:
            at = step.token.index - 1
            logprob = float(self.scores.logprob[at])
            top = list(
                zip(
                    self.scores.top_ids[at].tolist(),
                    self.scores.top_logprobs[at].tolist(),
                    strict=True,
                )
            )
        texts = {token_text(self._encoder, id): finite(value) for id, value in top}
        return finite(logprob), {**texts, token_text(self._encoder, own): finite(logprob)}


def token_text(encoder: Encoder, id: int) -> str:
    """A token as text; as ``bytes:\\x8d`` if it is only part of a character."""
    data = encoder.token_bytes(id)
    return data.decode() if is_utf8(data) else "bytes:" + "".join(f"\\x{b:02x}" for b in data)


def finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)


class Run:
    """A completion that is computed: its choices, and the batch of its jobs."""

    def __init__(self, completion: Completion, server: ModelServer, work: Work, limit: int):
        """Starts the first jobs, at most ``limit`` at a time. Raises Unavailable."""
        self.completion, self._work = completion, work
        self.choices = [
            Choice(completion, index, server.encoder)
            for index in range(len(completion.prompts) * completion.n)
        ]
        # The job at each index of the batch: a choice, or the number of a prompt to score.
        self._jobs: list[Choice | int] = []
        starts: list[Callable[[], AnyRequest]] = []
        if completion.scores_prompts:
            self._jobs += range(len(completion.prompts))
            n_top = completion.body.logprobs or 0
            starts += [partial(work.score, ids, n_top) for ids in completion.prompts]
        if completion.max_tokens:
            self._jobs += self.choices
            starts += [partial(self._submit, choice) for choice in self.choices]
        self._batch = Batch(starts, limit)
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": server.label,
            "system_fingerprint": server.fingerprint,
        }
        self._batch.start()

    def _submit(self, choice: Choice) -> AnyRequest:
        completion = self.completion
        options = GenerationOptions(completion.penalties, max(1, completion.body.logprobs or 0))
        sampling = completion.sampling(choice.index % completion.n)
        ids = completion.prompts[choice.prompt]
        return self._work.submit(ids, completion.max_tokens, sampling, options)

    def changes(self, heartbeat_seconds: float) -> Iterator[Choice | None]:
        """Compute to the end. Each choice that may have grown, or None without news.

        Raises Unavailable on failure. Closing the iterator cancels what still runs.
        """
        if not self._jobs:  # nothing to compute
            yield from self.choices
        events = self._batch.events(heartbeat_seconds)
        try:
            for found in events:
                if found is None:
                    yield None
                    continue
                index, event = found
                job = self._jobs[index]
                if isinstance(event, Failed):
                    self._batch.cancel("failed")
                    raise Unavailable(event.message, retry_after=1)
                if isinstance(event, Scored) and isinstance(job, int):
                    yield from self._scored(job, event.scores)
                elif isinstance(event, GeneratedToken) and isinstance(job, Choice):
                    job.continuation.add(event)
                    if job.continuation.finish_reason == "stop":
                        self._batch.end(index, "stop")
                    yield job
                else:
                    yield None
        finally:
            events.close()

    def _scored(self, prompt: int, scores: Scores) -> Iterator[Choice]:
        n = self.completion.n
        for choice in self.choices[prompt * n : (prompt + 1) * n]:
            choice.scores = scores
            yield choice

    def cancel(self) -> None:
        """End all jobs."""
        self._batch.cancel()

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of all prompts and of all choices, with those of stop strings."""
        n_prompt = sum(map(len, self.completion.prompts))
        n_new = sum(choice.continuation.n_added for choice in self.choices)
        return {
            "prompt_tokens": n_prompt,
            "completion_tokens": n_new,
            "total_tokens": n_prompt + n_new,
        }

    def chunk(self, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The object that carries choices: the whole answer, or a part of a stream."""
        return {**self._head, "choices": list(choices)}
