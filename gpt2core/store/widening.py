"""Large checkpoints of float16 or bfloat16: one float32 copy for all processes.

The loader opens ``params`` here. float32 files are mapped as they are. Half-precision ones must be
widened; if they are large, that is done once, into ``model.widened.safetensors`` beside them,
which all processes map. Without it each worker would hold a float32 copy of the whole model.

Invariants: the copy is complete, and current: it has the modification time of its source. Where
it cannot be written, each process widens the weights for itself.
"""

import logging
import os
from pathlib import Path

from gpt2core.errors import WriteError
from gpt2core.files import check_space, folder_lock, remove_unfinished_writes
from gpt2core.hparams import HParams
from gpt2core.model import Params
from gpt2core.store.shards import weight_files
from gpt2core.store.tensor_files import open_safetensors
from gpt2core.store.weights import load_params, save_params

log = logging.getLogger(__name__)

WIDENED_FILE = "model.widened.safetensors"
SHARED_FROM = 2**26  # bytes in float32; smaller models are widened quickly


def open_params(source: Path, hparams: HParams, tied: bool = True) -> Params:
    """``load_params`` with its arguments and errors, whose arrays large models share."""
    files = weight_files(source)
    types = {entry.dtype for file in files for entry in open_safetensors(file).entries.values()}
    if types == {"F32"} or 4 * hparams.n_params < SHARED_FROM:
        return load_params(source, hparams, tied)
    path = source.with_name(WIDENED_FILE)
    modified_ns = max(file.stat().st_mtime_ns for file in (source, *files))
    try:
        if not is_current(path, modified_ns):
            with folder_lock(path.parent):
                if not is_current(path, modified_ns):  # another process may have written it
                    remove_unfinished_writes(path)
                    check_space(path.parent, 4 * hparams.n_params)
                    save_params(path, load_params(source, hparams, tied))
                    # Only now is it current.
                    os.utime(path, ns=(modified_ns, modified_ns))
        return load_params(path, hparams)
    except (OSError, WriteError) as error:  # the folder is read-only, or the disk full
        log.warning("%s cannot be kept; each process widens the weights: %s", path, error)
        return load_params(source, hparams, tied)


def is_current(path: Path, modified_ns: int) -> bool:
    """Whether the copy is there and belongs to weights of that time, in nanoseconds."""
    return path.exists() and path.stat().st_mtime_ns == modified_ns
