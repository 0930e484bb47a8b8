"""GET or POST /tokens.json and /tokens.csv: tokens to take away.

The tokens of a prompt and, where the request brings them, those generated after it
(``kept``, with their ``logprobs``): the page sends what it shows, so nothing is computed
again, a branched text comes out as it is, and nothing is stored. The page posts, because
a long text does not fit into an address, and as ``prompt_json``, because a hidden field
changes line ends and cannot hold a NUL; a GET is there to link to.

About spreadsheets: a cell that begins with ``=``, ``+``, ``-`` or ``@`` can be a formula.
Here each cell holds one token, and of GPT-2's tokens those that begin so hold no letter
and no digit (a test holds it), so none can call or refer to anything. Cells are therefore
written as they are, which programs that read the file rely on.
"""

import csv
import io
import json
import math
from collections.abc import Mapping

from flask import Blueprint, Response, request

from gpt2core.errors import InputError
from gpt2core.sampling import SamplingParams
from gpt2core.tokenizer.bpe import Encoder, is_utf8, replace_surrogates
from webapp.chips import TokenChip
from webapp.forms import GenerationRequest, checked_prompt, parse_kept
from webapp.request import submitted_values
from webapp.services import get_scheduler, get_settings
from webapp.views import Result

blueprint = Blueprint("downloads", __name__)

COLUMNS = ("index", "id", "piece", "bytes", "text", "start", "end", "logprob")


@blueprint.route("/tokens.<any(json, csv):kind>", methods=["GET", "POST"])
def tokens(kind: str):
    """The tokens of ``prompt`` and ``kept`` as a file."""
    values = request.args if request.method == "GET" else submitted_values()
    scheduler = get_scheduler()
    max_chars = get_settings().max_chars
    prompt = replace_surrogates(checked_prompt(with_prompt(values), max_chars))
    kept = parse_kept(values, scheduler.hparams)
    rows = token_rows(scheduler.encoder, prompt, kept, parse_logprobs(values, len(kept)))
    if kind == "csv":
        body, mimetype = to_csv(rows), "text/csv"
    else:
        whole = {"model": scheduler.label, "prompt": prompt, "tokens": rows}
        body, mimetype = json.dumps(whole, indent=1, ensure_ascii=False) + "\n", "application/json"
    return Response(
        body,
        mimetype=mimetype,
        headers={"Content-Disposition": f"attachment; filename=glyph-tokens.{kind}"},
    )


def with_prompt(values: Mapping) -> Mapping:
    """``values`` with the prompt that ``prompt_json`` spells, if it is there. Raises InputError."""
    spelled = values.get("prompt_json")
    if spelled is None:
        return values
    try:
        return {**values, "prompt": json.loads(spelled)}
    except (TypeError, ValueError, RecursionError):
        raise InputError("The field prompt_json must be the prompt as JSON.", "prompt") from None


def parse_logprobs(values: Mapping, n_kept: int) -> list[float | None]:
    """One for each kept token: ``"-1.2,,-0.5"``, empty where unknown. Raises InputError."""
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
    encoder: Encoder, prompt: str, kept: list[int], logprobs: list[float | None]
) -> list[dict]:
    """One row a token. ``text`` is None where a token is none: part of a character, the end."""
    ids = encoder.encode(prompt)
    shown = Result(GenerationRequest(prompt, ids, kept, 1, SamplingParams()), encoder)
    chips = [chip for group in shown.prompt_groups + shown.groups for chip in group.chips]
    return [
        token_row(chip, logprob)
        for chip, logprob in zip(chips, [None] * len(ids) + logprobs, strict=True)
    ]


def token_row(chip: TokenChip, logprob: float | None) -> dict:
    data = bytes.fromhex(chip.bytes)
    text = data.decode() if is_utf8(data) and chip.start < chip.end else None
    values = (chip.index, chip.id, chip.piece, chip.bytes, text, chip.start, chip.end, logprob)
    return dict(zip(COLUMNS, values, strict=True))


def to_csv(rows: list[dict]) -> str:
    """Rows as RFC 4180 has them; what is None stays empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
