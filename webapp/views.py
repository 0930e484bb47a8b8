"""What templates show: tokens as chips, candidates as bars, a text as it grows.

Between the routes, which have ids, and the templates, which only print. Invariants: a
chip says everything from the token's bytes, never from a lossy decoded string; chips
side by side never have the same colour; tokens that share a character are one group;
text is decoded across tokens, so a character never breaks.
"""

import json
import math
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from flask import current_app, render_template

from gpt2core.engine.sequence import GeneratedToken
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import StreamDecoder, is_utf8, replace_surrogates, token_spans
from webapp.forms import DEFAULTS, FormErrors, GenerationRequest, parse_request

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
# The same made visible: control pictures, an open box for the space, arrows.
PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {
    0x20: "␣",
    0x09: "⇥",
    0x0A: "↵",
    0x7F: "␡",
    0xA0: "⍽",
}


@dataclass(frozen=True)
class Bar:
    """One candidate for a place.

    ``probability`` is the model's own, ``chance`` what temperature, top-k and top-p made
    of it; ``chosen`` marks the token that was drawn.
    """

    id: int
    piece: str
    note: str
    probability: float
    chance: float
    chosen: bool

    @property
    def percent(self) -> str:
        return percent(self.probability)

    @property
    def chance_percent(self) -> str:
        return percent(self.chance) if self.chance else "cut off"


@dataclass(frozen=True)
class TokenChip:
    """One token as the strip shows it.

    ``piece`` is its spelling in the byte alphabet (``Ġall``), ``readable`` its text with
    white space made visible, ``bytes`` hex. ``note`` says in words what the eye could not
    tell: which white space, or which bytes when the token is only part of a character.
    ``start``/``end`` are the characters it touches, ``rank`` that of the merge that made
    it. A generated token has its ``bars``, and a ``probability`` unless it was only kept.
    """

    index: int
    id: int
    piece: str
    readable: str
    bytes: str
    note: str
    start: int
    end: int
    rank: int | None
    generated: bool = False
    probability: float | None = None
    bars: tuple[Bar, ...] = ()

    @property
    def colour(self) -> int:
        return self.index % N_COLOURS

    @property
    def percent(self) -> str:
        return "" if self.probability is None else percent(self.probability)

    @property
    def level(self) -> int:
        """The probability in tenths, for the shade under the chip."""
        return round(10 * (self.probability or 0))

    @property
    def candidates(self) -> str:
        """The bars as JSON, for the card that a chip opens: id, piece, both probabilities."""
        return json.dumps(
            [[b.id, b.piece, round(b.probability, 4), round(b.chance, 4)] for b in self.bars]
        )

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
class ChipGroup:
    """Tokens that cannot be told apart in the text, and that text: mostly one token.

    An emoji cut into three tokens is one group of three.
    """

    chips: list[TokenChip]
    text: str

    @property
    def first(self) -> int:
        return self.chips[0].index

    @property
    def last(self) -> int:
        return self.chips[-1].index

    @property
    def label(self) -> str:
        """The shared text, visible."""
        return self.text.translate(PICTURES)


@dataclass(frozen=True)
class TokenView:
    """A text cut into tokens, as the strip and the counts show it.

    Of a text too long to be taken it is the beginning, without ``n_left_out`` characters.
    """

    text: str
    groups: list[ChipGroup]
    n_tokens: int
    n_bytes: int
    n_ctx: int
    n_left_out: int = 0

    @property
    def n_chars(self) -> int:
        return len(self.text)

    @property
    def chips(self) -> list[TokenChip]:
        return [chip for group in self.groups for chip in group.chips]

    @property
    def shown(self) -> list[ChipGroup]:
        return self.groups[:MAX_CHIPS]

    @property
    def n_hidden(self) -> int:
        return sum(len(group.chips) for group in self.groups[MAX_CHIPS:])


@dataclass(frozen=True)
class Step:
    """What one more token changes on the page.

    ``group`` is there once the character is complete; it takes the place of the chips
    ``replaced``, which had been shown alone. ``text`` came out, by tokens ``first`` to
    ``last``.
    """

    chip: TokenChip
    group: ChipGroup | None
    replaced: list[int]
    text: str
    first: int
    last: int


class Result:
    """A continuation as it grows: chips, text and figures, for all three kinds of answer."""

    def __init__(self, asked: GenerationRequest, encoder: Encoder, n_ctx: float = math.inf):
        self.asked, self.encoder, self.n_ctx = asked, encoder, n_ctx
        self.prompt_groups = group_chips(encoder, asked.prompt, asked.ids)
        self.tokens: list[GeneratedToken] = []
        self.steps: list[Step] = []
        self._decoder = StreamDecoder()
        self._open: list[TokenChip] = []  # chips of a character that is not complete
        self._open_text = ""
        self._n_chars = len(asked.prompt)
        self._times: list[float] = []
        for id in asked.kept:
            self._append(id, None)
        self.n_kept = len(self.steps)

    def add(self, token: GeneratedToken) -> None:
        """Take the next token."""
        self._times.append(time.monotonic())
        self.tokens.append(token)
        self._append(token.id, token)

    def _append(self, id: int, token: GeneratedToken | None) -> None:
        """Decode one more token and find what it changes."""
        reason = token and token.finish_reason
        text = ""
        if id != self.encoder.endoftext:  # which ends the text and is not part of it
            text = self._decoder.feed(self.encoder.token_bytes(id))
        if reason:
            text += self._decoder.flush()
        start, self._n_chars = self._n_chars, self._n_chars + len(text)
        complete = not self._decoder.pending
        chip = make_chip(
            self.encoder,
            id,
            len(self.asked.ids) + len(self.steps),
            (start, self._n_chars + (not complete)),
            generated=True,
            probability=token and math.exp(token.logprob),
            bars=token_bars(self.encoder, token) if token else (),
        )
        replaced = [earlier.index for earlier in self._open]
        self._open.append(chip)
        self._open_text += text
        first, group = self._open[0].index, None
        if complete:
            group = ChipGroup(self._open, self._open_text)
            self._open, self._open_text = [], ""
        self.steps.append(Step(chip, group, replaced, text, first, chip.index))

    @property
    def made(self) -> list[Step]:
        """The steps of this run, without what was kept of an earlier one."""
        return self.steps[self.n_kept :]

    @property
    def groups(self) -> list[ChipGroup]:
        """All generated chips, grouped; what is not complete stands alone."""
        complete = [step.group for step in self.steps if step.group]
        return complete + [ChipGroup([chip], "") for chip in self._open]

    @property
    def text(self) -> str:
        """The text of this run."""
        return "".join(step.text for step in self.made)

    @property
    def finish_reason(self) -> str | None:
        """Why the run ended; None while it goes on."""
        return self.tokens[-1].finish_reason if self.tokens else None

    @property
    def finished(self) -> str:
        """The same in words."""
        return FINISHED[self.finish_reason]

    @property
    def tokens_per_second(self) -> float | None:
        """Decoding speed as the reader sees it; None before there are two tokens."""
        if len(self._times) < 2 or self._times[-1] <= self._times[0]:
            return None
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    @property
    def can_continue(self) -> bool:
        """Whether more could follow: the text has not ended and the context has room."""
        n_tokens = len(self.asked.ids) + len(self.steps)
        return self.finish_reason == "length" and n_tokens < self.n_ctx

    @property
    def all_kept(self) -> str:
        """The field ``kept`` that goes on after everything there is."""
        return ",".join(str(step.chip.id) for step in self.steps)

    @property
    def form(self) -> dict:
        """The fields that give this very text again."""
        sampling = self.asked.sampling
        fields = {
            "prompt": self.asked.prompt,
            "n_tokens": self.asked.n_tokens,
            "temperature": exact(sampling.temperature),
            "top_k": sampling.top_k,
            "top_p": exact(sampling.top_p),
            "seed": sampling.seed,
        }
        if self.asked.kept:
            fields["kept"] = ",".join(map(str, self.asked.kept))
        return fields

    def to_json(self, model_name: str) -> dict:
        """The finished generation, as ``POST /generate`` answers it."""
        speed = self.tokens_per_second
        return {
            "model": model_name,
            "prompt": self.asked.prompt,
            "prompt_tokens": len(self.asked.ids),
            "text": self.text,
            "tokens": [
                {
                    "id": token.id,
                    "piece": step.chip.piece,
                    "bytes": step.chip.bytes,
                    "logprob": round(token.logprob, 6),
                }
                for token, step in zip(self.tokens, self.made, strict=True)
            ],
            "finish_reason": self.finish_reason,
            "seed": self.asked.sampling.seed,
            "tokens_per_second": speed and round(speed, 1),
        }


def render_page(
    values: Mapping,
    messages: dict[str, str] | None = None,
    result: Result | None = None,
    problem: str | None = None,
) -> str:
    """The whole page: the form filled from ``values``; errors and a finished result, if any.

    ``messages`` stand beside their fields, ``problem`` where the result would be.
    """
    # A JSON object can hold anything; a field shows text and numbers.
    form = {
        name: str(values[name]) if isinstance(values.get(name), str | int | float) else default
        for name, default in DEFAULTS.items()
    }
    # As a text area has them, so that the strip shows what is sent from there.
    form["prompt"] = form["prompt"].replace("\r\n", "\n").replace("\r", "\n")
    return render_template(
        "index.html",
        form=form,
        messages=messages or {},
        problem=problem,
        examples=EXAMPLES,
        view=token_view(form["prompt"]),
        result=result,
        preview=kept_preview(form),
        link_model=values.get("model"),
    )


def kept_preview(form: dict[str, str]) -> Result | None:
    """The text that the form's kept tokens make, before anything is generated, if it is one."""
    if not form["kept"]:
        return None
    scheduler = current_app.extensions["scheduler"]
    max_chars = current_app.config["SETTINGS"].max_chars
    fields = {"prompt": form["prompt"], "kept": form["kept"], "n_tokens": "1"}
    try:
        asked = parse_request(fields, scheduler.encoder, scheduler.hparams, max_chars)
    except FormErrors:  # which are told to whoever presses Generate
        return None
    return Result(asked, scheduler.encoder)


def token_view(text: str) -> TokenView:
    """``text`` cut into tokens, with its counts; of one that is not taken, the beginning."""
    scheduler = current_app.extensions["scheduler"]
    max_chars = current_app.config["SETTINGS"].max_chars
    n_left_out = max(0, len(text) - max_chars)
    text = replace_surrogates(text[:max_chars])
    ids = scheduler.encoder.encode(text)
    groups = group_chips(scheduler.encoder, text, ids)
    n_ctx = scheduler.hparams.n_ctx
    return TokenView(text, groups, len(ids), len(text.encode()), n_ctx, n_left_out)


def group_chips(encoder: Encoder, text: str, ids: list[int]) -> list[ChipGroup]:
    """Chips of ``text``, whose ids are ``ids``, grouped where they share a character."""
    spans = token_spans(text, [encoder.token_bytes(i) for i in ids])
    groups: list[list[TokenChip]] = []
    for index, (id, span) in enumerate(zip(ids, spans, strict=True)):
        chip = make_chip(encoder, id, index, span)
        if groups and span[0] < groups[-1][-1].end:
            groups[-1].append(chip)
        else:
            groups.append([chip])
    return [ChipGroup(chips, text[chips[0].start : chips[-1].end]) for chips in groups]


def make_chip(encoder: Encoder, id: int, index: int, span: tuple[int, int], **made) -> TokenChip:
    """The chip of token ``id``; ``made`` holds what only a generated token has."""
    data = encoder.token_bytes(id)
    return TokenChip(
        index,
        id,
        encoder.decoder[id],
        readable(data),
        data.hex(),
        "end of text" if id == encoder.endoftext else note_of(data),
        *span,
        encoder.merge_rank(id),
        **made,
    )


def token_bars(encoder: Encoder, token: GeneratedToken) -> tuple[Bar, ...]:
    """The candidates for a token's place, likeliest first."""
    return tuple(
        Bar(
            c.id,
            encoder.decoder[c.id],
            note_of(encoder.token_bytes(c.id)),
            math.exp(c.logprob),
            c.sampling_probability,
            c.id == token.id,
        )
        for c in token.candidates
    )


def readable(data: bytes) -> str:
    """A token as text with white space made visible; bytes in hex where it is not text."""
    return data.decode().translate(PICTURES) if is_utf8(data) else data.hex(" ")


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


def exact(number: float) -> str:
    """The shortest spelling that reads back as this very number: ``0.8``, ``1``."""
    return repr(number).removesuffix(".0")


def percent(probability: float) -> str:
    """``0.4213`` -> ``"42%"``; small ones keep one digit, tiny ones say less than."""
    share = 100 * probability
    if share >= 9.95:
        return f"{share:.0f}%"
    return f"{share:.1f}%" if share >= 0.05 else "<0.1%"
