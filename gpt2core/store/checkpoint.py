"""OpenAI's TensorFlow checkpoint -> ``model.safetensors``, once, in a child process.

The loader calls :func:`convert_checkpoint` for a folder that holds a checkpoint and no
safetensors file. The child, ``python -m gpt2core.store.checkpoint``, imports TensorFlow,
which takes half a gigabyte of memory, seconds of start-up and pages of log; the process
that serves never does. The child copies one tensor at a time and prints a line for each.
If it fails, its last line begins with ``error:``.

Invariants: shapes are checked against ``hparams.json`` before anything is written.
``model.safetensors`` is complete or absent. A child whose parent has exited ends at its
next line of output. This is the only module that imports tensorflow.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

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
    find_checkpoint_problem,
    find_data_problem,
    read_hparams,
    weights_bytes,
)
from gpt2core.store.tensor_files import write_safetensors
from gpt2core.store.weights import FloatArray, tensor_shapes

NO_TENSORFLOW = (
    "OpenAI's checkpoint files can only be read by TensorFlow, which is not installed here. "
    "Either `pip install tensorflow` (once, with Python 3.13 at most; it is not needed to run "
    "the model afterwards), "
    "or put the model's model.safetensors beside its hparams.json: that needs no TensorFlow."
)
CHECKPOINT_PREFIX = "model.ckpt"  # TensorFlow adds .index and .data-00000-of-00001
ERROR = "error: "  # begins the last line of a child that failed
CHILD_ENVIRONMENT = {  # no log, and no search for a GPU, which a conversion does not use
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONWARNINGS": "ignore",
    "PYTHONIOENCODING": "utf-8",
}


def check_tensorflow() -> None:
    """Raise ModelFileError if TensorFlow is not installed. Does not import it."""
    if importlib.util.find_spec("tensorflow") is None:
        raise ModelFileError(NO_TENSORFLOW)


def convert_checkpoint(directory: Path, progress: ProgressCallback | None = None) -> None:
    """Write ``model.safetensors`` beside the checkpoint in ``directory``.

    Does nothing if the file exists. Waits for another process that converts the same
    checkpoint. An exception that ``progress`` raises ends the conversion. The checkpoint
    is only read. Raises ModelFileError with the cause.
    """

    def report(note: str = "") -> None:
        if progress:
            progress(conversion_progress(directory, note))

    if (directory / WEIGHTS_FILE).exists():
        return
    with folder_lock(directory, lambda: report("Another process is converting this model.")):
        if (directory / WEIGHTS_FILE).exists():
            return
        problem = find_checkpoint_problem(directory)
        if problem:
            raise ModelFileError(f"the checkpoint in {directory} cannot be converted: {problem}.")
        remove_unfinished_writes(directory / WEIGHTS_FILE)
        check_space(directory, weights_bytes(directory))
        try:
            run_child(directory, report)
        finally:
            remove_unfinished_writes(directory / WEIGHTS_FILE)


def conversion_progress(directory: Path, note: str = "") -> Progress:
    """How far the conversion is, by the files in the folder, so that every process sees it."""
    total = weights_bytes(directory)
    written = sum(file_size(path) for path in unfinished_writes(directory / WEIGHTS_FILE))
    if (directory / WEIGHTS_FILE).exists():  # renamed already; the last lines are still read
        written = total
    return Progress("convert", WEIGHTS_FILE, min(written, total), total, note)


def run_child(directory: Path, report: Callable[[], None]) -> None:
    """Convert in a child process, calling ``report`` at each of its lines."""
    package_parent = Path(__file__).parents[2]
    python_path = os.pathsep.join(filter(None, [str(package_parent), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        last_line = ""
        with subprocess.Popen(
            [sys.executable, "-m", "gpt2core.store.checkpoint", str(directory.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env={**os.environ, **CHILD_ENVIRONMENT, "PYTHONPATH": python_path},
        ) as child:
            try:
                report()
                for line in child.stdout or ():
                    last_line = line
                    report()
                status = child.wait()
            finally:
                child.kill()  # has no effect on a child that has ended
        if status:
            log.seek(0)
            raise ModelFileError(child_error(directory, status, last_line, log.read()))


def child_error(directory: Path, status: int, last_line: str, log: str) -> str:
    """The sentence for a conversion that failed: the child's own, or how the child ended."""
    if last_line.startswith(ERROR):
        return last_line.removeprefix(ERROR).strip()
    if status < 0:
        name = signal.Signals(-status).name
        # The kernel sends SIGKILL if memory runs out.
        hint = "; is there enough memory?" if name == "SIGKILL" else "."
        cause = f"it was ended by {name}{hint}"
    else:
        cause = (log.strip().splitlines() or ["no reason was given."])[-1]
    return f"converting the checkpoint in {directory} failed: {cause}"


# --- in the child -----------------------------------------------------------------


def main(directory: Path) -> int:
    """Convert ``directory``, printing a line for each tensor; returns the exit status."""
    try:
        write_from_checkpoint(directory)
    except BrokenPipeError:  # the parent has exited; stop quietly
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
    problem = find_data_problem(file_size(directory / DATA_FILE), directory)
    if problem:
        raise ModelFileError(f"{directory}: {problem}.")

    def read(name: str) -> FloatArray:
        print(name, flush=True)
        try:
            tensor: FloatArray = reader.get_tensor(variable_name(name))
            return tensor.reshape(shapes[name])
        except (ValueError, RuntimeError, tf.errors.OpError) as error:
            raise ModelFileError(
                f"{directory / DATA_FILE} is damaged at tensor {variable_name(name)!r}: "
                f"{first_line(error)}"
            ) from error

    tensors = {name: ("F32", shape) for name, shape in shapes.items()}
    write_safetensors(directory / WEIGHTS_FILE, tensors, lambda name: [read(name)])


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
    """The first line of an error's text, which says what happened; TensorFlow adds pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
