"""The messages of the tokens of a stream, made where the tokens come from.

Above ``views`` and ``sse``, below the routes. The serving thread calls :meth:`TokenMessages.add`
for every stream, one after the other, while the next step is computed: the response only sends
what it returns. Invariant: outside of a request, so no template of these messages may need one.
"""

from typing import NamedTuple

from jinja2 import Environment

from gpt2core.engine.sequence import FinishReason, GeneratedToken
from webapp import sse
from webapp.views import GenerationView


class Added(NamedTuple):
    """What one more token adds to a stream, and why the text ends with it, if it does."""

    messages: bytes
    finish_reason: FinishReason | None


class TokenMessages:
    """The messages of one generation.

    ``view`` belongs to the serving thread from the first token to the one that ends the text.
    """

    def __init__(self, view: GenerationView, templates: Environment):
        self.view = view
        self._template = templates.get_template("stream/token.html")

    def add(self, token: GeneratedToken) -> Added:
        """The messages for ``token``: none while it may be the beginning of a stop string."""
        steps = self.view.add(token)
        rendered = (self._template.render(generation=self.view, step=step) for step in steps)
        return Added(b"".join(map(sse.message, rendered)), self.view.finish_reason)
