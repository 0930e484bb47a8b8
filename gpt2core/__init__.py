"""GPT-2 in plain NumPy: the public names of the package, and nothing else.

Importing it loads numpy and regex only: no tensorflow, no requests, no flask. Before it
imports numpy, it chooses the kernels of OpenBLAS (see ``engine/processors.py``).
"""

# ruff: noqa: E402
import gpt2core.engine.processors

gpt2core.engine.processors.configure()  # must come before anything that imports numpy

from gpt2core.continuation import Continuation
from gpt2core.engine.engine import Engine
from gpt2core.errors import GPT2Error, InputError, ModelFileError
from gpt2core.generate import generate, stream
from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.inside.recording import record_pass
from gpt2core.model import gpt2
from gpt2core.sampling import SamplingParams
from gpt2core.showing import show, show_attribution, show_head, show_lens
from gpt2core.store.folder import Progress
from gpt2core.store.loader import (
    Model,
    ModelState,
    get_encoder,
    load_encoder_hparams_and_params,
    load_model,
    model_state,
    prepare_model,
)
from gpt2core.store.weights import load_params, save_params, shape_tree
from gpt2core.tokenizer.bpe import Encoder
from gpt2core.tokenizer.decoding import StreamDecoder

__all__ = [
    "MODEL_SIZES",
    "Continuation",
    "Encoder",
    "Engine",
    "GPT2Error",
    "HParams",
    "InputError",
    "Model",
    "ModelFileError",
    "ModelState",
    "Progress",
    "SamplingParams",
    "StreamDecoder",
    "generate",
    "get_encoder",
    "gpt2",
    "load_encoder_hparams_and_params",
    "load_model",
    "load_params",
    "model_state",
    "prepare_model",
    "record_pass",
    "save_params",
    "shape_tree",
    "show",
    "show_attribution",
    "show_head",
    "show_lens",
    "stream",
]
