"""GET or POST /tokens.json and /tokens.csv: tokens as a file.

The tokens of a prompt and, if the request has them, the tokens generated after it (``kept``,
with their ``logprobs``). The page sends what it shows, so nothing is computed again, a
branched text is exported as it is, and nothing is stored. It uses POST, because a long text does
not fit into an address. It posts the prompt as ``prompt_json``, because a hidden field changes
line ends and cannot hold a NUL. GET is for links.

About spreadsheets: a cell that begins with ``=``, ``+``, ``-`` or ``@`` can be a formula.
Here each cell holds one token, and no token of GPT-2's that begins with one of these holds a
letter or a digit (a test checks this), so none can call or refer to anything. Cells are
therefore written unchanged, which programs that read the file rely on.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, request

from gpt2core.continuation import Continuation, TextToken
from gpt2core.errors import InputError
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import replace_surrogates
from webapp.forms import Fields, parse_kept, parse_prompt, parse_special_tokens
from webapp.request import submitted_fields
from webapp.services import get_model_server, get_settings

blueprint = Blueprint("export", __name__)

COLUMNS = ("index", "id", "piece", "bytes", "text", "start", "end", "logprob")


@blueprint.route("/tokens.<any(json, csv):kind>", methods=["GET", "POST"])
def tokens(kind: str) -> Response:
    """The tokens of ``prompt`` and ``kept`` as a file."""
    values = request.args if request.method == "GET" else submitted_fields()
    model_server = get_model_server()
    model_server.check_encoder()
    prompt = replace_surrogates(parse_prompt(with_prompt(values), get_settings().max_chars))
    kept = parse_kept(values, model_server.hparams, model_server.encoder)
    logprobs, special_tokens = parse_logprobs(values, len(kept)), parse_special_tokens(values)
    rows = token_rows(model_server.encoder, prompt, kept, logprobs, special_tokens)
    if kind == "csv":
        body, mimetype = to_csv(rows), "text/csv"
    else:
        whole = {"model": model_server.label, "prompt": prompt, "tokens": rows}
        body, mimetype = json.dumps(whole, indent=1, ensure_ascii=False) + "\n", "application/json"
    return Response(
        body,
        mimetype=mimetype,
        headers={"Content-Disposition": f"attachment; filename=glyph-tokens.{kind}"},
    )


def with_prompt(values: Fields) -> Fields:
    """``values`` with the prompt from ``prompt_json``, if it is there. Raises InputError."""
    prompt_json = values.get("prompt_json")
    if prompt_json is None:
        return values
    try:
        return {**values, "prompt": json.loads(prompt_json)}
    except (TypeError, ValueError, RecursionError):
        raise InputError("The field prompt_json must be the prompt as JSON.", "prompt") from None


def parse_logprobs(values: Fields, n_kept: int) -> list[float | None]:
    """One for each kept token: ``"-1.2,,-0.5"``, empty if unknown. Raises InputError."""
    text = values.get("logprobs") or ""
    parts = text.split(",") if isinstance(text, str) and text else [""] * n_kept
    try:
        logprobs = [float(part) if part else None for part in parts]
    except ValueError:
        raise InputError("Log-probabilities must be numbers with commas between.") from None
    if any(number is not None and not math.isfinite(number) for number in logprobs):
        raise InputError("Log-probabilities must be finite numbers.")
    if len(logprobs) != n_kept:
        raise InputError(
            f"There are {len(logprobs)} log-probabilities for {n_kept} kept tokens.",
            n_logprobs=len(logprobs),
            n_kept=n_kept,
        )
    return logprobs


def token_rows(
    encoder: Encoder,
    prompt: str,
    kept: Sequence[int],
    logprobs: Sequence[float | None],
    special_tokens: bool | None = None,
) -> list[dict[str, Any]]:
    """One row for each token of the prompt, then of ``kept``, whose ``logprobs`` are given."""
    continuation = Continuation(encoder, prompt, encoder.encode(prompt, special_tokens), kept)
    unknown: list[float | None] = [None] * len(continuation.prompt_tokens)
    tokens = continuation.prompt_tokens + [step.token for step in continuation.steps]
    return [
        token_row(token, logprob)
        for token, logprob in zip(tokens, [*unknown, *logprobs], strict=True)
    ]


def token_row(token: TextToken, logprob: float | None) -> dict[str, Any]:
    """The token's JSON with its place, text and log-probability, in the order of ``COLUMNS``."""
    values = {"index": token.index, "text": token.text, "logprob": logprob}
    values |= token.to_json_with_span()
    return {column: values[column] for column in COLUMNS}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as RFC 4180 has them; None is an empty cell."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
