"""How far a model is from being ready, in words that are never nonsense."""

import pytest

from gpt2core.store import preparation
from gpt2core.store.folder import Progress
from gpt2core.store.preparation import Preparation


@pytest.fixture
def report(monkeypatch):
    """``report(seconds, phase, done)``: what ``prepare_model`` reports, and when."""
    made = Preparation()

    def report(seconds, phase, done, total=500_000_000):
        monkeypatch.setattr(preparation.time, "monotonic", lambda: 1000.0 + seconds)
        made.report(Progress(phase, "a file", done, total))
        return made

    return report


def test_before_any_report_the_model_is_loading():
    assert Preparation().sentence == "The model is being loaded."
    assert Preparation().seconds_left is None


def test_rate_and_time_left_follow_from_the_reports(report):
    report(0, "download", 100_000_000)
    made = report(10, "download", 200_000_000)
    assert made.rate == 10_000_000
    assert made.seconds_left == 30 + preparation.CONVERSION_SECONDS
    assert made.sentence == (
        "The model is being downloaded: 200 MB of 500 MB, 10 MB/s, ready in about 45 s."
    )


def test_a_download_that_starts_over_starts_its_figures_over(report):
    report(0, "download", 0)
    report(10, "download", 400_000_000)
    made = report(10.2, "download", 1_000_000)  # the server ignored the range
    assert made.rate == 0 and made.seconds_left is None
    assert "-" not in made.sentence
    made = report(20.2, "download", 101_000_000)
    assert made.rate == 10_000_000


def test_each_phase_has_figures_of_its_own(report):
    report(0, "download", 0)
    report(10, "download", 500_000_000)
    made = report(11, "convert", 0)
    assert made.sentence == "The model is being converted: 0 bytes of 500 MB."
    assert report(13, "convert", 250_000_000).seconds_left == 3
