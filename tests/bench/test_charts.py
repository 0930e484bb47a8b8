"""The charts' figures are those of the races, and a chart shows the figures it is given."""

import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from bench import __main__ as bench
from bench import arena, figures, peers, shapes
from bench.arena import Result
from gpt2core.hparams import HParams

# 12 * 16 + 13 * 4 weights of the layer, (11 + 64) * 4 of both embeddings, 8 of the last norm.
TINY = HParams(n_vocab=11, n_ctx=64, n_embd=4, n_head=2, n_layer=1)
TINY_PARAMS = 552
# More bytes than a disk has.
HUGE = HParams(n_vocab=11, n_ctx=64, n_embd=10**7, n_head=2, n_layer=1)


class Steady(peers.Peer):
    """Writes the prompts once more, and takes two seconds for all tokens but the first."""

    def __init__(self, directory, threads, n_slots):
        pass

    def run(self, prompts, n_tokens):
        return prompts, 1.0, 2.0


live = arena.live


def live_steadily(*args):
    """``arena.live`` in a process whose peers are all steady."""
    peers.PEERS.update(dict.fromkeys(peers.PEERS, Steady))
    live(*args)


@pytest.fixture
def measured(monkeypatch, tmp_path, capsys):
    """Figures of steady engines with tiny models, and what was reported on stderr."""
    for name in peers.PEERS:
        monkeypatch.setitem(peers.PEERS, name, Steady)
    monkeypatch.setattr(arena, "live", live_steadily)
    monkeypatch.setitem(shapes.SHAPES, "tiny", TINY)
    monkeypatch.setitem(shapes.SHAPES, "huge", HUGE)
    monkeypatch.setattr(figures, "SEQUENCES", (1, 8))
    plan = figures.Plan("tiny", ("tiny", "huge"), 1, 2, 32, tmp_path, keep=False)
    found = figures.measure(plan)
    assert not list(tmp_path.iterdir())  # the models' folders are removed
    return found, capsys.readouterr().err


def test_the_figures_are_those_of_every_race_and_need_no_more_room_than_there_is(measured):
    found, reported = measured
    assert "huge is left out: the disk of" in reported
    assert found["command"] == (
        "python -m bench charts --shape tiny --sizes tiny,huge --threads 1 --rounds 2 --n_tokens 32"
    )
    charts = found["charts"]
    assert [point["x"] for point in charts["sequences"]] == [1, 8]
    assert [point["x"] for point in charts["length"]] == [32]  # 256 do not fit into 64
    assert [(point["x"], point["label"]) for point in charts["sizes"]] == [(TINY_PARAMS, "tiny")]
    one, eight = (point["rates"] for point in charts["sequences"])
    assert set(one) == set(figures.ENGINES)
    assert one["gpt2core"] == {"quartile_1": 15.5, "median": 15.5, "quartile_3": 15.5}
    assert eight["llama-cpp-q8"]["median"] == 8 * 15.5
    assert set(charts["sizes"][0]["rates"]) == set(figures.OURS)


def test_a_bound_is_the_bandwidth_over_the_bytes_that_a_step_reads():
    results = {
        "gpt2core": Result([0.1] * 3, [4.0, 2.0, 1.0]),
        "gpt2core-int8": Result([0.1] * 3, [1.0] * 3),
        "roofline": Result([0.1] * 3, [9.0, 1.0, 0.5]),
    }
    point = figures.point(results, TINY, n_sequences=2, n_prompt=10, n_tokens=5)
    bandwidth = 4 * (4 * TINY_PARAMS) / 1.0  # four steps, each of all float32 weights, a second
    assert point["bandwidth_gb_per_s"] == pytest.approx(bandwidth / 1e9)
    assert point["rates"]["gpt2core"]["median"] == 2 * 4 / 2.0
    assert point["rates"]["gpt2core"]["quartile_3"] == pytest.approx((4 + 8) / 2)
    keys_and_values = (10 + 2.5) * 2 * 4 * 4  # of a token: two rows of 4 float32
    assert point["bounds"] == pytest.approx(
        {
            "float32": bandwidth / (4 * TINY_PARAMS + keys_and_values),
            "int8": bandwidth / (TINY_PARAMS + keys_and_values),
        }
    )


def run_bench(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    bench.main()


def test_charts_without_matplotlib_end_with_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"^bench: charts needs Matplotlib \(.*\)\.$"):
        run_bench(monkeypatch, "charts", "--out", str(tmp_path))
    assert not list(tmp_path.iterdir())


def point(x: int, rates: tuple[float, ...], **label: str) -> dict:
    """A point as ``figures.json`` has it."""
    spreads = [{"quartile_1": r * 0.9, "median": r, "quartile_3": r * 1.1} for r in rates]
    return {
        "x": x,
        **label,
        "bandwidth_gb_per_s": 36.0,
        "rates": dict(zip(figures.ENGINES, spreads, strict=False)),
        "bounds": {"float32": 1000.0, "int8": 2000.0, "Q8_0": 1900.0},
    }


def test_charts_are_drawn_from_the_figures_alone_and_alike_each_time(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="needs Matplotlib (requirements-bench.txt)")
    charts = {
        "sequences": [point(1, (61, 211, 411, 811)), point(8, (113, 313, 513, 913))],
        "length": [point(32, (67, 217, 417, 817)), point(992, (119, 319, 519, 919))],
        "sizes": [
            point(124_000_000, (122, 322), label="124M"),
            point(355_000_000, (31, 131), label="355M"),
        ],
    }
    facts = {"command": "", "processor": "A & B <C>", "threads": 2, "rounds": 5, "shape": "124M"}
    (tmp_path / figures.FILE).write_text(json.dumps({**facts, "charts": charts}))
    drawn = []
    for _ in range(2):
        run_bench(monkeypatch, "charts", "--redraw", "--out", str(tmp_path))
        drawn.append({path.name: path.read_bytes() for path in tmp_path.glob("*.svg")})
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {"sequences.svg", "length.svg", "sizes.svg"}
    for name, points in charts.items():
        picture = ElementTree.fromstring(drawn[0][f"{name}.svg"])
        texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
        medians = {str(rate["median"]) for p in points for rate in p["rates"].values()}
        assert medians <= set(texts)
        assert {"tokens a second", "gpt2core, int8"} <= set(texts)
        assert any("A & B <C>, 2 threads" in text for text in texts)
        assert picture.findtext("{http://www.w3.org/2000/svg}title").startswith("Tokens a second")
        assert b"<dc:date>" not in drawn[0][f"{name}.svg"]
