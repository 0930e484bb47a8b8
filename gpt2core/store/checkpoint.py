"""OpenAI's TensorFlow checkpoint -> ``model.safetensors``, once, in a child process.

The loader calls :func:`convert_checkpoint` for a folder that holds a checkpoint and no
safetensors file. The work is done by ``python -m gpt2core.store.checkpoint``, so TensorFlow
(half a gigabyte of memory, seconds of start-up, pages of log) never enters the process
that serves. The child copies tensor by tensor, so it holds one at a time; it prints a
line for each, and a last one that begins with ``error:`` where it fails.

Invariants: shapes are checked against ``hparams.json`` before anything is written;
``model.safetensors`` appears whole or not at all; a parent that dies takes the child
with it at its next line. This module is the only one that imports tensorflow, and only
in the child.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gpt2core.errors import GPT2Error, ModelFileError
from gpt2core.files import (
    check_space,
    file_size,
    folder_lock,
    remove_unfinished_writes,
    unfinished_writes,
    write_error,
)
from gpt2core.store.folder import (
    DATA_FILE,
    INDEX_FILE,
    WEIGHTS_FILE,
    Progress,
    ProgressCallback,
    checkpoint_fault,
    data_fault,
    read_hparams,
    weights_bytes,
)
from gpt2core.store.weights import tensor_shapes, write_safetensors

NO_TENSORFLOW = (
    "OpenAI's checkpoint files can only be read by TensorFlow, which is not installed here. "
    "Either `pip install tensorflow` (once, with Python 3.13 at most; it is not needed to run "
    "the model afterwards), "
    "or put the model's model.safetensors beside its hparams.json: that needs no TensorFlow."
)
CHECKPOINT_PREFIX = "model.ckpt"  # TensorFlow adds .index and .data-00000-of-00001
ERROR = "error: "  # begins the child's last line where it failed
QUIET = {  # no log, no search for a GPU that a conversion has no use for
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONWARNINGS": "ignore",
    "PYTHONIOENCODING": "utf-8",
}


def check_tensorflow() -> None:
    """Raise ModelFileError where TensorFlow is not installed; imports nothing of it."""
    if importlib.util.find_spec("tensorflow") is None:
        raise ModelFileError(NO_TENSORFLOW)


def convert_checkpoint(directory: Path, progress: ProgressCallback | None = None) -> None:
    """Write ``model.safetensors`` beside the checkpoint in ``directory``.

    Does nothing where the file is there; waits for another process that is making it. An
    exception that ``progress`` raises ends the conversion. Raises ModelFileError with the
    cause; the checkpoint itself is only read.
    """

    def report(note: str = "") -> None:
        if progress:
            progress(conversion_progress(directory, note))

    if (directory / WEIGHTS_FILE).exists():
        return
    with folder_lock(directory, lambda: report("Another process is converting this model.")):
        if (directory / WEIGHTS_FILE).exists():
            return
        fault = checkpoint_fault(directory)
        if fault:
            raise ModelFileError(f"the checkpoint in {directory} cannot be converted: {fault}.")
        remove_unfinished_writes(directory / WEIGHTS_FILE)
        check_space(directory, weights_bytes(directory))
        try:
            run_child(directory, report)
        finally:
            remove_unfinished_writes(directory / WEIGHTS_FILE)


def conversion_progress(directory: Path, note: str = "") -> Progress:
    """How far the conversion is, by what lies in the folder, so that every process sees it."""
    total = weights_bytes(directory)
    written = sum(file_size(path) for path in unfinished_writes(directory / WEIGHTS_FILE))
    if (directory / WEIGHTS_FILE).exists():  # renamed already, while the last lines are read
        written = total
    return Progress("convert", WEIGHTS_FILE, min(written, total), total, note)


def run_child(directory: Path, report: Callable[[], None]) -> None:
    """Convert in a child process, calling ``report`` at each of its lines."""
    package_parent = Path(__file__).parents[2]
    python_path = os.pathsep.join(filter(None, [str(package_parent), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "gpt2core.store.checkpoint", str(directory.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env={**os.environ, **QUIET, "PYTHONPATH": python_path},
        )
        last_line = ""
        try:
            report()
            for line in child.stdout:
                last_line = line
                report()
            status = child.wait()
        finally:
            child.kill()  # nothing, once it has ended
            child.wait()
            child.stdout.close()
        if status:
            log.seek(0)
            raise ModelFileError(child_error(directory, status, last_line, log.read()))


def child_error(directory: Path, status: int, last_line: str, log: str) -> str:
    """The sentence for a conversion that failed: the child's own, or what is known of its end."""
    if last_line.startswith(ERROR):
        return last_line.removeprefix(ERROR).strip()
    if status < 0:
        name = signal.Signals(-status).name
        # The kernel sends this one where memory is short.
        hint = "; is there enough memory?" if name == "SIGKILL" else "."
        cause = f"it was ended by {name}{hint}"
    else:
        cause = (log.strip().splitlines() or ["no reason was given."])[-1]
    return f"converting the checkpoint in {directory} failed: {cause}"


# --- in the child -----------------------------------------------------------------


def main(directory: Path) -> int:
    """Convert ``directory`` and return the exit status, telling how it goes line by line."""
    try:
        write_from_checkpoint(directory)
    except BrokenPipeError:  # the parent is gone, and with it the wish for a result
        return 1
    except OSError as error:
        print(f"{ERROR}{write_error(directory / WEIGHTS_FILE, error)}", flush=True)
        return 1
    except GPT2Error as error:
        print(f"{ERROR}{error}", flush=True)
        return 1
    return 0


def write_from_checkpoint(directory: Path) -> None:
    """Copy every tensor of the checkpoint into ``model.safetensors``, one at a time."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ModelFileError(NO_TENSORFLOW) from error

    shapes = tensor_shapes(read_hparams(directory))
    try:
        reader = tf.train.load_checkpoint(str(directory / CHECKPOINT_PREFIX))
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ModelFileError(
            f"{directory / INDEX_FILE} cannot be read: {first_line(error)}"
        ) from error
    check_variables(reader.get_variable_to_shape_map(), shapes, directory)
    fault = data_fault(file_size(directory / DATA_FILE), directory)
    if fault:
        raise ModelFileError(f"{directory}: {fault}.")

    def read(name: str) -> np.ndarray:
        print(name, flush=True)
        try:
            return reader.get_tensor(variable_name(name)).reshape(shapes[name])
        except (ValueError, RuntimeError, tf.errors.OpError) as error:
            raise ModelFileError(
                f"{directory / DATA_FILE} is damaged at tensor {variable_name(name)!r}: "
                f"{first_line(error)}"
            ) from error

    write_safetensors(directory / WEIGHTS_FILE, shapes, read)


def variable_name(name: str) -> str:
    """OpenAI's name of a tensor: ``h.0.attn.c_attn.weight`` -> ``model/h0/attn/c_attn/w``."""
    *path, kind = name.removeprefix("h.").split(".")
    if name.startswith("h."):
        path[0] = f"h{path[0]}"
    if path[0] in ("wte", "wpe"):
        return f"model/{path[0]}"
    weight = "g" if path[-1].startswith("ln_") else "w"
    return "/".join(["model", *path, weight if kind == "weight" else "b"])


def check_variables(
    found: dict[str, list[int]], shapes: dict[str, tuple[int, ...]], directory: Path
) -> None:
    """Raise ModelFileError, naming the tensor, unless the checkpoint is of these shapes."""
    expected = {variable_name(name): list(shape) for name, shape in shapes.items()}
    for name, shape in expected.items():
        if name not in found:
            raise ModelFileError(f"the checkpoint in {directory} lacks the tensor {name!r}.")
        # Matrices are stored as convolutions of width 1: [1, n_in, n_out].
        if list(found[name]) not in (shape, [1, *shape]):
            raise ModelFileError(
                f"the checkpoint in {directory} has {name!r} as {list(found[name])}, "
                f"but hparams.json asks for {shape}."
            )
    for name in found:
        if name.startswith("model/") and name not in expected:
            raise ModelFileError(
                f"the checkpoint in {directory} holds a tensor {name!r} "
                "that the shape in hparams.json has no place for."
            )


def first_line(error: Exception) -> str:
    """TensorFlow's errors run over pages; their first line says what happened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
