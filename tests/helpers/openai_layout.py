"""A stand-in for OpenAI's storage: a release of seeded random weights, and a server for it.

The release has OpenAI's seven files, with its variable names and shapes, written by
TensorFlow itself (in a child process, because tests must not import it). The server
can be told to misbehave, file by file and answer by answer.

By hand, for a release of the full size::

    python -m tests.helpers.openai_layout write DIRECTORY/124M 124M
    python -m tests.helpers.openai_layout serve DIRECTORY 8123
"""

import base64
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.store.checkpoint import CHECKPOINT_PREFIX, CHILD_ENVIRONMENT, variable_name
from gpt2core.store.folder import OPENAI_FILES
from gpt2core.store.weights import params_from_tensors, tensor_shapes
from gpt2core.tokenizer.vocabulary import VOCAB_PATH, default_encoder
from tests.helpers.paths import ROOT

# OpenAI's vocabulary, so that ids and prompts are the real ones, and little else.
SMALL = HParams(n_ctx=64, n_embd=8, n_head=2, n_layer=2)
SEED = 124
PIECE = 1 << 16  # bytes the server sends at a time


def seeded_tensors(hparams: HParams, seed: int = SEED) -> dict[str, np.ndarray]:
    """Random weights of a plausible size, the same for the same seed, by their flat names."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in tensor_shapes(hparams).items():
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.1)
        if ".ln_" in f".{name}" and name.endswith("weight"):
            values += 1
        tensors[name] = values
    return tensors


def seeded_params(hparams: HParams, seed: int = SEED) -> dict:
    """The same weights as the nested ``params``."""
    return params_from_tensors(seeded_tensors(hparams, seed), hparams.n_layer)


# --- the seven files --------------------------------------------------------------


def small_release(tmp_path_factory) -> Path:
    """A folder with OpenAI's seven files of a SMALL model; written once a test session."""
    directory = tmp_path_factory.getbasetemp() / "release" / "124M"
    if not directory.exists():
        write_release_in_child(directory, SMALL)
    return directory


def write_release_in_child(directory: Path, hparams: HParams, seed: int = SEED) -> None:
    """Write a release without importing TensorFlow here."""
    subprocess.run(
        [sys.executable, "-m", "tests.helpers.openai_layout", "write", directory]
        + [json.dumps(hparams.to_dict()), str(seed)],
        env={**os.environ, **CHILD_ENVIRONMENT},
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        check=True,
    )


def write_release(directory: Path, hparams: HParams, seed: int) -> None:
    """Write the seven files, in the process that imports TensorFlow."""
    import tensorflow as tf

    directory.mkdir(parents=True)
    tensors = seeded_tensors(hparams, seed)
    # OpenAI's matrices are the kernels of convolutions of width 1.
    arrays = [
        array[None] if array.ndim == 2 and name.startswith("h.") else array
        for name, array in tensors.items()
    ]
    tf.raw_ops.SaveV2(
        prefix=str(directory / CHECKPOINT_PREFIX),
        tensor_names=[variable_name(name) for name in tensors],
        shape_and_slices=[""] * len(arrays),
        tensors=arrays,
    )
    (directory / "model.ckpt.meta").write_bytes(b"\x0a\x00 a graph, which nobody reads")
    (directory / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    (directory / "hparams.json").write_text(json.dumps(hparams.to_dict()))
    (directory / "vocab.bpe").write_bytes(VOCAB_PATH.read_bytes())
    (directory / "encoder.json").write_text(json.dumps(default_encoder().encoder))
    assert sorted(os.listdir(directory)) == sorted(OPENAI_FILES)


def tensorflow_stand_in(delay: float = 0.0) -> str:
    """Source of a module ``tensorflow`` that holds the SMALL checkpoint, whatever it is given.

    For tests of what happens around a conversion: importing the real one takes seconds.
    ``delay`` is the time that each tensor takes.
    """
    return f"""
import time, types
from gpt2core.store.checkpoint import variable_name
from tests.helpers.openai_layout import SMALL, seeded_tensors

tensors = {{variable_name(name): array for name, array in seeded_tensors(SMALL).items()}}

class errors:
    OpError = KeyError

class reader:
    def get_variable_to_shape_map():
        return {{name: list(array.shape) for name, array in tensors.items()}}

    def get_tensor(name):
        time.sleep({delay})
        return tensors[name]

train = types.SimpleNamespace(load_checkpoint=lambda prefix: reader)
"""


# --- the server -------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """How the server answers one request; the default is as OpenAI's storage does.

    ``status`` other than 200 sends that error; ``body`` sends these bytes instead of the
    file; ``break_off`` closes the connection after so many bytes of the body; ``length``
    is a Content-Length that may lie (0: none); ``md5`` and ``headers`` replace what is sent;
    ``slow`` is seconds between two pieces of the body; ``hold`` stops sending after so many
    bytes, and the connection stays open.
    """

    status: int = 200
    body: bytes | None = None
    break_off: int | None = None
    length: int | None = None
    md5: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    slow: float = 0.0
    hold: int | None = None


@dataclass(frozen=True)
class Request:
    """One request as the server saw it, and the status it answered."""

    name: str
    range: str | None
    status: int


class ReleaseServer:
    """Serves ``root/<size>/<file>`` on a free port; a context manager.

    ``answers[name]`` holds the next answers for a file, first one first; after them come
    good ones. ``ranges=False`` ignores Range, ``etags=False`` sends no validator.
    """

    def __init__(self, root: Path, port: int = 0):
        self.root = root
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        self.always: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.ranges = True
        self.validators = True
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """What goes into GPT2_BASE_URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ReleaseServer":
        os.environ["no_proxy"] = "127.0.0.1"  # a proxy of this machine must not be asked
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked_for(self, name: str) -> list[Request]:
        """The requests for one file, in order."""
        return [request for request in self.requests if request.name == name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, server: ReleaseServer, *args):
        self.release = server
        super().__init__(*args)

    def log_message(self, *_) -> None:
        """Say nothing: tests read ``requests``."""

    def do_GET(self) -> None:
        release, path = self.release, Path(unquote(self.path).lstrip("/"))
        name, file = path.name, release.root / path
        queue = release.answers[name]
        answer = queue.pop(0) if queue else release.always.get(name, Answer())
        if not file.is_file():
            answer = Answer(status=404)
        asked = self.headers.get("Range")
        status, headers, body = self._respond(answer, file, asked)
        release.requests.append(Request(name, asked, status))
        self.send_response(status)
        for key, value in {**headers, **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self._send(body, answer)

    def _respond(self, answer: Answer, file: Path, asked: str | None):
        """Status, headers and body."""
        if answer.status != 200:
            page = b"<html><body>an error</body></html>"
            return answer.status, {"Content-Length": str(len(page))}, page
        whole = file.read_bytes() if answer.body is None else answer.body
        etag = f'"{hashlib.sha1(whole).hexdigest()}"'
        headers = {
            "Content-MD5": answer.md5 or base64.b64encode(hashlib.md5(whole).digest()).decode()
        }
        if self.release.validators:
            headers["ETag"] = etag
        status, body = 200, whole
        match = re.fullmatch(r"bytes=(\d+)-", asked or "")
        if match and self.release.ranges and self.headers.get("If-Range") == etag:
            start = int(match[1])
            if start >= len(whole):
                return 416, {"Content-Length": "0"}, b""
            status, body = 206, whole[start:]
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
            del headers["Content-MD5"]  # it would be that of the range
        if answer.length != 0:
            headers["Content-Length"] = str(len(body) if answer.length is None else answer.length)
        else:
            headers["Connection"] = "close"
        return status, headers, body

    def _send(self, body: bytes, answer: Answer) -> None:
        end = min(n for n in (answer.break_off, answer.hold, len(body)) if n is not None)
        try:
            for at in range(0, end, PIECE):
                self.wfile.write(body[at : min(at + PIECE, end)])
                self.release.closing.wait(answer.slow)
        except OSError:  # the client has gone, as in the tests that kill it
            self.close_connection = True
        if answer.hold is not None:
            self.release.closing.wait()
        if end < len(body) or answer.length is not None:
            self.close_connection = True


def main(command: str, path: str, *rest: str) -> None:
    """``write DIRECTORY SHAPE [SEED]`` or ``serve DIRECTORY PORT``."""
    if command == "write":
        shape = rest[0]
        hparams = MODEL_SIZES.get(shape) or HParams.from_dict(json.loads(shape))
        write_release(Path(path), hparams, int(rest[1]) if len(rest) > 1 else SEED)
    else:
        with ReleaseServer(Path(path), int(rest[0])) as server:
            print(server.url, flush=True)
            threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
