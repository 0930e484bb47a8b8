"""What int8 costs is measured on the windows and with the scores of ``gpt2core.scoring``."""

import math
import sys

import pytest

from bench import __main__ as bench
from bench import quality
from tools import bits_per_byte

WORKS = """\
Once upon a time there was a little boat named Tim. Tim lived on a blue lake near the woods.
Every day he carried Mia and her brother Sam to the island, where they picked red berries.
One day the wind was strong and the waves were big. "I am scared," said Sam. "Hold my hand,"
said Mia, "and we will sing a song." They sang until the wind was quiet and the sun came out.
Tim was happy, because his friends were safe. They ate their berries and went home to their mom.
<|endoftext|>
Lily had a small dog named Max. Max liked to dig in the garden. One morning he found a shiny key
under a tree. Lily looked at the key and asked, "What does it open?" They tried the door of the
house, but the key was too small. They tried the box in the kitchen, but it was open already.
Then Lily saw an old chest in the attic. The key fit! In the chest there was a soft blanket and
a ball. Max took the ball and ran outside. Lily laughed and played with him all day long.
<|endoftext|>
There was a bear who could not sleep. He asked the owl for help. "Count the stars," said the owl.
The bear counted one, two, three, but then a cloud came. He asked the frog. "Listen to the rain,"
said the frog. But there was no rain. At last he asked his mom. She gave him a big hug and a cup
of warm milk. The bear closed his eyes and was asleep before she could say good night.
"""


@pytest.fixture
def text(tmp_path):
    """Three works of half a kilobyte each: more than one window of the bundled model."""
    path = tmp_path / "text.txt"
    path.write_text(WORKS)
    return path


def test_int8_costs_little_and_float32_is_the_measure(text, demo):
    rows = {row["name"]: row for row in quality.measure(demo, text, threads=1)}
    works = bits_per_byte.read_works(text)
    ids = bits_per_byte.encode_works(works, demo.encoder)
    bits = bits_per_byte.model_nats(demo, ids) / math.log(2)
    reference, int8 = rows["gpt2core"], rows["gpt2core-int8"]
    assert reference["places"] == int8["places"] == len(ids) - 1 > demo.hparams.n_ctx
    assert reference["bits_per_byte"] == pytest.approx(
        bits / sum(len(work.encode()) for work in works), rel=1e-5
    )
    assert reference["percent_more"] == reference["largest_logit_difference"] == 0
    assert reference["same_likeliest_percent"] == 100
    assert abs(int8["percent_more"]) < 0.3
    assert 90 < int8["same_likeliest_percent"] <= 100
    assert 0 < int8["largest_logit_difference"] < 3


def test_quality_asks_for_a_text(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench", "quality"])
    with pytest.raises(SystemExit, match=r"^bench: quality needs a text: --text FILE\.$"):
        bench.main()
