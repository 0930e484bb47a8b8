"""From TensorFlow's checkpoint to model.safetensors, in a child process.

Where the conversion itself is tested, TensorFlow is the real one, and one conversion is
shared. Where only the child's end matters, a stand-in named ``tensorflow`` saves the ten
seconds that importing the real one takes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gpt2core.errors import ModelFileError
from gpt2core.hparams import MODEL_SIZES, HParams
from gpt2core.store.checkpoint import check_variables, convert_checkpoint, variable_name
from gpt2core.store.folder import DATA_FILE, HPARAMS_FILE, INDEX_FILE, OPENAI_FILES, WEIGHTS_FILE
from gpt2core.store.loader import load_model
from gpt2core.store.weights import tensor_shapes, tensors_from_params
from tests.helpers.openai_layout import SMALL, seeded_tensors, small_release, tensorflow_stand_in
from tests.helpers.paths import ROOT

STALE = f".{WEIGHTS_FILE}.stale"


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return small_release(tmp_path_factory)


@pytest.fixture
def folder(release, tmp_path) -> Path:
    """A copy of the release, to convert or to damage."""
    return Path(shutil.copytree(release, tmp_path / "mine"))


@pytest.fixture(scope="module")
def converted(release, tmp_path_factory):
    """A folder after its conversion, and the progress that was reported."""
    folder = Path(shutil.copytree(release, tmp_path_factory.mktemp("converted") / "mine"))
    (folder / STALE).write_bytes(b"left by a conversion that was killed")
    seen = []
    convert_checkpoint(folder, seen.append)
    return folder, seen


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a module ``tensorflow`` with this source before the real one, for child processes."""

    def write(source: str) -> None:
        (tmp_path / "path").mkdir()
        (tmp_path / "path" / "tensorflow.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))

    return write


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- TensorFlow itself ------------------------------------------------------------


def test_every_tensor_is_that_of_the_checkpoint(converted):
    folder, _ = converted
    tensors = load_file(folder / WEIGHTS_FILE)  # the format's own library reads it
    expected = seeded_tensors(SMALL)
    assert set(tensors) == set(expected) and len(expected) == 4 + 12 * SMALL.n_layer
    for name, array in expected.items():
        assert tensors[name].dtype == np.float32
        assert np.array_equal(tensors[name], array), name


def test_the_loader_gives_the_same_weights(converted):
    folder, _ = converted
    model = load_model(str(folder))
    assert model.hparams == SMALL
    for name, array in seeded_tensors(SMALL).items():
        assert np.array_equal(tensors_from_params(model.params)[name], array), name


def test_the_checkpoint_is_unchanged_and_no_unfinished_file_is_left(converted, release):
    folder, _ = converted
    assert names(folder) == {*OPENAI_FILES, WEIGHTS_FILE}
    for name in OPENAI_FILES:
        assert (folder / name).read_bytes() == (release / name).read_bytes()


def test_progress_goes_from_nothing_to_all_weights(converted):
    _, seen = converted
    done = [progress.bytes_done for progress in seen]
    assert done == sorted(done) and done[0] == 0
    assert {progress.bytes_total for progress in seen} == {4 * SMALL.n_params}
    assert done[-1] > 0.9 * 4 * SMALL.n_params
    assert {(p.phase, p.file) for p in seen} == {("convert", WEIGHTS_FILE)}


def test_a_second_conversion_does_nothing(converted):
    folder, _ = converted
    before = (folder / WEIGHTS_FILE).stat()
    seen = []
    convert_checkpoint(folder, seen.append)
    assert seen == [] and (folder / WEIGHTS_FILE).stat() == before


def test_a_converted_model_never_imports_tensorflow(converted, stand_in):
    folder, _ = converted
    stand_in("raise SystemExit('tensorflow was imported')")
    code = (
        "import sys, gpt2core\n"
        "encoder, hparams, params = gpt2core.load_encoder_hparams_and_params(sys.argv[1])\n"
        "gpt2core.generate(encoder.encode('Not all'), params, hparams['n_head'], 2)\n"
        "gpt2core.prepare_model(sys.argv[1])\n"
        "print([m for m in ('tensorflow', 'requests', 'filelock', 'tqdm') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, folder],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n" and result.stderr == ""


def test_a_changed_byte_is_an_error_with_its_tensor(folder):
    data = bytearray((folder / DATA_FILE).read_bytes())
    data[-1] ^= 1
    (folder / DATA_FILE).write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        convert_checkpoint(folder)
    assert f"{folder / DATA_FILE} is damaged at tensor 'model/ln_f/b': " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(folder) == set(OPENAI_FILES)


def test_another_shape_than_in_hparams_json_is_an_error(folder, stand_in):
    stand_in(tensorflow_stand_in())
    (folder / HPARAMS_FILE).write_text(
        '{"n_vocab": 50257, "n_ctx": 64, "n_embd": 8, "n_head": 2, "n_layer": 3}'
    )
    with pytest.raises(ModelFileError) as caught:
        convert_checkpoint(folder)
    assert str(caught.value) == (f"the checkpoint in {folder} lacks the tensor 'model/h2/ln_1/g'.")
    assert names(folder) == set(OPENAI_FILES)


def test_an_unreadable_index_is_one_line(folder, stand_in):
    stand_in(
        "import types\n"
        "errors = types.SimpleNamespace(OpError=KeyError)\n"
        "class train:\n"
        "    def load_checkpoint(prefix): raise ValueError('not an sstable\\nand more')\n"
    )
    with pytest.raises(ModelFileError) as caught:
        convert_checkpoint(folder)
    assert str(caught.value) == f"{folder / INDEX_FILE} cannot be read: not an sstable"
    assert names(folder) == set(OPENAI_FILES)


# --- names and shapes -------------------------------------------------------------


@pytest.mark.parametrize("size", MODEL_SIZES)
def test_all_sizes_have_the_shapes_of_their_release(size):
    hparams = MODEL_SIZES[size]
    shapes = {variable_name(name): shape for name, shape in tensor_shapes(hparams).items()}
    d, last = hparams.n_embd, hparams.n_layer - 1
    assert len(shapes) == 4 + 12 * hparams.n_layer
    assert shapes["model/wte"] == (50257, d) and shapes["model/wpe"] == (1024, d)
    assert shapes["model/h0/attn/c_attn/w"] == (d, 3 * d)
    assert shapes[f"model/h{last}/attn/c_proj/b"] == (d,)
    assert shapes[f"model/h{last}/mlp/c_fc/w"] == (d, 4 * d)
    assert shapes[f"model/h{last}/mlp/c_proj/w"] == (4 * d, d)
    assert shapes[f"model/h{last}/ln_2/g"] == shapes["model/ln_f/b"] == (d,)
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    assert total == hparams.n_params
    assert total == {
        "124M": 124_439_808, "355M": 354_823_168, "774M": 774_030_080, "1558M": 1_557_611_200
    }[size]  # fmt: skip


def found_variables() -> dict[str, list[int]]:
    """What TensorFlow says of a checkpoint of SMALL."""
    return {
        variable_name(name): [1, *shape] if len(shape) == 2 and name.startswith("h.") else [*shape]
        for name, shape in tensor_shapes(SMALL).items()
    }


def test_the_right_shapes_pass():
    check_variables(found_variables(), tensor_shapes(SMALL), Path("mine"))


def test_variables_that_are_no_weights_are_ignored():
    found = found_variables() | {"global_step": []}
    check_variables(found, tensor_shapes(SMALL), Path("mine"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model/wte": [50257, 9]}, "has 'model/wte' as [50257, 9], but hparams.json asks for [50"),
        ({"model/h1/mlp/c_fc/w": [1, 32, 8]}, "'model/h1/mlp/c_fc/w' as [1, 32, 8]"),
        ({"model/h2/ln_1/g": [8]}, "holds a tensor 'model/h2/ln_1/g' that the shape"),
        ({"model/ln_f/b": None}, "lacks the tensor 'model/ln_f/b'."),
    ],
)
def test_a_wrong_tensor_is_named(change, sentence):
    found = {name: shape for name, shape in (found_variables() | change).items() if shape}
    with pytest.raises(ModelFileError, match="the checkpoint in mine ") as caught:
        check_variables(found, tensor_shapes(SMALL), Path("mine"))
    assert sentence in str(caught.value)


# --- how a child may end ----------------------------------------------------------


def test_without_tensorflow_the_message_says_what_helps(folder, stand_in):
    stand_in("raise ImportError(\"No module named 'tensorflow'\")")
    with pytest.raises(ModelFileError) as caught:
        convert_checkpoint(folder)
    assert "`pip install tensorflow`" in str(caught.value)
    assert "model.safetensors" in str(caught.value) and "needs no TensorFlow" in str(caught.value)
    assert names(folder) == set(OPENAI_FILES)


def test_a_killed_child_is_an_error_with_its_signal(folder, stand_in):
    stand_in("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ModelFileError, match="was ended by SIGKILL; is there enough memory?"):
        convert_checkpoint(folder)
    assert names(folder) == set(OPENAI_FILES)


def test_any_other_signal_is_named(folder, stand_in):
    stand_in("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    with pytest.raises(ModelFileError, match="was ended by SIGILL[.]$"):
        convert_checkpoint(folder)


def test_a_disk_that_fills_up_is_an_error(folder, stand_in):
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    stand_in(limit + tensorflow_stand_in())
    with pytest.raises(ModelFileError, match="model.safetensors cannot be written: File too large"):
        convert_checkpoint(folder)
    assert names(folder) == set(OPENAI_FILES)


def test_a_child_that_raises_is_an_error_with_its_last_line(folder, stand_in):
    stand_in("raise RuntimeError('no such instruction')")
    with pytest.raises(ModelFileError, match="failed: RuntimeError: no such instruction"):
        convert_checkpoint(folder)
    assert names(folder) == set(OPENAI_FILES)


def test_a_callback_that_raises_ends_the_child(folder, stand_in):
    class Cancelled(Exception):
        pass

    def cancel(progress):
        if progress.bytes_done:
            raise Cancelled

    stand_in(tensorflow_stand_in(delay=0.05))
    with pytest.raises(Cancelled):
        convert_checkpoint(folder, cancel)
    assert names(folder) == set(OPENAI_FILES)


def test_a_child_whose_parent_died_writes_nothing(folder, stand_in):
    stand_in(tensorflow_stand_in(delay=0.5))
    child = subprocess.Popen(
        [sys.executable, "-m", "gpt2core.store.checkpoint", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert child.stdout.readline() == b"wte.weight\n"
    child.stdout.close()
    assert child.wait(timeout=30) == 1
    assert names(folder) == set(OPENAI_FILES)


# --- errors before a child is started ---------------------------------------------


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (INDEX_FILE, "lacks model.ckpt.index"),
        (HPARAMS_FILE, "lacks hparams.json"),
        ("vocab.bpe", "has encoder.json but not vocab.bpe"),
    ],
)
def test_a_missing_file_is_named(folder, missing, sentence):
    (folder / missing).unlink()
    with pytest.raises(ModelFileError, match=f"cannot be converted: .*{sentence}"):
        convert_checkpoint(folder)


def test_weights_too_large_for_the_disk_are_an_error(folder, stand_in):
    stand_in("raise SystemExit('a child was started')")
    hparams = SMALL.to_dict() | {"n_vocab": 10**12}
    (folder / HPARAMS_FILE).write_text(json.dumps(hparams))
    with pytest.raises(ModelFileError, match=r"is too full: [0-9,.]+ GB are needed, .* are free"):
        convert_checkpoint(folder)
    assert names(folder) == set(OPENAI_FILES)


def test_data_that_is_cut_off_is_an_error(folder, stand_in):
    stand_in(tensorflow_stand_in())
    os.truncate(folder / DATA_FILE, 1_000_000)
    with pytest.raises(ModelFileError, match="is cut off: it has 1,000,000 bytes"):
        convert_checkpoint(folder)
    assert names(folder) == set(OPENAI_FILES)


def test_the_meta_file_is_not_needed(folder, stand_in):
    for name in ("checkpoint", "model.ckpt.meta", "vocab.bpe", "encoder.json"):
        (folder / name).unlink()
    stand_in(tensorflow_stand_in())
    convert_checkpoint(folder)
    assert load_model(str(folder)).hparams == HParams(50257, 64, 8, 2, 2)
