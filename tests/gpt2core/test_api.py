"""The snippets people bring from earlier NumPy GPT-2s, as they are typed.

One test for each row of the table of names in ``docs/architecture.md``: only the import
has changed, to ``gpt2core``. The model is a small one in the folder that they call
``models``; that its name is 124M keeps the snippets as they are.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpt2core
from gpt2core.store.folder import WEIGHTS_FILE
from gpt2core.store.weights import save_params
from tests.helpers.openai_layout import SMALL, seeded_params
from tests.helpers.paths import ROOT


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch) -> Path:
    """Work in a folder that has models/124M, and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPT2_BASE_URL", "http://127.0.0.1:9")
    folder = tmp_path / "models" / "124M"
    folder.mkdir(parents=True)
    (folder / "hparams.json").write_text(json.dumps(SMALL.to_dict()))
    save_params(folder / WEIGHTS_FILE, seeded_params(SMALL))
    return folder.parent


def test_encoder():
    from gpt2core import get_encoder

    encoder = get_encoder(model_name="124M", models_dir="models")

    ids = encoder.encode("Not all heroes wear capes.")
    assert ids == [3673, 477, 10281, 5806, 1451, 274, 13]
    assert encoder.decode(ids) == "Not all heroes wear capes."
    assert [encoder.decoder[i] for i in ids] == [
        "Not",
        "Ġall",
        "Ġheroes",
        "Ġwear",
        "Ġcap",
        "es",
        ".",
    ]
    assert len(encoder.decoder) == 50257
    assert [encoder.encoder[piece] for piece in ("zjqfl", "Ġall") if piece in encoder.encoder] == [
        477
    ]


def test_encoder_hparams_and_params():
    from gpt2core import load_encoder_hparams_and_params, shape_tree

    encoder, hparams, params = load_encoder_hparams_and_params("124M", "models")

    assert type(hparams) is dict
    assert hparams == {"n_vocab": 50257, "n_ctx": 64, "n_embd": 8, "n_head": 2, "n_layer": 2}
    assert shape_tree(params) == {
        "wpe": [64, 8],
        "wte": [50257, 8],
        "ln_f": {"b": [8], "g": [8]},
        "blocks": [
            {
                "attn": {"c_attn": {"b": [24], "w": [8, 24]}, "c_proj": {"b": [8], "w": [8, 8]}},
                "ln_1": {"b": [8], "g": [8]},
                "ln_2": {"b": [8], "g": [8]},
                "mlp": {"c_fc": {"b": [32], "w": [8, 32]}, "c_proj": {"b": [8], "w": [32, 8]}},
            }
        ]
        * 2,
    }


def test_gpt2():
    from gpt2core import gpt2, load_encoder_hparams_and_params

    encoder, hparams, params = load_encoder_hparams_and_params("124M", "models")
    input_ids = encoder.encode("Not all heroes wear capes.")
    logits = gpt2(input_ids, **params, n_head=hparams["n_head"])  # [n_seq, n_vocab]

    assert logits.shape == (7, 50257) and logits.dtype == np.float32
    next_id = np.argmax(logits[-1])
    assert 0 <= next_id < 50257


def test_generate():
    from gpt2core import generate, gpt2, load_encoder_hparams_and_params

    prompt = "Alan Turing theorized that computers would one day become"
    n_tokens_to_generate = 8
    encoder, hparams, params = load_encoder_hparams_and_params("124M", "models")
    input_ids = encoder.encode(prompt)
    assert input_ids == [36235, 39141, 18765, 1143, 326, 9061, 561, 530, 1110, 1716]
    assert len(input_ids) + n_tokens_to_generate < hparams["n_ctx"]
    output_ids = generate(input_ids, params, hparams["n_head"], n_tokens_to_generate)
    output_text = encoder.decode(output_ids)

    assert len(output_ids) == 8 and type(output_text) is str
    assert len(input_ids) == 10  # theirs grew
    for _ in range(n_tokens_to_generate):  # their loop
        logits = gpt2(input_ids, **params, n_head=hparams["n_head"])
        input_ids.append(int(np.argmax(logits[-1])))
    assert input_ids[10:] == output_ids


def test_blocks_are_splatted_as_they_are():
    from gpt2core import load_encoder_hparams_and_params
    from gpt2core.model import transformer_block

    _, hparams, params = load_encoder_hparams_and_params("124M", "models")
    x = params["wte"][[1, 2, 3]] + params["wpe"][range(3)]
    for block in params["blocks"]:
        x = transformer_block(x, **block, n_head=hparams["n_head"])
    assert x.shape == (3, 8) and x.dtype == np.float32


def test_command_line(models):
    result = subprocess.run(
        [sys.executable, "-m", "gpt2core"]
        + ["Alan Turing theorized that computers would one day become"]
        + ["--n_tokens_to_generate", "8", "--model_size", "124M", "--models_dir", "models"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    encoder, hparams, params = gpt2core.load_encoder_hparams_and_params("124M", "models")
    ids = encoder.encode("Alan Turing theorized that computers would one day become")
    ids = gpt2core.generate(ids, params, hparams["n_head"], 8)
    assert result.stdout == encoder.decode(ids) + "\n"


def test_sampling_by_hand():
    """The loop of those who want more than greedy, on the public names."""
    from gpt2core import Engine, HParams, SamplingParams, load_model, stream

    model = load_model("124M", "models")
    assert isinstance(model.hparams, HParams)
    sampling = SamplingParams(temperature=0.8, top_k=40, top_p=0.9, seed=1)
    engine = Engine(model.params, model.hparams)
    tokens = list(stream(engine, model.encoder.encode("Not all"), 5, sampling))
    assert len(tokens) == 5 and tokens[-1].finish_reason == "length"


def test_every_public_name_is_there_and_sorted():
    names = gpt2core.__all__
    assert all(hasattr(gpt2core, name) for name in names)
    assert (
        sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)) == names
    )
    # `gpt2core.generate` is the function, although a module has the same name.
    assert callable(gpt2core.generate) and callable(gpt2core.gpt2)


def test_public_names_are_all_that_init_holds():
    tree = ast.parse((ROOT / "gpt2core" / "__init__.py").read_text("utf-8"))
    imported = [a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names]
    assert sorted(imported) == sorted(gpt2core.__all__)
