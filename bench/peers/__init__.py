"""One program each that continues prompts greedily, behind one interface.

A peer lives in a process of its own (see ``arena.py``), so that neither its threads nor
its settings disturb another. Its :meth:`run` continues several prompts at once and says
when the first tokens were there and when the last.

Every peer is used as its own documentation advises for the CPU, and only what it must do
is timed: token ids in, token ids out. Weights are float32 unless the name says otherwise.
What a peer needs is imported when it is made, so that all can be named without being installed.
"""

import os

from bench.peers.bounds import Roofline, Sgemv
from bench.peers.native import (
    CTranslate2,
    CTranslate2Int8,
    LlamaCpp,
    LlamaCppF16,
    LlamaCppQ8,
)
from bench.peers.ours import Ours, OursInt8, PicoGPTStyle
from bench.peers.peer import Peer
from bench.peers.pytorch import Transformers, TransformersBF16, TransformersInt8

PEERS: dict[str, type[Peer]] = {
    "gpt2core": Ours,
    "gpt2core-int8": OursInt8,
    "transformers": Transformers,
    "transformers-bf16": TransformersBF16,
    "transformers-int8": TransformersInt8,
    "ctranslate2": CTranslate2,
    "ctranslate2-int8": CTranslate2Int8,
    "llama-cpp": LlamaCpp,
    "llama-cpp-f16": LlamaCppF16,
    "llama-cpp-q8": LlamaCppQ8,
    "picogpt-style": PicoGPTStyle,
    "sgemv": Sgemv,
    "roofline": Roofline,
}


def process_environment(name: str, threads: int) -> dict[str, str]:
    """The environment of that peer's process."""
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    return {**inherited, **PEERS[name].environment(threads)}
