"""A prompt and the tokens that follow it, as text: decoding, spans, speed, JSON.

Above the tokenizer and :mod:`gpt2core.generate`, whose tokens it receives one by one; below
the command line and the web page, which show the same continuation as text, stream, JSON and
file. Encoding a text again may give other tokens, so a text that is continued keeps its ids:
``prefix`` holds tokens of an earlier run, and this run continues after them.

Invariants: bytes are decoded across tokens, so no character is ever broken; the texts of all
steps joined are the text; every token has the span of characters that its bytes touch.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpt2core.engine.sequence import Candidate, FinishReason, GeneratedToken
from gpt2core.stopping import UntilStop
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import StreamDecoder, is_utf8, replace_surrogates, token_spans

LOGPROB_DIGITS = 6  # decimals in JSON and files; float32 has about seven digits


@dataclass(frozen=True)
class TextToken:
    """One token at its place in a text.

    ``index`` counts from the first token of the prompt. ``piece`` is the token in the byte
    alphabet (``Ġall``), ``data`` its bytes. ``start`` and ``end`` delimit the characters that
    the bytes touch; tokens that share a character have overlapping spans.
    """

    index: int
    id: int
    piece: str
    data: bytes
    start: int
    end: int

    @property
    def text(self) -> str | None:
        """The token's own text; None for a part of a character and for the end of the text."""
        return self.data.decode() if is_utf8(self.data) and self.start < self.end else None

    def to_json(self) -> dict[str, Any]:
        """The token without its place: id, piece, and bytes in hex."""
        return {"id": self.id, "piece": self.piece, "bytes": self.data.hex()}

    def to_json_with_span(self) -> dict[str, Any]:
        """The same with the characters that the token touches."""
        return {**self.to_json(), "start": self.start, "end": self.end}


@dataclass(frozen=True)
class Step:
    """What one more token adds to a continuation.

    ``text`` holds the characters that became complete, possibly none. They are shared by the
    tokens ``first`` to ``token.index``. ``is_complete`` is false while bytes of a character
    wait for the next token. ``generated`` is None for a token of the prefix, whose
    probability and candidates are unknown.
    """

    token: TextToken
    text: str
    first: int
    is_complete: bool
    generated: GeneratedToken | None

    @property
    def logprob(self) -> float | None:
        """The model's own log-probability of the token, as it is exported."""
        return round(self.generated.logprob, LOGPROB_DIGITS) if self.generated else None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The likeliest tokens at this place, likeliest first."""
        return self.generated.candidates if self.generated else ()


class Continuation:
    """A text that grows token by token: ``prompt``, then ``prefix``, then what is generated.

    ``ids`` are the prompt's tokens; ``prefix`` are ids that an earlier run generated. Neither
    list is changed. The text ends before the first of the strings ``stop`` that is generated.
    Usage::

        continuation = Continuation(encoder, prompt, ids)
        for token in stream(engine, ids, n_tokens):
            for step in continuation.add(token):
                print(step.text, end="")
            if continuation.finish_reason:
                break
    """

    def __init__(
        self,
        encoder: Encoder,
        prompt: str,
        ids: Sequence[int],
        prefix: Sequence[int] = (),
        stop: Sequence[str] = (),
    ):
        self.encoder, self.prompt = encoder, prompt
        self.prompt_tokens = text_tokens(encoder, prompt, ids)
        self.steps: list[Step] = []
        self.n_prefix = len(prefix)
        self.finish_reason: FinishReason | None = None  # why the run ended; None while it goes on
        self.n_added = 0  # tokens of this run, with those that belong to a stop string
        self._until_stop = UntilStop(encoder, stop)
        self._decoder = StreamDecoder()
        self._n_chars = len(prompt)  # characters of the prompt and of the complete text
        self._first_open = len(ids)  # index of the first token whose character is incomplete
        self._times: list[float] = []  # seconds, when each generated token arrived
        for token_id in prefix:
            self._append(token_id, None)
            self._until_stop.skip(token_id)

    def add(self, generated: GeneratedToken) -> list[Step]:
        """Take the next generated token; returns what it changes, one step for each token.

        With stop strings there may be none, because a token is held back while its text may
        be the beginning of one, and several, when it turns out not to be. A finish reason
        ``"stop"`` means that one was found. Tokens after the end change nothing: an engine may
        be ahead of the text.
        """
        if self.finish_reason:
            return []
        self._times.append(time.perf_counter())
        self.n_added += 1
        passed = self._until_stop.add(generated)
        steps = [self._append(token.id, token, n_cut) for token, n_cut in passed]
        self.finish_reason = "stop" if self._until_stop.stopped else generated.finish_reason
        return steps

    def _append(self, token_id: int, generated: GeneratedToken | None, n_cut: int = 0) -> Step:
        index, data = self.n_tokens, self.encoder.token_bytes(token_id)
        # 1. Decode. A token that ends the text, such as <|endoftext|>, is no part of it.
        text = ""
        if token_id not in self.encoder.rules.end_ids:
            text = self._decoder.feed(data)
        # 2. No token follows the last one: bytes of an incomplete character become U+FFFD.
        if generated and generated.finish_reason:
            text += self._decoder.flush()
        text = text[: len(text) - n_cut]  # a stop string begins inside the token
        is_complete = not self._decoder.pending
        # 3. Place the token. While its character is incomplete, the span reaches one character
        #    beyond the text: the character that the next tokens complete.
        start, self._n_chars = self._n_chars, self._n_chars + len(text)
        end = self._n_chars if is_complete else self._n_chars + 1
        piece = self.encoder.decoder[token_id]
        token = TextToken(index, token_id, piece, data, start, end)
        step = Step(token, text, self._first_open, is_complete, generated)
        self.steps.append(step)
        # 4. After a complete character the next token begins a new group.
        if is_complete:
            self._first_open = index + 1
        return step

    @property
    def generated(self) -> list[Step]:
        """The steps of this run, without the prefix."""
        return self.steps[self.n_prefix :]

    @property
    def n_tokens(self) -> int:
        """All tokens in the context: prompt, prefix and what was generated."""
        return len(self.prompt_tokens) + len(self.steps)

    @property
    def text(self) -> str:
        """The text of this run. A character that began in the prefix is part of it."""
        return "".join(step.text for step in self.generated)

    @property
    def ids(self) -> list[int]:
        """The tokens after the prompt: the prefix of a run that goes on from here."""
        return [step.token.id for step in self.steps]

    @property
    def tokens_per_second(self) -> float | None:
        """Decoding speed since the first generated token; None before there are two."""
        if len(self._times) < 2 or self._times[-1] <= self._times[0]:
            return None
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    def to_json(self, model_name: str, seed: int | None, weights: str) -> dict[str, Any]:
        """The run as one JSON object: the text, its tokens, and how they were made."""
        speed = self.tokens_per_second
        return {
            "model": model_name,
            "prompt": self.prompt,
            "prompt_tokens": len(self.prompt_tokens),
            "text": self.text,
            "tokens": [
                {**step.token.to_json(), "logprob": step.logprob} for step in self.generated
            ],
            "finish_reason": self.finish_reason,
            "seed": seed,
            "weights": weights,
            "tokens_per_second": None if speed is None else round(speed, 1),
        }


def text_tokens(encoder: Encoder, text: str, ids: Sequence[int]) -> list[TextToken]:
    """The tokens of ``text``, whose ids are ``ids``, each with its span."""
    data = [encoder.token_bytes(token_id) for token_id in ids]
    spans = find_spans(encoder, text, ids, data)
    return [
        TextToken(index, token_id, encoder.decoder[token_id], data[index], *spans[index])
        for index, token_id in enumerate(ids)
    ]


def find_spans(
    encoder: Encoder, text: str, ids: Sequence[int], data: Sequence[bytes]
) -> list[tuple[int, int]]:
    """For each token the characters of ``text`` that it stands for.

    The bytes of tokens are mostly those of the text. They are not if the tokenizer puts a
    token or a space first, or if a token takes the white space beside it: then the encoder
    says which characters belong to which token.
    """
    if b"".join(data) == replace_surrogates(text).encode():
        return token_spans(text, data)
    for special_tokens in (True, False):
        tokens = encoder.tokens(text, special_tokens)
        if [token.id for token in tokens] == list(ids):
            return [(token.start, token.end) for token in tokens]
    return [(0, len(text))] * len(ids)  # a part of a text, which alone has other tokens


def tokens_to_json(tokens: Sequence[TextToken]) -> dict[str, Any]:
    """A tokenized text as one JSON object."""
    return {"n_tokens": len(tokens), "tokens": [token.to_json_with_span() for token in tokens]}
