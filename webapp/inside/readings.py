"""The guided reading of this process's model: from the model's folder, or searched once.

A search takes turns with the recordings of requests. What it finds depends on the model alone,
so every process shows the same.
"""

import threading

from gpt2core.engine.events import Unavailable
from gpt2core.inside.findings import Reading
from gpt2core.store.loader import Model
from gpt2core.store.reading import read_reading, search_model
from webapp.inside.recordings import PATIENCE, Recordings


class Readings:
    """Keeps the reading of each model that was asked for."""

    def __init__(self, recordings: Recordings, patience: float = PATIENCE):
        self.recordings, self.patience = recordings, patience
        self._found: dict[str, Reading] = {}
        self._searching = threading.Lock()

    def get(self, model: Model) -> Reading:
        """The reading of ``model``; a search takes seconds, that of 1558M half a minute.

        Raises InputError for a model whose context is too short, Unavailable where another
        request searches for longer than the patience.
        """
        if model.name in self._found:
            return self._found[model.name]
        if not self._searching.acquire(timeout=self.patience):
            raise Unavailable(
                "The guided reading is being prepared; try again in a moment.", 10, "busy"
            )
        try:
            if model.name not in self._found:
                found = read_reading(model) or search_model(model, self.recordings.in_turn)
                self._found[model.name] = found
        finally:
            self._searching.release()
        return self._found[model.name]
