"""The command ``inside``: its options and its output.

``cli.py`` reads the text and loads the model; the other modules of this package compute.
"""

import argparse
import json

from gpt2core.continuation import text_tokens
from gpt2core.inside.document import ablation_document, document, select
from gpt2core.inside.interventions import REPLACEMENTS, ablate, parse_components
from gpt2core.inside.recording import record_pass
from gpt2core.inside.report import ablation_report, report
from gpt2core.store.loader import Model

DESCRIPTION = (
    "Show how a model computes its next token: the logit lens, direct logit attribution, and "
    "the attention of one head."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select what is shown."""
    parser.add_argument("--at", type=int, metavar="N", help="token, from 1 (default: the last)")
    parser.add_argument("--layer", type=int, metavar="N", help="from 0 (default: the last)")
    parser.add_argument("--head", type=int, metavar="N", help="from 0 (default: 0)")
    parser.add_argument(
        "--for",
        dest="token",
        type=int,
        metavar="ID",
        help="id of the token whose logit is explained (default: the likeliest)",
    )
    parser.add_argument(
        "--ablate",
        metavar="PARTS",
        help="print the candidates before and after these parts are removed: heads (5.7 is layer "
        "5, head 7), whole halves (5.attn, 5.mlp) or neurons (5.mlp.12), with commas between",
    )
    parser.add_argument(
        "--to",
        choices=REPLACEMENTS,
        default=REPLACEMENTS[0],
        help="what stands in their place: nothing, or their mean over the text (default: zero)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def look_inside(model: Model, text: str, args: argparse.Namespace) -> str:
    """The output of the command. Raises InputError."""
    encoder = model.encoder
    ids = encoder.encode(text, args.special_tokens)
    recording = record_pass(ids, model.params, model.hparams.n_head)
    selection = select(recording, args.at, args.layer, args.head, args.token)
    tokens = [token.to_json_with_span() for token in text_tokens(encoder, text, ids)]
    about = (model.name, tokens, encoder.decoder.__getitem__)
    if args.ablate:
        h = model.hparams
        components = parse_components(args.ablate, h.n_layer, h.n_head, 4 * h.n_embd, "ablate")
        ablation = ablate(recording, selection.position, components, args.to)
        found, as_text = ablation_document(ablation, selection.token, *about), ablation_report
    else:
        found, as_text = document(recording, selection, *about), report
    return json.dumps(found, ensure_ascii=False) if args.json else as_text(found)
