"""The benchmarks' own machinery: processes that die are told, files are whole or not there."""

import json
import os
import sys
import threading
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from bench import __main__ as bench
from bench import arena, inside, memory, peers, shapes
from bench.child import Child, ProcessEnded
from gpt2core.hparams import HParams

SMALL = HParams(n_vocab=11, n_ctx=4, n_embd=4, n_head=2, n_layer=1)


def in_time(function, *args):
    """What ``function`` returns or raises, or a failure after a minute: never a hanging test."""
    outcome = []

    def call():
        try:
            outcome.append((function(*args), None))
        except (Exception, SystemExit) as error:
            outcome.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(60)
    assert outcome, "it still waits"
    result, error = outcome[0]
    if error:
        raise error
    return result


# Processes


class Echo(peers.Peer):
    """Writes the prompts once more."""

    def __init__(self, directory, threads, n_slots):
        pass

    def run(self, prompts, n_tokens):
        return prompts, 1.0, 2.0


class DiesAtTheStart(Echo):
    def __init__(self, directory, threads, n_slots):
        os._exit(7)


class DiesAtWork(Echo):
    def run(self, prompts, n_tokens):
        os._exit(8)


class Fails(Echo):
    def __init__(self, directory, threads, n_slots):
        raise ValueError("no such luck")


STRANGE = {cls.__name__: cls for cls in (Echo, DiesAtTheStart, DiesAtWork, Fails)}
live = arena.live


def live_strangely(*args):
    """``arena.live`` in a process that knows the peers above."""
    peers.PEERS.update(STRANGE)
    live(*args)


@pytest.fixture
def strange(monkeypatch, tmp_path):
    """An arena of the peers of these names."""
    monkeypatch.setattr(arena, "live", live_strangely)
    for name, cls in STRANGE.items():
        monkeypatch.setitem(peers.PEERS, name, cls)
    return lambda *names: arena.Arena(list(names), tmp_path, 1, 1)


def test_peers_that_cannot_start_are_told_and_the_others_run(strange, capfd):
    with in_time(strange, "DiesAtTheStart", "Fails", "Echo") as opened:
        assert opened.call("Echo", [[1, 2]], 1) == ([[1, 2]], 1.0, 2.0)
        assert list(opened.race([[1]], 1, 1)) == ["Echo"]
    said = capfd.readouterr().err
    sentence = "DiesAtTheStart's process ended without an answer (exit code 7)."
    assert f"DiesAtTheStart cannot run:\n{sentence}" in said
    assert "Fails cannot run:\nTraceback" in said and "no such luck" in said


def test_a_peer_that_dies_at_work_is_told_and_does_not_stop_the_end(strange):
    sentence = r"^DiesAtWork's process ended without an answer \(exit code 8\)\.$"
    with in_time(strange, "DiesAtWork", "Echo") as opened:
        for _ in range(2):  # the second time, nobody is there even to be asked
            with pytest.raises(ProcessEnded, match=sentence):
                in_time(opened.call, "DiesAtWork", [[1]], 1)
        assert opened.call("Echo", [[1]], 1)


def kill_itself(pipe):
    pipe.recv()
    os.kill(os.getpid(), 9)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_killed_process_is_told_with_its_signal():
    child = Child("the worker", kill_itself)
    child.send("go")
    with pytest.raises(ProcessEnded, match=r"\(killed by signal 9\)\. .*fewer peers"):
        in_time(child.receive)


def run_bench(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    bench.main()


def makes_nothing(directory, pipe):
    pipe.send(None)


@pytest.mark.parametrize(
    "make_files, name", [(memory.make_files, "the packer"), (makes_nothing, "worker 1")]
)
def test_a_packer_or_a_worker_that_dies_is_reported(monkeypatch, tmp_path, make_files, name):
    """They do here because their model's file is no such file."""
    monkeypatch.setattr(bench.shapes, "write_model", lambda directory, hparams: None)
    monkeypatch.setattr(memory, "can_weigh", lambda: True)
    monkeypatch.setattr(memory, "make_files", make_files)
    directory = tmp_path / "bench-demo"
    directory.mkdir()
    (directory / "hparams.json").write_text(json.dumps(SMALL.to_dict()))
    (directory / "model.safetensors").write_bytes(b"none")
    with pytest.raises(SystemExit, match=rf"^bench: {name}'s process ended without an answer"):
        in_time(run_bench, monkeypatch, "memory", "--shape", "demo", "--models", str(tmp_path))


def makes_a_file(directory, pipe):
    (directory / "made").touch()
    pipe.send(None)


def reports_the_file(directory, n_slots, pipe):
    """Stands for a worker: its sizes are 1 if the file was there at its start, else 0."""
    found = float((directory / "made").exists())
    for _ in range(3):
        pipe.recv()
        pipe.send(dict.fromkeys((*memory.KINDS, "Peak"), found))
    pipe.recv()


def test_workers_start_when_another_process_has_packed_the_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "make_files", makes_a_file)
    monkeypatch.setattr(memory, "worker", reports_the_file)
    rows = in_time(memory.measure, tmp_path, 2, 1)
    assert [row["peak_of_one_mb"] for row in rows] == [1, 1, 1]
    assert [row["together_mb"] for row in rows] == [2, 2, 2]


@pytest.mark.skipif(not memory.can_weigh(), reason="only Linux reports what a process has")
def test_a_worker_reports_the_most_memory_it_has_had(monkeypatch, tmp_path):
    shapes.write_model(tmp_path, HParams(n_vocab=300, n_ctx=256, n_embd=4, n_head=2, n_layer=1))
    monkeypatch.setenv("GPT2_KERNELS", "off")  # loading them would take longer than the rest
    peaks = [row["peak_of_one_mb"] for row in in_time(memory.measure, tmp_path, 1, 2)]
    assert peaks == sorted(peaks) and peaks[0] > 10  # MB: an interpreter with NumPy
    before = memory.weigh()["Peak"]
    np.ones(2**24)  # 128 MB, freed at once
    assert memory.weigh()["Peak"] >= max(before, memory.weigh()["Rss"] + 100)


def test_memory_says_that_it_needs_linux(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "SMAPS", tmp_path / "smaps_rollup")
    monkeypatch.setattr(memory, "measure", lambda *args, **named: pytest.fail("it measured"))
    with pytest.raises(SystemExit, match=r"^bench: memory needs Linux: there is no .*\.$"):
        run_bench(monkeypatch, "memory", "--shape", "demo", "--models", str(tmp_path))
    assert not list(tmp_path.iterdir())


# Files


@pytest.fixture
def model(tmp_path) -> Path:
    shapes.write_model(tmp_path, SMALL)
    return tmp_path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_model_interrupted_is_made_good_by_the_next_run(monkeypatch, tmp_path):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(HParams, "to_dict", interrupt)
        shapes.write_model(tmp_path, SMALL)
    shapes.write_model(tmp_path, SMALL)
    assert names(tmp_path) == ["hparams.json", "model.safetensors"]
    assert shapes.read_hparams(tmp_path) == SMALL


def gguf_writer(path, _):
    """Stands for gguf's: begins the file at once."""
    path.write_bytes(b"half")
    return MagicMock()


def gguf_writer_interrupted(path, name):
    writer = gguf_writer(path, name)
    writer.write_tensors_to_file.side_effect = interrupt
    return writer


def test_a_gguf_file_interrupted_is_written_anew(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "gguf", gguf := MagicMock())
    before, gguf.GGUFWriter = names(model), gguf_writer_interrupted
    with pytest.raises(KeyboardInterrupt):
        shapes.write_gguf(model)
    assert names(model) == before
    gguf.GGUFWriter = gguf_writer
    assert shapes.write_gguf(model) == model / "model.gguf"
    assert names(model) == sorted([*before, "model.gguf"])


def test_a_ctranslate2_folder_interrupted_is_written_anew(monkeypatch, model):
    specs, spec = MagicMock(), MagicMock()
    specs.transformer_spec.TransformerDecoderModelSpec.from_config.return_value = spec
    spec.decoder.layer = [MagicMock()] * SMALL.n_layer
    monkeypatch.setitem(sys.modules, "ctranslate2", MagicMock())
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", specs)
    before, spec.save.side_effect = names(model), interrupt
    with pytest.raises(KeyboardInterrupt):
        shapes.write_ctranslate2(model)
    assert names(model) == before
    spec.save.side_effect = lambda folder: (Path(folder) / "model.bin").write_bytes(b"whole")
    assert shapes.write_ctranslate2(model) == model / "ctranslate2"
    assert names(model / "ctranslate2") == ["model.bin"]
    assert names(model) == sorted([*before, "ctranslate2"])


# Inside views


def test_each_part_of_the_inside_views_is_timed_on_a_text_of_any_length(tmp_path):
    shapes.write_model(tmp_path, SMALL)
    for ids in ([1], [1, 2, 3, 4]):
        rows = inside.measure(tmp_path, ids, rounds=2)
        assert {row["tokens"] for row in rows} == {len(ids)}
        assert all(row["ms"] > 0 for row in rows)
        assert f"lens of {len(ids)} tokens" in {row["part"] for row in rows}
