"""The model server as one request uses it: what every route submits goes through here.

Above ``services`` and ``request``, below the routes. Invariant: whatever is computed for a request
stands in its record, with the client whose turn it takes and the id that the log has.
"""

from gpt2core.engine.events import Generation, Scoring, Sender
from gpt2core.engine.sequence import DEFAULT_OPTIONS, GenerationOptions
from gpt2core.sampling import SamplingParams
from gpt2core.serving import ModelServer
from webapp.request import client_name, current_record
from webapp.request_log import Record
from webapp.services import get_model_server


class Work:
    """See the module."""

    def __init__(self, server: ModelServer, client: str, record: Record):
        self._server, self._record = server, record
        self._sender = Sender(client, record.request_id)

    def submit(
        self,
        ids: list[int],
        n_tokens: int,
        sampling: SamplingParams,
        options: GenerationOptions = DEFAULT_OPTIONS,
    ) -> Generation:
        """As :meth:`Scheduler.submit`."""
        scheduler = self._server.ready_scheduler()
        handle = scheduler.submit(ids, n_tokens, sampling, options, self._sender)
        self._record.submitted.append(handle)
        return handle

    def score(self, ids: list[int], n_top: int = 0, n_context: int = 1) -> Scoring:
        """As :meth:`Scheduler.score`."""
        handle = self._server.ready_scheduler().score(ids, n_top, n_context, self._sender)
        self._record.submitted.append(handle)
        return handle


def current_work() -> Work:
    """That of the request being answered."""
    return Work(get_model_server(), client_name(), current_record())
