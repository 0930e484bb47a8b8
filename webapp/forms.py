"""A filled form, permalink or JSON object becomes a checked GenerationRequest.

Between the routes, which have strings, and the scheduler, which wants token ids and
numbers. Invariant: every bad field is found in one go, each error naming its field and
the number and limit it is about.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gpt2core.errors import GPT2Error, InputError
from gpt2core.hparams import HParams, check_prompt
from gpt2core.sampling import SamplingParams, fresh_seed
from gpt2core.tokenizer.bpe import Encoder

# The fields of the form, of a permalink and of JSON, as the page first shows them.
DEFAULTS = {
    "prompt": "",
    "n_tokens": "40",
    "temperature": "0.8",
    "top_k": "40",
    "top_p": "1",
    "seed": "",
    "kept": "",
}
MAX_DIGITS = 30  # of a number; more is no number that anybody means
LABELS = {
    "n_tokens": "Tokens to generate",
    "temperature": "Temperature",
    "top_k": "Top-k",
    "top_p": "Top-p",
    "seed": "Seed",
}


class FormErrors(GPT2Error):
    """Every bad field of a form at once, so that nobody mends them one by one.

    ``values`` are the fields as they were read, for the form that is shown again.
    """

    def __init__(self, errors: list[InputError], values: Mapping):
        super().__init__(" ".join(str(error) for error in errors))
        self.errors, self.values = errors, values

    def by_field(self) -> dict[str, str]:
        """Field -> message; what belongs to no visible field stands beside the prompt."""
        return {
            error.field if error.field in LABELS else "prompt": str(error)
            for error in reversed(self.errors)
        }


@dataclass(frozen=True)
class GenerationRequest:
    """A checked form: everything a generation needs.

    ``ids`` are the prompt's tokens; ``kept`` are tokens generated earlier that stay, so
    that a text can be continued, cut back or branched off without cutting it anew (its
    text, encoded again, might give other tokens).
    """

    prompt: str
    ids: list[int]
    kept: list[int]
    n_tokens: int
    sampling: SamplingParams


def checked_prompt(values: Mapping, max_chars: int) -> str:
    """The prompt as text of a bearable length. Raises InputError."""
    prompt = values.get("prompt", "")
    if not isinstance(prompt, str):
        raise InputError("The prompt must be text.", "prompt")
    if len(prompt) > max_chars:
        raise InputError(
            f"The prompt is {len(prompt):,} characters long; at most {max_chars:,} are taken.",
            "prompt",
            n_chars=len(prompt),
            max_chars=max_chars,
        )
    return prompt


def parse_request(
    values: Mapping, encoder: Encoder, hparams: HParams, max_chars: int
) -> GenerationRequest:
    """Check every field. Raises FormErrors with all that is wrong."""
    found: list[InputError] = []

    def checked(check, *arguments):
        try:
            return check(*arguments)
        except InputError as error:
            found.append(error)

    prompt = checked(checked_prompt, values, max_chars)
    if values.get("regenerate"):
        # Another try at the same place: what was kept stays, and the seed is a fresh one.
        again = values["regenerate"]
        values = {**values, "kept": "" if again == "1" else again, "seed": ""}
    kept = checked(parse_kept, values, hparams) or []
    ids = encoder.encode(prompt) if prompt else []
    if prompt is not None:
        checked(check_prompt, ids and ids + kept, hparams.n_vocab, hparams.n_ctx)
    n_tokens = checked(parse_n_tokens, values, hparams.n_ctx)
    numbers = {}
    for name, kind in (("temperature", float), ("top_k", int), ("top_p", float), ("seed", int)):
        number = checked(parse_number, values, name, kind)
        if number is not None:
            checked(lambda one: SamplingParams(**one), {name: number})
            numbers[name] = number
    if found:
        raise FormErrors(found, values)
    numbers.setdefault("seed", fresh_seed())
    return GenerationRequest(prompt, ids, kept, n_tokens, SamplingParams(**numbers))


def parse_kept(values: Mapping, hparams: HParams) -> list[int]:
    """Ids of generated tokens that stay: ``"262,749"``, or a list in JSON. Raises InputError."""
    value = values.get("kept") or []
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(map(is_id, parts)):
        raise InputError("Kept tokens must be ids with commas between.", "kept")
    kept = [int(part) for part in parts]
    if len(kept) >= hparams.n_ctx:
        raise InputError(
            f"{len(kept):,} tokens are kept; the context holds {hparams.n_ctx:,}.",
            "kept",
            n_kept=len(kept),
            n_ctx=hparams.n_ctx,
        )
    if any(id >= hparams.n_vocab for id in kept):
        raise InputError(f"Kept tokens must be ids from 0 to {hparams.n_vocab - 1}.", "kept")
    return kept


def is_id(part) -> bool:
    """Whether a part of ``kept`` is a whole number, as JSON or as text."""
    if isinstance(part, str):
        return part.isascii() and part.isdecimal() and len(part) <= MAX_DIGITS
    return isinstance(part, int) and not isinstance(part, bool) and part >= 0


def parse_n_tokens(values: Mapping, n_ctx: int) -> int:
    """How many tokens to generate: 1 to the whole context. Raises InputError."""
    n_tokens = parse_number(values, "n_tokens", int)
    if not 1 <= n_tokens <= n_ctx:
        raise InputError(
            f"Tokens to generate is {n_tokens:,}; it must be from 1 to {n_ctx:,}, "
            "the length of this model's context.",
            "n_tokens",
            n_tokens=n_tokens,
            n_ctx=n_ctx,
        )
    return n_tokens


def parse_number(values: Mapping, name: str, kind: type) -> int | float | None:
    """A field as a number; its default where it is empty (None for the seed)."""
    value = values.get(name)
    text = "" if value is None else str(value).strip()
    text = text or DEFAULTS[name]
    if not text:
        return None
    try:
        if isinstance(value, bool) or len(text) > MAX_DIGITS or "_" in text:
            raise ValueError
        return kind(text)
    except ValueError:
        shape = "a whole number" if kind is int else "a number"
        raise InputError(f"{LABELS[name]} is {text[:40]!r}; it must be {shape}.", name) from None
