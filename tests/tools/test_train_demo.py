"""The training script on a few kilobytes: it learns, writes a model that runs, and resumes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpt2core.errors import InputError
from gpt2core.generate import generate
from gpt2core.model import gpt2
from gpt2core.store.loader import load_model
from gpt2core.tokenizer.vocabulary import default_encoder
from tests.helpers.paths import ROOT
from tools import bits_per_byte

if os.environ.get("CI"):
    import optax  # noqa: F401  where the promise is checked for good, a missing package is red
else:
    pytest.importorskip("optax", reason="optax is not installed (requirements-dev.txt)")
from tools import train_demo

SHAPE = "--n-ctx 16 --n-embd 16 --n-head 2 --n-layer 1 --batch 4 --rows 256 --warm-up 5".split()
RATES = "--lr 0.02 --lr-muon 0.05".split()


def tale(n_days: int) -> str:
    """A tale of few words, so that a small model learns something in 20 steps."""
    animals = ["fox", "hare", "owl", "bear"]
    return "\n\n".join(
        f"On day {day} the {animals[day % 4]} met the {animals[day * 7 % 3]}, and they sang."
        for day in range(n_days)
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    works = f"{tale(60)}\n<|endoftext|>\n{tale(25)}\n"
    (folder / "train.txt").write_text(works, encoding="utf-8")
    (folder / "valid.txt").write_text(tale(8), encoding="utf-8")
    return folder


def run(texts: Path, *more: str) -> subprocess.CompletedProcess:
    """``python tools/train_demo.py`` as a person types it, from the checkout."""
    command = [sys.executable, "tools/train_demo.py", str(texts / "train.txt")]
    command += ["--valid", str(texts / "valid.txt"), "--cache", str(texts / "cache")]
    command += ["--out", str(texts / "out"), *SHAPE, *RATES, *more]
    # Compiling is most of the work, and the runs compile the same.
    compiled_once = {
        "JAX_COMPILATION_CACHE_DIR": str(texts / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **compiled_once},
        capture_output=True,
        text=True,
        timeout=600,
    )


def losses(output: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"loss ([\d.]+)", output)]


@pytest.fixture(scope="module")
def first(texts) -> subprocess.CompletedProcess:
    """Twenty steps."""
    return run(texts, "--steps", "20", "--checkpoint", str(texts / "state.npz"))


@pytest.fixture(scope="module")
def second(texts, first) -> subprocess.CompletedProcess:
    """The same command with more steps, after the first has ended."""
    return run(texts, "--steps", "40", "--checkpoint", str(texts / "state.npz"))


@pytest.fixture
def here(texts, tmp_path, monkeypatch):
    """The script's main() in this process, which keeps its settings. Returns the exit status."""
    monkeypatch.setattr(train_demo, "prepare_cpu", lambda: None)

    def run_here(arguments: list[str]) -> int:
        command = [str(texts / "train.txt"), "--valid", str(texts / "valid.txt")]
        command += ["--cache", str(texts / "cache"), "--out", str(tmp_path / "out"), *SHAPE]
        try:
            return train_demo.main([*command, *arguments])
        except SystemExit as exit:  # argparse's own way
            return exit.code

    return run_here


# The script


def test_the_loss_goes_down(first):
    assert first.returncode == 0, first.stderr
    seen = losses(first.stdout)  # of the first step, then a mean of the others
    assert len(seen) == 2 and seen[-1] < seen[0] - 1
    assert re.search(r"step 20: validation [\d.]+ bits per byte, exported", first.stdout)
    assert re.search(r"[\d,]+ tokens/s", first.stdout)


def test_the_result_is_a_model_that_writes(texts, first):
    model = load_model(str(texts / "out"))
    assert model.hparams.to_dict() == {
        "n_vocab": 50257, "n_ctx": 16, "n_embd": 16, "n_head": 2, "n_layer": 1,
    }  # fmt: skip
    ids = model.encoder.encode("On day 3 the")
    logits = gpt2(ids, **model.params, n_head=2)
    assert logits.shape == (4, 50257) and np.isfinite(logits).all()
    assert len(generate(ids, model.params, 2, 8)) == 8


def test_the_file_is_float16(texts, first):
    path = texts / "out" / "model.safetensors"
    header = path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")]
    entries = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
    assert len(entries) == 2 + 12 + 2  # embeddings, one block, the last norm
    assert {entry["dtype"] for entry in entries} == {"F16"}


def test_the_validation_figure_is_that_of_the_exported_file(texts, first):
    """Measured anew, with the same windows end to end, by NumPy's forward pass."""
    logged = float(re.search(r"validation ([\d.]+) bits", first.stdout).group(1))
    model = load_model(str(texts / "out"))
    works = bits_per_byte.read_works(texts / "valid.txt")
    ids = bits_per_byte.encode_works(works, model.encoder)
    nats = 0.0
    for start in range(0, len(ids) - 1, 16):
        window = ids[start : start + 17]
        logits = gpt2(window[:-1], **model.params, n_head=2)
        nats += cross_entropies(logits, window[1:]).sum()
    n_bytes = len("".join(works).encode())
    # The second run goes on in the same folder only if it is better; this is the first's.
    assert nats / np.log(2) / n_bytes == pytest.approx(logged, abs=2e-4)


def test_it_goes_on_from_a_checkpoint(first, second):
    assert second.returncode == 0, second.stderr
    assert "going on from step 20" in second.stdout
    assert "step 21, " in second.stdout and "step 40, 100.0%" in second.stdout
    assert losses(second.stdout)[0] < losses(first.stdout)[0] - 1
    assert losses(second.stdout)[-1] < losses(first.stdout)[-1]


def test_it_starts_from_exported_weights(texts, first):
    later = run(texts, "--steps", "2", "--init-from", str(texts / "out"), "--out", str(texts / "b"))
    assert later.returncode == 0, later.stderr
    assert losses(later.stdout)[0] < losses(first.stdout)[0] - 1


def test_more_layers_start_from_the_same_predictions(texts, first):
    """One step at a learning rate of almost 0: the export is the first model, one layer deeper."""
    out = texts / "deeper"
    rates = ["--lr", "1e-12", "--lr-muon", "1e-12", "--n-layer", "2"]
    later = run(texts, "--steps", "1", "--init-from", str(texts / "out"), "--out", str(out), *rates)
    assert later.returncode == 0, later.stderr
    shallow, deep = load_model(str(texts / "out")), load_model(str(out))
    assert (shallow.hparams.n_layer, deep.hparams.n_layer) == (1, 2)
    ids = deep.encoder.encode("On day 3 the")
    logits = [gpt2(ids, **model.params, n_head=2) for model in (shallow, deep)]
    assert np.abs(logits[0] - logits[1]).max() < 1e-3
    assert (deep.params["blocks"][1]["mlp"]["c_fc"]["w"] != 0).all()


def test_dropout_and_weight_decay_train(here, tmp_path, texts, capsys):
    assert here(["--steps", "20", *RATES, "--dropout", "0.1", "--weight-decay", "0.1"]) == 0
    seen = losses(capsys.readouterr().out)
    assert seen[-1] < seen[0] - 1
    assert load_model(str(tmp_path / "out")).hparams.n_layer == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "say how long to train"),
        (["--steps", "0"], "--steps must be more than 0, not 0"),
        (["--steps", "1", "--dropout", "1"], "--dropout must be at least 0 and less than 1"),
        (["--steps", "1", "--weight-decay", "-1"], "--weight-decay must be at least 0"),
        (["--steps", "1", "--n-head", "3"], "the heads must divide the channels evenly"),
        (["--steps", "1", "--n-ctx", "4000"], "too few for one batch"),
        (["--steps", "1", "--rows", "8"], "make --rows larger"),
        (["--steps", "1", "--valid", "no_such.txt"], "the text no_such.txt cannot be read"),
        (["--steps", "1", "--init-from", "no_such_model"], "no_such_model"),
        (
            ["--steps", "1", "--init-from", "demo", "--n-layer", "3"],
            "layers, not of 3: change --n-layer",
        ),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(here, tmp_path, capsys, arguments, sentence):
    assert here([*arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_trainings_checkpoint_is_refused(here, texts, first, capsys):
    assert here(["--steps", "40", "--seed", "1", "--checkpoint", str(texts / "state.npz")]) == 2
    assert "is of another training" in capsys.readouterr().err


# Its parts


def test_an_epoch_is_every_window_once():
    n_ids, n_ctx, n_batch = 1000, 16, 5
    ids = np.arange(n_ids)
    n_steps = (n_ids - 1) // n_ctx // n_batch
    epochs = []
    for epoch in range(2):
        batches = [
            train_demo.batch_at(ids, epoch * n_steps + i, n_batch, n_ctx, seed=3)
            for i in range(n_steps)
        ]
        read = np.concatenate(batches)[:, :-1].ravel()
        assert len(set(read)) == len(read) == n_steps * n_batch * n_ctx
        assert all((np.diff(batch) == 1).all() for batch in batches)
        epochs.append(read.tolist())
    assert epochs[0] != epochs[1]
    again = train_demo.batch_at(ids, 0, n_batch, n_ctx, seed=3)
    assert again[:, :-1].ravel().tolist() == epochs[0][: n_batch * n_ctx]


def test_the_vocabulary_in_play_stands_for_all_of_it():
    """The weighted sum over the rows is, on average, the sum over every rank."""
    random = np.random.default_rng(0)
    ids = random.zipf(1.3, 20_000) % 3000
    vocabulary = train_demo.Vocabulary(ids, 5000)
    assert len(vocabulary) == len(set(ids))
    assert (vocabulary.gpt2_ids[vocabulary.rank[ids]] == ids).all()
    windows = vocabulary.rank[ids[:200]].reshape(2, 100)
    scores = random.standard_normal(len(vocabulary))
    sums = []
    for _ in range(300):
        rows, log_weight, renumbered = vocabulary.in_play(windows, 400, random)
        assert len(set(rows)) == len(rows) == len(log_weight) == 400
        assert set(range(200)) <= set(rows)
        assert (rows[renumbered] == windows).all()
        assert (log_weight[renumbered] == 0).all()
        sums.append(np.exp(scores[rows] + log_weight).sum())
    assert np.mean(sums) == pytest.approx(np.exp(scores).sum(), rel=0.01)


def test_a_small_vocabulary_is_in_play_whole():
    vocabulary = train_demo.Vocabulary(np.array([7, 7, 2, 9]), 10)
    rows, log_weight, _ = vocabulary.in_play(np.array([[0, 1]]), 4096, np.random.default_rng(0))
    assert sorted(rows) == [0, 1, 2] and not log_weight.any()


def test_exported_rows_are_gpt2s_ids():
    vocabulary = train_demo.Vocabulary(np.array([7, 7, 2, 9]), 10)
    wte = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]], np.float32)  # ids 7, 2, 9
    table = train_demo.whole_model({"wte": wte}, vocabulary, 10)["wte"]
    assert table[[7, 2, 9]].tolist() == wte.tolist()
    assert (table[[0, 1, 3, 4, 5, 6, 8]] == wte.mean(axis=0).astype(np.float16)).all()


def test_dropout_keeps_the_sum_on_average():
    """Whole rows of c_proj are dropped, about as many as asked for; nothing else changes."""
    import jax

    ones = np.ones((400, 3), np.float32)
    layer = {"w": ones, "b": ones[0]}
    block = {"attn": {"c_attn": layer, "c_proj": layer}, "mlp": {"c_fc": layer, "c_proj": layer}}
    params = {"wte": ones, "blocks": [block, block]}
    dropped = train_demo.with_dropout(params, 0.25, jax.random.key(1))
    masks = []
    for block in dropped["blocks"]:
        for part, inner in (("attn", "c_attn"), ("mlp", "c_fc")):
            w = np.asarray(block[part]["c_proj"]["w"])
            assert (block[part][inner]["w"] == 1).all() and (block[part]["c_proj"]["b"] == 1).all()
            assert set(np.unique(w)) == {0, np.float32(1 / 0.75)}
            assert (w == w[:, :1]).all()
            assert w.mean() == pytest.approx(1, abs=0.15)
            masks.append(tuple(w[:, 0]))
    assert len(set(masks)) == 4
    assert (dropped["wte"] == 1).all()


def test_a_deeper_model_repeats_the_middle_layers():
    rng = np.random.default_rng(0)

    def block(i):
        layer = {"w": rng.normal(size=(2, 2)), "b": rng.normal(size=2)}
        part = {"c_attn": layer, "c_fc": layer, "c_proj": layer}
        return {"name": np.array(i), "attn": dict(part), "mlp": dict(part)}

    blocks = [block(i) for i in range(4)]
    for n_layer, order in [(None, [0, 1, 2, 3]), (5, [0, 1, 1, 2, 3]), (6, [0, 1, 1, 2, 2, 3])]:
        deep = train_demo.deeper(blocks, n_layer)
        assert [int(block["name"]) for block in deep] == order
        n_silent = sum(not block["mlp"]["c_proj"]["w"].any() for block in deep)
        assert n_silent == len(order) - 4
    for n_layer in (0, 3, 9):
        with pytest.raises(InputError, match="of 4 to 8 layers"):
            train_demo.deeper(blocks, n_layer)


def test_the_learning_rate_rises_and_falls():
    scale = train_demo.learning_rate_scale
    assert scale(0.0, 0, 10) == pytest.approx(0.1)
    assert scale(0.0, 9, 10) == scale(0.0, 500, 10) == 1
    assert scale(0.5, 500, 10) == pytest.approx(0.5)
    assert scale(1.0, 500, 10) == scale(1.2, 500, 10) == pytest.approx(0.0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_file_half_written_leaves_nothing_behind(tmp_path, error):
    """Whether by Ctrl-C or because the disk is full: checkpoints are large."""
    path = tmp_path / "state.npz"
    path.write_bytes(b"the one before")

    def write(file):
        file.write(b"half of it")
        raise error

    with pytest.raises(error):
        train_demo.write_whole(path, write)
    assert [file.name for file in tmp_path.iterdir()] == ["state.npz"]
    assert path.read_bytes() == b"the one before"


# What the figures are measured with


@pytest.mark.parametrize(
    ("text", "works"),
    [
        ("one\n<|endoftext|>\ntwo\n", ["one", "two\n"]),
        ("one", ["one"]),
        ("one\n<|endoftext|>\n<|endoftext|>\ntwo", ["one", "two"]),
        ("<|endoftext|>\none\n\n<|endoftext|>\n \n<|endoftext|>\ntwo", ["one\n", "two"]),
        ("one\n<|endoftext|>", ["one"]),
        ("\none\n<|endoftext|>\n", ["\none"]),
        ("a <|endoftext|>\n<|endoftext|> b\n", ["a <|endoftext|>\n<|endoftext|> b\n"]),
    ],
)
def test_works_are_what_lies_between_the_lines(tmp_path, text, works):
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    assert bits_per_byte.read_works(tmp_path / "text.txt") == works


def test_only_bytes_of_the_text_are_counted(texts, capsys):
    path = texts / "train.txt"
    assert bits_per_byte.main([str(path), "--baselines", str(path)]) == 0
    n_bytes = path.stat().st_size - len("\n<|endoftext|>\n")
    assert f"{path.name}: {n_bytes:,} bytes, " in capsys.readouterr().out


def test_a_trigram_model_is_a_distribution():
    random = np.random.default_rng(1)
    train = random.zipf(1.5, 3000) % 40
    trigram = bits_per_byte.Trigram(train, 50)
    every = np.arange(50)
    for a, b in [(0, 1), (1, 1), (3, 49), (49, 49), (train[-2], train[-1])]:
        p = trigram.probabilities(np.full(50, a), np.full(50, b), every)
        assert p.sum() == pytest.approx(1) and (p > 0).all()
    seen = trigram.probabilities(train[:-2], train[1:-1], train[2:])
    assert np.log(seen).mean() > -np.log(50)


def test_a_trigram_model_by_hand():
    """0 1 0 1 0 2: after 0 1 came 0 twice; every number below follows from the definition."""
    trigram = bits_per_byte.Trigram(np.array([0, 1, 0, 1, 0, 2]), 3)
    # Trigrams 010 ×2, 101 ×1, 102 ×1; discount 2 / (2 + 2·1) = 1/2.
    # Bigrams by how many tokens come before: 10, 01, 02, once each; discount 1.
    # Unigrams alike: 0, 1, 2, once each; discount 1.
    p0 = 3 * 1 / 3 * 1 / 3  # all discounted, shared equally: 1/3
    p10 = 1 * 1 / 1 * p0  # after 1 only 0 was seen, all of it discounted
    p010 = (2 - 0.5) / 2 + 0.5 * 1 / 2 * p10
    assert trigram.probabilities([0], [1], [0]) == pytest.approx(p010)
    assert trigram.probabilities([2], [2], [0]) == pytest.approx(p0)  # never seen: falls back


def cross_entropies(logits, wanted):
    """``-ln softmax(logits)[wanted]`` a row. ``[n, n_vocab], [n] -> [n]``"""
    largest = logits.max(axis=-1)  # [n]
    total = np.log(np.exp(logits - largest[:, None]).sum(axis=-1, dtype=np.float64)) + largest
    return total - logits[np.arange(len(wanted)), wanted]


def test_overlapping_windows_measure_every_token_once(texts, first):
    model = load_model(str(texts / "out"))
    ids = np.array(default_encoder().encode(tale(3)))[:41]
    alone = []  # each token's -ln p, after as many as the windows give it
    for at in range(1, len(ids)):
        start = 0 if at < 16 else 8 * -(-(at - 15) // 8)
        logits = gpt2(ids[start:at], **model.params, n_head=2)
        alone.append(cross_entropies(logits[-1:], ids[at : at + 1])[0])
    assert bits_per_byte.model_nats(model, ids) == pytest.approx(sum(alone), rel=1e-4)


def test_the_figures_are_printed(texts, first, capsys):
    text, train = str(texts / "valid.txt"), str(texts / "train.txt")
    assert bits_per_byte.main([text, "--model", str(texts / "out"), "--baselines", train]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["model", "unigram", "trigram,", "xz", "xz"]
    assert all(re.search(r" \d+\.\d{3} bits per byte", line) for line in lines[1:])


def test_a_text_that_cannot_be_read_is_told_in_a_sentence(tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("\n<|endoftext|>\n\n", encoding="utf-8")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    for name, sentence in [("empty.txt", "is empty"), ("latin1.txt", "cannot be read")]:
        assert bits_per_byte.main([str(tmp_path / name), "--model", "demo"]) == 2
        said = capsys.readouterr().err
        assert sentence in said and name in said
