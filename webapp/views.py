"""What templates show: tokens as chips, candidates as bars, a text as it grows.

Between the routes, which have ids, and the templates, which only print. Invariants: a
chip says everything from the token's bytes, never from a lossy decoded string; two
chips side by side never have the same colour; text is decoded across tokens, so a
character never breaks.
"""

import math
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from flask import current_app, render_template

from gpt2core.encoder import Encoder, StreamDecoder, is_utf8, token_spans
from gpt2core.generate import Candidate, GeneratedToken
from webapp.forms import DEFAULTS, GenerationRequest

MAX_CHIPS = 2_000  # a browser with more chips than that stops being pleasant to type in
N_COLOURS = 6  # chips take them in turn, so neighbours differ
EXAMPLES = (
    "Alan Turing theorized that computers would one day become",
    "Once upon a time",
    "The old king said to his daughter",
    "Not all heroes wear capes.",
    "naïve café 🤖 日本語",
)
FINISHED = {
    "length": "as many as asked for",
    "endoftext": "the last of them ends the text",
    "context": "then the context was full",
}
# What the eye cannot tell apart, in words.
SPELLED_OUT = {
    " ": "space",
    "\n": "newline",
    "\t": "tab",
    "\r": "carriage return",
    "\x00": "NUL",
    "\u00a0": "no-break space",
    "\u200b": "zero-width space",
    "\u200d": "zero-width joiner",
    "\ufe0f": "emoji style",
    "\ufeff": "byte order mark",
}


@dataclass(frozen=True)
class TokenChip:
    """One token as the strip shows it.

    ``piece`` is its spelling in the byte alphabet (``Ġall``), ``bytes`` hex. ``note``
    says in words what the eye could not tell: which white space, or which bytes when the
    token is only part of a character. ``start``/``end`` are the characters it touches.
    """

    index: int
    id: int
    piece: str
    bytes: str
    note: str
    start: int
    end: int
    generated: bool = False
    probability: str = ""

    @property
    def colour(self) -> int:
        return self.index % N_COLOURS

    def to_json(self) -> dict:
        """The token as ``POST /tokenize`` answers it."""
        return {
            "id": self.id,
            "piece": self.piece,
            "bytes": self.bytes,
            "start": self.start,
            "end": self.end,
        }


@dataclass(frozen=True)
class Bar:
    """One candidate for a place: its token, its probability, and whether it was chosen."""

    id: int
    piece: str
    note: str
    probability: float
    percent: str
    chosen: bool


@dataclass(frozen=True)
class TokenView:
    """A text cut into tokens, as the strip and the counts show it."""

    chips: list[TokenChip]
    n_tokens: int
    n_chars: int
    n_bytes: int
    n_ctx: int

    @property
    def shown(self) -> list[TokenChip]:
        return self.chips[:MAX_CHIPS]


class Result:
    """A continuation as it grows: chips, text and figures, for all three kinds of answer."""

    def __init__(self, asked: GenerationRequest, encoder: Encoder):
        self.asked, self.encoder = asked, encoder
        self.prompt_chips = prompt_chips(encoder, asked.prompt, asked.ids)
        self.chips: list[TokenChip] = []
        self.tokens: list[GeneratedToken] = []
        self.spans: list[tuple[TokenChip, str]] = []  # a chip and the text that it completed
        self.finish_reason: str | None = None
        self._decoder = StreamDecoder()
        self._n_chars = len(asked.prompt)
        self._times: list[float] = []

    def add(self, token: GeneratedToken) -> None:
        """Take the next token."""
        self._times.append(time.monotonic())
        index = len(self.asked.ids) + len(self.tokens)
        chip = generated_chip(self.encoder, token, index, self._n_chars)
        text = ""
        if token.finish_reason != "endoftext":  # which ends the text and is not part of it
            text = self._decoder.feed(self.encoder.token_bytes(token.id))
        if token.finish_reason:
            text += self._decoder.flush()
        self._n_chars += len(text)
        self.tokens.append(token)
        self.chips.append(chip)
        self.spans.append((chip, text))
        self.finish_reason = token.finish_reason

    @property
    def text(self) -> str:
        """The continuation so far."""
        return "".join(text for _, text in self.spans)

    @property
    def bars(self):
        """The candidates for the newest token's place."""
        newest = self.tokens[-1]
        return bars(self.encoder, newest.candidates, newest.id)

    @property
    def tokens_per_second(self) -> float | None:
        """Decoding speed as the reader sees it; None before there are two tokens."""
        if len(self._times) < 2 or self._times[-1] <= self._times[0]:
            return None
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    @property
    def finished(self) -> str:
        """In words, why the text ends."""
        return FINISHED[self.finish_reason]

    @property
    def form(self) -> dict:
        """The fields that give this very text again."""
        sampling = self.asked.sampling
        return {
            "prompt": self.asked.prompt,
            "n_tokens": self.asked.n_tokens,
            "temperature": f"{sampling.temperature:g}",
            "top_k": sampling.top_k,
            "top_p": f"{sampling.top_p:g}",
            "seed": sampling.seed,
        }

    def to_json(self, model_name: str) -> dict:
        """The finished generation, as ``POST /generate`` answers it."""
        speed = self.tokens_per_second
        return {
            "model": model_name,
            "prompt": self.asked.prompt,
            "prompt_tokens": len(self.asked.ids),
            "text": self.text,
            "tokens": [
                {"id": t.id, "piece": c.piece, "bytes": c.bytes, "logprob": round(t.logprob, 6)}
                for t, c in zip(self.tokens, self.chips, strict=True)
            ],
            "finish_reason": self.finish_reason,
            "seed": self.asked.sampling.seed,
            "tokens_per_second": speed and round(speed, 1),
        }


def token_view(text: str) -> TokenView:
    """``text`` cut into tokens, with its counts."""
    scheduler = current_app.extensions["scheduler"]
    ids = scheduler.encoder.encode(text)
    chips = prompt_chips(scheduler.encoder, text, ids)
    n_bytes = sum(len(chip.bytes) // 2 for chip in chips)
    return TokenView(chips, len(ids), len(text), n_bytes, scheduler.hparams.n_ctx)


def render_page(values: Mapping, messages: dict[str, str] | None = None, result=None) -> str:
    """The whole page: the form filled from ``values``, errors and a finished result, if any."""
    form = {name: values.get(name, default) for name, default in DEFAULTS.items()}
    return render_template(
        "index.html",
        form=form,
        messages=messages or {},
        examples=EXAMPLES,
        view=token_view(form["prompt"]),
        scheduler=current_app.extensions["scheduler"],
        result=result,
    )


def prompt_chips(encoder: Encoder, text: str, ids: list[int]) -> list[TokenChip]:
    """Chips of ``text``, whose ids are ``ids``."""
    tokens = [encoder.token_bytes(i) for i in ids]
    return [
        TokenChip(index, id, encoder.decoder[id], data.hex(), note_of(data), start, end)
        for index, (id, data, (start, end)) in enumerate(
            zip(ids, tokens, token_spans(text, tokens), strict=True)
        )
    ]


def generated_chip(encoder: Encoder, token: GeneratedToken, index: int, start: int) -> TokenChip:
    """The chip of a generated token that begins at character ``start`` of the whole text."""
    data = encoder.token_bytes(token.id)
    return TokenChip(
        index,
        token.id,
        encoder.decoder[token.id],
        data.hex(),
        "end of text" if token.finish_reason == "endoftext" else note_of(data),
        start,
        start + max(1, len(data.decode("utf-8", errors="ignore"))),
        generated=True,
        probability=percent(math.exp(token.logprob)),
    )


def bars(encoder: Encoder, candidates: tuple[Candidate, ...], chosen: int) -> list[Bar]:
    """The candidates of one place, likeliest first."""
    return [
        Bar(
            c.id,
            encoder.decoder[c.id],
            note_of(encoder.token_bytes(c.id)),
            math.exp(c.logprob),
            percent(math.exp(c.logprob)),
            c.id == chosen,
        )
        for c in candidates
    ]


def note_of(data: bytes) -> str:
    """In words, what the bytes of a token are when the eye cannot tell; else ``""``."""
    if not is_utf8(data):
        count = "byte" if len(data) == 1 else "bytes"
        return f"{count} {data.hex(' ')}"
    text = data.decode()
    if len(text) == 1 and text in SPELLED_OUT:
        return SPELLED_OUT[text]
    if text and all(c in SPELLED_OUT for c in text):
        kinds = {SPELLED_OUT[c] for c in text}
        return f"{len(text)} × {kinds.pop()}" if len(kinds) == 1 else f"{len(text)} white spaces"
    if len(text) == 1 and not text.isprintable():
        return unicodedata.name(text, f"U+{ord(text):04X}").lower()
    return ""


def percent(probability: float) -> str:
    """``0.4213`` -> ``"42%"``; small ones keep one digit, tiny ones say less than."""
    share = 100 * probability
    if share >= 9.95:
        return f"{share:.0f}%"
    return f"{share:.1f}%" if share >= 0.05 else "<0.1%"
