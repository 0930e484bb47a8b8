"""GET /gallery: short texts, what GPT-2's tokenizer makes of them, and what that shows."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from gpt2core.tokenizer.vocabulary import default_encoder
from webapp.gallery.entry import EntryView, is_cut_alike
from webapp.gallery.groups import GROUPS
from webapp.services import get_model_server

blueprint = Blueprint("gallery", __name__)


@blueprint.get("/gallery")
def page() -> ResponseReturnValue:
    """The whole gallery, under GPT-2's own tokenizer."""
    encoder, served = default_encoder(), get_model_server().encoder
    entries = [entry for group in GROUPS for entry in group.entries]
    groups = [
        {
            "name": group.name,
            "title": group.title,
            "lead": group.lead,
            "entries": [EntryView(entry, encoder) for entry in group.entries],
        }
        for group in GROUPS
    ]
    return render_template(
        "gallery/page.html",
        groups=groups,
        n_entries=len(entries),
        n_different=sum(not is_cut_alike(entry, encoder, served) for entry in entries),
    )
