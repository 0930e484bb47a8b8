"""What templates show: a text cut into tokens, a text as it grows.

Between the routes, which have ids, and the templates, which only print. Text is decoded
across tokens, so a character never breaks.
"""

import math
import time
from dataclasses import dataclass

from gpt2core.engine.sequence import GeneratedToken
from gpt2core.tokenizer.bpe import Encoder, StreamDecoder
from webapp.chips import ChipGroup, TokenChip, group_chips, make_chip, token_bars
from webapp.formatting import exact
from webapp.forms import GenerationRequest

MAX_CHIPS = 2_000  # a browser with more chips than that stops being pleasant to type in
FINISHED = {
    "length": "as many as asked for",
    "endoftext": "the last of them ends the text",
    "context": "then the context was full",
}


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
