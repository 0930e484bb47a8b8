"""The scores of a text as JSON, and the command ``score``: its options and its output.

The same JSON answers ``POST /score``. ``cli.py`` reads the text and loads the model.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt2core.continuation import LOGPROB_DIGITS, TextToken, text_tokens
from gpt2core.engine.scores import Scores
from gpt2core.errors import InputError
from gpt2core.scoring import ScoreWindow, overlap, score_text, summarize
from gpt2core.store.loader import Model

DESCRIPTION = (
    "Print how probable a model finds each token of a text, given the tokens before it. A text "
    "that is longer than the context is read in windows that overlap by half a context."
)


def score_document(
    model_name: str, weights: str, tokens: Sequence[TextToken], scores: Scores, n_ctx: int
) -> dict[str, Any]:
    """The scores as one JSON object. ``scores[i]`` are those of ``tokens[i + 1]``.

    ``weights`` is the precision of the weights that gave them. ``overlap`` is the number of
    tokens that the windows of a long text share; 0 if there is one window.
    """
    summary = summarize(scores, sum(len(token.data) for token in tokens[1:]))
    rows = [{"logprob": None, "rank": None, "entropy": None}, *score_rows_json(scores)]
    return {
        "model": model_name,
        "weights": weights,
        "n_tokens": len(tokens),
        "tokens": [
            {**token.to_json_with_span(), **row} for token, row in zip(tokens, rows, strict=True)
        ],
        "logprob": round(summary.logprob, LOGPROB_DIGITS),
        "perplexity": summary.perplexity,
        "bits_per_byte": summary.bits_per_byte,
        "overlap": overlap(n_ctx) if len(tokens) > n_ctx else 0,
    }


def score_rows_json(scores: Scores) -> list[dict[str, Any]]:
    """One object for each scored token."""
    return [
        {
            "logprob": round(float(scores.logprob[i]), LOGPROB_DIGITS),
            "rank": int(scores.rank[i]),
            "entropy": round(float(scores.entropy[i]), LOGPROB_DIGITS),
        }
        for i in range(len(scores))
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what selects texts and output."""
    parser.add_argument(
        "--files", nargs="+", type=Path, metavar="FILE", help="score these UTF-8 texts instead"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, a line for each text"
    )


def read_file(path: Path) -> str:
    """The whole text of a file. Raises InputError if it is not UTF-8, OSError as ``open``."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from None


def score_report(
    model: Model, score: ScoreWindow, text: str, args: argparse.Namespace, title: str = ""
) -> str:
    """The output for one text, whose windows ``score`` scores; ``title`` is its file.

    Raises InputError if the text is empty.
    """
    ids = model.encoder.encode(text, args.special_tokens)
    if not ids:
        raise InputError(f"{title or 'The text'} is empty; it needs at least one token.")
    n_ctx = model.hparams.n_ctx
    scores = score_text(score, ids, n_ctx)
    tokens = text_tokens(model.encoder, text, ids)
    found = score_document(model.name, args.weights, tokens, scores, n_ctx)
    if args.json:
        return json.dumps({"file": title, **found} if title else found, ensure_ascii=False)
    return f"{title}: {summary_line(found)}" if title else f"{table(found)}\n{summary_line(found)}"


def table(found: dict[str, Any]) -> str:
    """A line for each token: piece, probability, rank and entropy."""
    width = max(len(token["piece"]) for token in found["tokens"])
    lines = [f"{'token':{width}}  probability    rank  entropy (bits)"]
    for token in found["tokens"]:
        line = token["piece"]
        if token["logprob"] is not None:
            bits = token["entropy"] / math.log(2)
            probability = math.exp(token["logprob"])
            line = f"{line:{width}}  {probability:11.4g}  {token['rank']:6}  {bits:6.2f}"
        lines.append(line)
    return "\n".join(lines)


def summary_line(found: dict[str, Any]) -> str:
    """The sums in words."""
    parts = [f"{found['n_tokens']:,} tokens", f"log-probability {found['logprob']:.3f}"]
    if found["perplexity"] is not None:
        parts.append(f"perplexity {found['perplexity']:.2f}")
    if found["bits_per_byte"] is not None:
        parts.append(f"{found['bits_per_byte']:.4f} bits per byte")
    if found["overlap"]:
        parts.append(f"windows that overlap by {found['overlap']} tokens")
    return ", ".join(parts)
