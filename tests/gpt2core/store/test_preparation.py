"""The progress of preparing a model, in figures and in a sentence."""

import pytest

from gpt2core.store import preparation
from gpt2core.store.folder import Progress
from gpt2core.store.preparation import (
    LoadCancelled,
    LoadProgress,
    folder_fingerprint,
    prepare_engine,
)


@pytest.fixture
def report(monkeypatch):
    """``report(seconds, phase, done)``: what ``prepare_model`` reports, and when."""
    made = LoadProgress()

    def report(seconds, phase, done, total=500_000_000):
        monkeypatch.setattr(preparation, "monotonic", lambda: 1000.0 + seconds)
        made.update(Progress(phase, "a file", done, total))
        return made

    return report


def test_before_any_report_the_model_is_loading():
    assert LoadProgress().message == "The model is being loaded."
    assert LoadProgress().seconds_left is None


def test_rate_and_time_left_follow_from_the_reports(report):
    report(0, "download", 100_000_000)
    made = report(10, "download", 200_000_000)
    assert made.rate == 10_000_000
    assert made.seconds_left == 30 + preparation.CONVERSION_SECONDS
    assert made.message == (
        "The model is being downloaded: 200 MB of 500 MB, 10 MB/s, ready in about 45 s."
    )


def test_a_rate_over_half_a_second_or_less_is_not_reported(report):
    """The first bytes come from a buffer: they would promise a download in no time."""
    report(0, "download", 0)
    made = report(0.5, "download", 100_000_000)
    assert made.rate == 0 and made.seconds_left is None
    assert made.message == "The model is being downloaded: 100 MB of 500 MB."
    assert report(0.625, "download", 125_000_000).rate == 200_000_000


def test_a_download_that_starts_over_starts_its_figures_over(report):
    report(0, "download", 0)
    report(10, "download", 400_000_000)
    made = report(10.2, "download", 1_000_000)  # the server ignored the range
    assert made.rate == 0 and made.seconds_left is None
    assert "-" not in made.message
    made = report(20.2, "download", 101_000_000)
    assert made.rate == 10_000_000


def test_each_phase_has_figures_of_its_own(report):
    report(0, "download", 0)
    report(10, "download", 500_000_000)
    made = report(11, "convert", 0)
    assert made.message == "The model is being converted: 0 bytes of 500 MB."
    assert report(13, "convert", 250_000_000).seconds_left == 3


def test_after_download_and_conversion_the_model_is_loading(report):
    report(0, "download", 0)
    made = report(10, "download", 500_000_000)
    made.finish()
    assert made.message == "The model is being loaded."
    assert made.rate == 0 and made.seconds_left is None


def test_a_cancelled_attempt_ends_at_its_next_report(report):
    made = report(0, "download", 0)
    made.cancel()
    with pytest.raises(LoadCancelled):
        report(1, "download", 1_000_000)


def test_an_engine_is_prepared_with_as_many_slots_as_requested(tmp_path):
    model, engine = prepare_engine("demo", tmp_path, 3, LoadProgress())
    assert model.name == "demo"
    assert engine.n_slots == 3 and engine.hparams == model.hparams


@pytest.mark.parametrize("name", ["tokenizer.json", "merges.txt", "model-1.safetensors"])
def test_the_fingerprint_changes_with_every_file_that_a_model_is_read_from(tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"123")
    first = folder_fingerprint("mine", tmp_path)
    (tmp_path / "mine" / "notes.md").write_bytes(b"123")
    assert folder_fingerprint("mine", tmp_path) == first
    (tmp_path / "mine" / name).write_bytes(b"{}")
    assert folder_fingerprint("mine", tmp_path) != first


def test_the_fingerprint_changes_with_the_weights_file(tmp_path):
    assert folder_fingerprint("mine", tmp_path) is None
    assert folder_fingerprint("n" * 300, tmp_path) is None
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "model.safetensors"
    path.write_bytes(b"123")
    first = folder_fingerprint("mine", tmp_path)
    path.write_bytes(b"1234")
    assert first != folder_fingerprint("mine", tmp_path) is not None
