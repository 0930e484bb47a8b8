"""The fields of a form, a permalink or a JSON object become a checked GenerationRequest.

Between the routes, which have strings, and the model server, which takes token ids and
numbers. Invariant: all invalid fields are found at once; each error names its field and
the number and limit it is about.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gpt2core.errors import GPT2Error, InputError
from gpt2core.hparams import HParams, check_prompt
from gpt2core.sampling import SamplingParams, fresh_seed
from gpt2core.stopping import check_stops
from gpt2core.tokenizer.bpe import Encoder

T = TypeVar("T")
Fields = Mapping[str, Any]  # by name; text from a form, any value from JSON

# The fields of the form, of a permalink and of JSON, as the page first shows them.
# The bundled model ends most of its stories by itself before 200 tokens.
DEFAULTS = {
    "prompt": "",
    "n_tokens": "200",
    "temperature": "0.7",
    "top_k": "40",
    "top_p": "1",
    "seed": "",
    "kept": "",
    "special_tokens": "",  # empty: as the model's folder has it
    "stop": "",
}
# The fields that hold a number, with their labels on the page.
LABELS = {
    "n_tokens": "Tokens",
    "temperature": "Temperature",
    "top_k": "Top-k",
    "top_p": "Top-p",
    "seed": "Seed",
}
# How fast a stream sends tokens: one for each request, one in so many seconds, or as they come.
STEP = "step"
PACES = {STEP: 0.0, "slow": 0.1, "full": 0.0}
VISIBLE_FIELDS = ("prompt", *LABELS, "stop")  # those with a place for an error message
# How the form, whose stop strings are lines, spells characters that a line cannot hold.
ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\t": "\t"}
ESCAPE = re.compile(r"\\[\\nrt]")
LINE_END = re.compile(r"\r\n?|\n")
MAX_DIGITS = 30  # longest number accepted; keeps int() from parsing huge strings


class FormErrors(GPT2Error):
    """All invalid fields of a form at once.

    ``values`` are the fields as they were read, for the form that is shown again.
    """

    def __init__(self, errors: list[InputError], values: Fields):
        super().__init__(" ".join(str(error) for error in errors))
        self.errors, self.values = errors, values

    def by_field(self) -> dict[str, str]:
        """Field -> message; an error of no visible field stands beside the prompt."""
        return {
            error.field if error.field in VISIBLE_FIELDS else "prompt": str(error)
            for error in reversed(self.errors)
        }


@dataclass(frozen=True)
class GenerationRequest:
    """A checked form: everything a generation needs.

    ``ids`` are the prompt's tokens. ``kept`` are tokens of an earlier run after which this one
    goes on, so that a text can be continued, cut back or branched off. They are ids because
    their text, encoded again, might give other tokens. ``special_tokens`` says whether names
    of special tokens in the prompt are these tokens; None: as the model's folder has it. The
    text ends before the first of the strings ``stop``.
    """

    prompt: str
    ids: list[int]
    kept: list[int]
    n_tokens: int
    sampling: SamplingParams
    special_tokens: bool | None = None
    stop: tuple[str, ...] = ()


def parse_request(
    values: Fields, encoder: Encoder, hparams: HParams, max_chars: int
) -> GenerationRequest:
    """Check every field. Raises FormErrors with all that is wrong."""
    errors: list[InputError] = []

    def attempt(parse: Callable[..., T], *arguments: Any, **named: Any) -> T | None:
        try:
            return parse(*arguments, **named)
        except InputError as error:
            errors.append(error)
            return None

    if attempt(parse_flag, values, "regenerate"):
        values = {**values, "seed": ""}  # another try at the same place needs another seed
    prompt = attempt(parse_prompt, values, max_chars)
    kept = attempt(parse_kept, values, hparams, encoder) or []
    special_tokens = attempt(parse_special_tokens, values)
    ids = encoder.encode(prompt, special_tokens) if prompt else []
    if prompt == "":
        errors.append(InputError("The prompt is empty: type at least one character.", "prompt"))
    elif prompt is not None:
        attempt(check_prompt, ids + kept, hparams.n_vocab, hparams.n_ctx)
    n_tokens = attempt(parse_n_tokens, values, hparams.n_ctx)
    stop = attempt(parse_stop, values) or ()
    numbers: dict[str, Any] = {}
    for name, kind in (("temperature", float), ("top_k", int), ("top_p", float), ("seed", int)):
        number = attempt(parse_number, values, name, kind)
        if number is not None:
            numbers[name] = number
            attempt(SamplingParams, **{name: number})  # checks the one field
    if errors or prompt is None or n_tokens is None:
        raise FormErrors(errors, values)
    numbers.setdefault("seed", fresh_seed())
    sampling = SamplingParams(**numbers)
    return GenerationRequest(prompt, ids, kept, n_tokens, sampling, special_tokens, stop)


def parse_prompt(values: Fields, max_chars: int) -> str:
    """The prompt: any text, empty included, of at most ``max_chars``. Raises InputError."""
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


def parse_flag(values: Fields, name: str) -> bool:
    """A field that is ``1`` (in JSON also true), or absent. Raises InputError."""
    value = values.get(name)
    if value in (None, False, "", "0"):  # 0 == False
        return False
    if value in (True, "1"):
        return True
    raise InputError(f"The field {name} is {str(value)[:40]!r}; it must be 1, or absent.", name)


def parse_special_tokens(values: Fields) -> bool | None:
    """The field of that name: yes, no, or None if it is empty or absent. Raises InputError."""
    if values.get("special_tokens") in (None, ""):
        return None
    return parse_flag(values, "special_tokens")


def parse_stop(values: Fields) -> tuple[str, ...]:
    """The stop strings: a list in JSON, lines with escapes in a form. Raises InputError."""
    value = values.get("stop") or []
    if isinstance(value, str):
        value = [unescaped(line) for line in LINE_END.split(value) if line]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InputError("Stop strings must be text.", "stop")
    check_stops(value)
    return tuple(value)


def unescaped(line: str) -> str:
    """``line`` with ``\\n``, ``\\r``, ``\\t`` and ``\\\\`` as the characters they stand for."""
    return ESCAPE.sub(lambda found: ESCAPES[found[0]], line)


def stop_lines(stop: Sequence[str]) -> str:
    """Stop strings as the form has them: the reverse of :func:`parse_stop`."""
    spelled = {ord(char): escape for escape, char in ESCAPES.items()}
    return "\n".join(one.translate(spelled) for one in stop)


def parse_pace(values: Fields) -> str:
    """One of ``PACES``; ``"full"`` if absent. Raises InputError."""
    pace = values.get("pace") or "full"
    if pace not in PACES:
        raise InputError(f"The pace is {str(pace)[:40]!r}; it must be {', '.join(PACES)}.", "pace")
    return str(pace)


def parse_kept(values: Fields, hparams: HParams, encoder: Encoder, n_new: int = 1) -> list[int]:
    """Ids of generated tokens that stay: ``"262,749"``, or a list in JSON. Raises InputError.

    They must leave room for ``n_new`` more tokens in the context.
    """
    value = values.get("kept") or []
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(map(is_id, parts)):
        raise InputError("Kept tokens must be ids with commas between.", "kept")
    kept = [int(part) for part in parts]
    if len(kept) + n_new > hparams.n_ctx:
        raise InputError(
            f"{len(kept):,} tokens are kept; the context holds {hparams.n_ctx:,}.",
            "kept",
            n_kept=len(kept),
            n_ctx=hparams.n_ctx,
        )
    if max(kept, default=0) >= hparams.n_vocab:
        raise InputError(f"Kept tokens must be ids from 0 to {hparams.n_vocab - 1}.", "kept")
    # Ids between added tokens may be no token's.
    unused = next((token_id for token_id in kept if token_id not in encoder.decoder), None)
    if unused is not None:
        raise InputError(f"Kept tokens have the id {unused}, which is no token's.", "kept")
    return kept


def is_id(part: object) -> bool:
    """Whether a part of ``kept`` is a whole number, as JSON or as text."""
    if isinstance(part, str):
        return part.isascii() and part.isdecimal() and len(part) <= MAX_DIGITS
    return isinstance(part, int) and not isinstance(part, bool) and part >= 0


def default_fields(n_ctx: int) -> dict[str, str]:
    """``DEFAULTS``, with no more tokens than a model with this context can write."""
    return {**DEFAULTS, "n_tokens": str(min(int(DEFAULTS["n_tokens"]), n_ctx))}


def parse_n_tokens(values: Fields, n_ctx: int) -> int:
    """How many tokens to generate: 1 to the whole context. Raises InputError."""
    given = values.get("n_tokens")
    if given is None or not str(given).strip():
        values = default_fields(n_ctx)
    n_tokens = parse_number(values, "n_tokens", int) or 0
    if not 1 <= n_tokens <= n_ctx:
        raise InputError(
            f"The number of tokens is {n_tokens:,}; it must be from 1 to {n_ctx:,}, "
            "the length of this model's context.",
            "n_tokens",
            n_tokens=n_tokens,
            n_ctx=n_ctx,
        )
    return n_tokens


def parse_number(values: Fields, name: str, kind: Callable[[str], T]) -> T | None:
    """A field as a number; its default if it is empty (None for the seed). Raises InputError."""
    value = values.get(name)
    text = "" if value is None else str(value).strip()
    text = text or DEFAULTS[name]
    if not text:
        return None
    try:
        if isinstance(value, bool) or len(text) > MAX_DIGITS or "_" in text:
            raise ValueError
        if kind is float and "." not in text:
            text = text.replace(",", ".", 1)  # 0,8 as many languages write it
        return kind(text)
    except ValueError:
        shape = "a whole number" if kind is int else "a number"
        raise InputError(f"{LABELS[name]}: {text[:40]!r} is not {shape}.", name) from None
