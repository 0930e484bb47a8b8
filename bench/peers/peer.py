"""The interface of a peer."""

import time
from abc import ABC, abstractmethod
from pathlib import Path

clock = time.perf_counter


class Peer(ABC):
    """``run(prompts, n_tokens)`` -> ``(ids, seconds to the first tokens, for the rest)``."""

    needs: tuple[str, ...] = ()  # the modules that must be installed
    weight_bytes = 4.0  # of one weight in memory
    exact = True  # whether it must write the same texts: its weights are float32

    @classmethod
    def environment(cls, threads: int) -> dict[str, str]:
        """What must be set before the process starts."""
        return {"OMP_NUM_THREADS": str(threads)}

    @abstractmethod
    def __init__(self, directory: Path, threads: int, n_slots: int):
        """Load the model in ``directory``."""

    @abstractmethod
    def run(self, prompts, n_tokens):
        """Continue each of ``prompts`` greedily by ``n_tokens``."""
