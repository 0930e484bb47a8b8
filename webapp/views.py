"""What templates print of a text: its tokens and counts, and a continuation as it grows.

Between the routes, which have requests and tokens, and the templates.
These classes know neither Flask nor the fields of a form.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpt2core.continuation import LOGPROB_DIGITS, Continuation, Step, text_tokens
from gpt2core.engine.sequence import FinishReason, GeneratedToken
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import replace_surrogates
from webapp.chips import ChipGroup, TokenChip, generated_chip, group_chips, make_chip, visible
from webapp.formatting import shortest_repr
from webapp.forms import GenerationRequest, stop_lines
from webapp.surprise import SurpriseToken

MAX_STRIP_CHIPS = 2_000  # with more chips, typing in a browser becomes slow
MAX_TAIL_CHARS = 24
FINISH_SENTENCES: dict[FinishReason, str] = {
    "length": "as many as asked for",
    "context": "then the context was full",
    "stop": "then came a text to stop at",
}


@dataclass(frozen=True)
class TokenView:
    """A text cut into tokens, as the strip and the counts show it.

    If the text is too long, this is its beginning, without the last ``n_left_out`` characters.
    """

    text: str
    groups: list[ChipGroup]
    n_tokens: int
    n_bytes: int
    n_ctx: int
    n_left_out: int = 0
    special_tokens: int | None = None  # as a field of a form: 1, 0, or the folder's default

    @property
    def n_chars(self) -> int:
        return len(self.text)

    @property
    def ends_in_space(self) -> bool:
        """Whether a text ends in a space, which the tokens of GPT-2's words begin with."""
        return self.text.endswith(" ") and bool(self.text.strip()) and not self.n_left_out

    @property
    def chips(self) -> list[TokenChip]:
        return [chip for group in self.groups for chip in group.chips]

    @property
    def shown(self) -> list[ChipGroup]:
        return self.groups[:MAX_STRIP_CHIPS]

    @property
    def n_hidden(self) -> int:
        return sum(len(group.chips) for group in self.groups[MAX_STRIP_CHIPS:])


def token_view(
    encoder: Encoder, text: str, n_ctx: int, max_chars: int, special_tokens: bool | None = None
) -> TokenView:
    """``text`` cut into tokens; only its first ``max_chars`` characters."""
    n_left_out = max(0, len(text) - max_chars)
    text = replace_surrogates(text[:max_chars])
    ids = encoder.encode(text, special_tokens)
    chips = [make_chip(encoder, token) for token in text_tokens(encoder, text, ids)]
    groups = group_chips(chips, text)
    is_default = special_tokens in (None, encoder.rules.reads_special_tokens)
    field = None if is_default else int(bool(special_tokens))
    return TokenView(text, groups, len(ids), len(text.encode()), n_ctx, n_left_out, field)


def scored_view(view: TokenView, tokens: Sequence[SurpriseToken]) -> TokenView:
    """``view`` with the scores of its tokens on its chips."""

    def scored(chip: TokenChip) -> TokenChip:
        token = tokens[chip.token.index]
        return replace(chip, probability=token.probability, place=token.rank)

    groups = [replace(group, chips=[scored(chip) for chip in group.chips]) for group in view.groups]
    return replace(view, groups=groups)


@dataclass(frozen=True)
class StepView:
    """What one more token changes on the page.

    ``group`` is None while the token's character is incomplete: the chip then stands alone.
    With the complete character the group replaces the chips ``replaced``. The text of the
    step comes from the tokens ``first`` to ``last``.
    """

    chip: TokenChip
    group: ChipGroup | None
    replaced: range
    text: str
    first: int
    last: int


class ContinuationView:
    """A continuation as text and chips. ``add`` extends both."""

    def __init__(self, continuation: Continuation):
        self.continuation = continuation
        encoder, prompt_tokens = continuation.encoder, continuation.prompt_tokens
        self.prompt_groups = group_chips(
            [make_chip(encoder, token) for token in prompt_tokens], continuation.prompt
        )
        self.steps: list[StepView] = []
        for step in continuation.steps:
            self._show(step)
        self.start = self.prompt_groups + self.groups  # the prompt and the kept tokens

    @property
    def tail(self) -> str:
        """The end of prompt and kept tokens, to say what candidates come after.

        It is made of whole tokens and begins with a word if it can. An end token, which has no
        text, is named.
        """
        texts: list[str] = []
        for group in reversed(self.start):
            text = group.text or group.chips[0].readable
            if texts and len(text) + sum(map(len, texts)) > MAX_TAIL_CHARS:
                words = [at for at, text in enumerate(texts) if text[:1].isspace()]
                texts = ["…", *texts[words[0] if words else 0 :]]
                break
            texts.insert(0, text)
        return visible("".join(texts)).replace("␣", " ")

    def add(self, token: GeneratedToken) -> list[StepView]:
        """Take the next generated token; returns what it changes, see ``Continuation.add``."""
        return [self._show(step) for step in self.continuation.add(token)]

    def _show(self, step: Step) -> StepView:
        chip = generated_chip(self.continuation.encoder, step)
        group = None
        if step.is_complete:
            earlier = self.steps[step.first - len(self.continuation.prompt_tokens) :]
            text = "".join(view.text for view in earlier) + step.text
            group = ChipGroup([*(view.chip for view in earlier), chip], text)
        last = step.token.index
        view = StepView(chip, group, range(step.first, last), step.text, step.first, last)
        self.steps.append(view)
        return view

    @property
    def groups(self) -> list[ChipGroup]:
        """All generated chips, grouped; the chips of an incomplete character stand alone."""
        groups = [view.group for view in self.steps if view.group]
        n_grouped = sum(len(group.chips) for group in groups)
        return groups + [ChipGroup([view.chip], "") for view in self.steps[n_grouped:]]


class GenerationView(ContinuationView):
    """One run of the form: its continuation, its figures, and what can follow it."""

    def __init__(self, request: GenerationRequest, encoder: Encoder, n_ctx: int):
        self.request, self.n_ctx = request, n_ctx
        super().__init__(
            Continuation(encoder, request.prompt, request.ids, request.kept, request.stop)
        )

    @property
    def n_generated(self) -> int:
        """Tokens of this run, without the kept ones."""
        return len(self.steps) - self.continuation.n_prefix

    def is_first(self, step: StepView) -> bool:
        """Whether the step shows the first token of this run."""
        return step is self.steps[self.continuation.n_prefix]

    @property
    def finish_reason(self) -> FinishReason | None:
        return self.continuation.finish_reason

    @property
    def finish_sentence(self) -> str:
        """The finish reason in words; empty while the run goes on."""
        if self.finish_reason == "endoftext":
            return f"the last of them, {self.continuation.steps[-1].token.piece}, ends the text"
        return FINISH_SENTENCES[self.finish_reason] if self.finish_reason else ""

    @property
    def can_continue(self) -> bool:
        """Whether more could follow: the text has not ended and the context has room."""
        return self.finish_reason == "length" and self.continuation.n_tokens < self.n_ctx

    @property
    def kept(self) -> str:
        """The field ``kept`` of this run; Regenerate sends it again."""
        return join_ids(self.request.kept)

    @property
    def kept_to_continue(self) -> str:
        """The field ``kept`` of a run that goes on after everything there is."""
        return join_ids(self.continuation.ids)

    @property
    def logprobs(self) -> str:
        """One number for each token of ``kept_to_continue``, empty where it is unknown."""
        steps = self.continuation.steps
        return ",".join("" if step.logprob is None else str(step.logprob) for step in steps)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the form that give this very text again."""
        sampling = self.request.sampling
        fields = {
            "prompt": self.request.prompt,
            "n_tokens": self.request.n_tokens,
            "temperature": shortest_repr(sampling.temperature),
            "top_k": sampling.top_k,
            "top_p": shortest_repr(sampling.top_p),
            "seed": sampling.seed,
        }
        if self.kept:
            fields["kept"] = self.kept
        if self.request.stop:
            fields["stop"] = stop_lines(self.request.stop)
        special_tokens = self.request.special_tokens
        if special_tokens not in (None, self.continuation.encoder.rules.reads_special_tokens):
            fields["special_tokens"] = int(bool(special_tokens))
        return fields

    def to_json(self, model_name: str, weights: str) -> dict[str, Any]:
        """The finished run, as ``POST /generate`` answers it."""
        return self.continuation.to_json(model_name, self.request.sampling.seed, weights)

    def candidates_to_json(self, model_name: str, weights: str) -> dict[str, Any]:
        """The candidates for the newest token, as ``POST /next`` answers them."""
        decoder = self.continuation.encoder.decoder
        token_bytes = self.continuation.encoder.token_bytes
        return {
            "model": model_name,
            "prompt": self.request.prompt,
            "prompt_tokens": len(self.continuation.prompt_tokens),
            "candidates": [
                {
                    "id": one.id,
                    "piece": decoder[one.id],
                    "bytes": token_bytes(one.id).hex(),
                    "logprob": round(one.logprob, LOGPROB_DIGITS),
                    "sampling_probability": round(one.sampling_probability, LOGPROB_DIGITS),
                }
                for one in self.continuation.steps[-1].candidates
            ],
            "weights": weights,
        }


def join_ids(ids: Sequence[int]) -> str:
    """Ids as the field ``kept`` has them: ``"262,749"``."""
    return ",".join(map(str, ids))
