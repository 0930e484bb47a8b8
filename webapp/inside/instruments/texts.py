"""Two continuations of one text side by side: by the whole model, and without some parts.

Both are ordinary generations of the scheduler, so they share its batches with all others. They
have the same seed, and the noise of a draw depends on seed, place and token alone: where the
texts part, the model made the difference.

Invariants: tokens are shown in pairs, so that the first difference is known when its tokens
appear. Both generations are cancelled when the reader leaves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from gpt2core.engine.events import EndReason, Failed, Generation, Unavailable
from gpt2core.engine.gates import Gates
from gpt2core.engine.sequence import GeneratedToken, GenerationOptions
from webapp.forms import GenerationRequest
from webapp.generating import HEARTBEAT_SECONDS
from webapp.inside.view import View
from webapp.views import GenerationView, StepView
from webapp.work import current_work

SIDES = ("whole", "without")
MAX_SO_FAR = 80  # characters of the text before both


@dataclass(frozen=True)
class Bit:
    """What one token adds to a text.

    ``place`` is ``same`` before the first difference, ``first`` at it and ``later`` after it.
    """

    side: str
    text: str
    place: str


class Side:
    """One generation and its text so far."""

    def __init__(self, handle: Generation, view: GenerationView):
        self.handle, self.view = handle, view
        self._events = handle.events(HEARTBEAT_SECONDS)

    @property
    def steps(self) -> list[StepView]:
        """The generated tokens."""
        return self.view.steps[self.view.continuation.n_prefix :]

    def advance(self) -> Iterator[None]:
        """Wait for the next token; yields None for every event and silence before it.

        Does nothing after the last token. Raises Unavailable if the generation fails.
        """
        for event in self._events:
            if isinstance(event, Failed):
                raise Unavailable(event.message, retry_after=1)
            if isinstance(event, GeneratedToken):
                self.view.add(event)
                return
            yield


class Texts:
    """Both sides and where they part; ``differs_at`` counts generated tokens from 0."""

    def __init__(self, sides: Sequence[Side]):
        self.sides = sides
        self.differs_at: int | None = None
        self.bits: list[list[Bit]] = []
        self._marked = [False] * len(sides)

    def run(self) -> Iterator[list[Bit] | None]:
        """What each pair of tokens adds; None while there is nothing new. Ends with both."""
        try:
            while any(side.view.finish_reason is None for side in self.sides):
                for side in self.sides:
                    yield from side.advance()
                self.bits.append(self._newest(len(self.bits)))
                yield self.bits[-1]
        except Unavailable:
            self.cancel("failed")
            raise
        finally:
            self.cancel()

    def cancel(self, reason: EndReason = "client_left") -> None:
        for side in self.sides:
            side.handle.cancel(reason)

    def _newest(self, index: int) -> list[Bit]:
        steps = [side.steps[index] if index < len(side.steps) else None for side in self.sides]
        ids = {step and step.chip.token.id for step in steps}
        if self.differs_at is None and len(ids) > 1:
            self.differs_at = index
        return [self._bit(i, step) for i, step in enumerate(steps) if step]

    def _bit(self, i: int, step: StepView) -> Bit:
        # A token without text of its own is a part of a character that a later one completes.
        is_first = self.differs_at is not None and not self._marked[i] and bool(step.text)
        self._marked[i] |= is_first
        later = "same" if self.differs_at is None else "later"
        return Bit(SIDES[i], step.text, "first" if is_first else later)

    def of(self, side: str) -> list[Bit]:
        """Everything one side shows."""
        return [bit for pair in self.bits for bit in pair if bit.side == side]

    @property
    def sentence(self) -> str:
        """Where the texts part; empty while that is open."""
        if self.differs_at is not None:
            pair = zip_longest(*(side.steps for side in self.sides))
            whole, without = next(step for i, step in enumerate(pair) if i == self.differs_at)
            return (
                f"The texts part at token {self.differs_at + 1}: {piece(whole)} by the whole "
                f"model, {piece(without)} without."
            )
        if any(side.view.finish_reason is None for side in self.sides):
            return ""
        return f"Both texts are the same, token for token: all {len(self.bits)}."


def so_far(view: View) -> str:
    """The end of the text that both continue: up to the chosen token."""
    text = view.text[: view.chosen.end]
    return (text if len(text) <= MAX_SO_FAR else f"…{text[-MAX_SO_FAR:]}").replace("\x00", "␀")


def piece(step: StepView | None) -> str:
    return f"“{step.chip.token.piece}”" if step else "the end"


def start(view: View, gates: Gates, n_tokens: int) -> Texts:
    """Hand both generations to the model server. Raises Unavailable."""
    work = current_work()
    ids = list(view.recording.ids[: view.position + 1])
    request = GenerationRequest("", [], ids, n_tokens, view.query.sampling)
    sides: list[Side] = []
    try:
        for one in (None, gates):
            options = GenerationOptions(gates=one)
            handle = work.submit(ids, n_tokens, view.query.sampling, options)
            shown = GenerationView(request, view.model.encoder, view.model.hparams.n_ctx)
            sides.append(Side(handle, shown))
    except Exception:
        Texts(sides).cancel("failed")
        raise
    return Texts(sides)
