"""Draws the charts of ``docs/performance.md`` from the figures of ``figures.py``, as SVG.

The only module that needs Matplotlib. Text stays text, so that a chart can be read aloud and
searched; series differ in colour, marker and kind of line. Charts have a white background of their
own, because a page around them may be dark.

Invariant: the same figures give the same files, byte for byte.
"""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from gpt2core.files import atomic_write

SIZE = (7.3, 5.0)  # inches; 700 pixels wide
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# Label, colour and marker of an engine. The colours (Okabe and Ito, 2008) are told apart with
# all kinds of colour vision.
ENGINES = {
    "gpt2core": ("gpt2core, float32", "#0072b2", "o"),
    "gpt2core-int8": ("gpt2core, int8", "#d55e00", "s"),
    "llama-cpp": ("llama.cpp, F32", "#009e73", "^"),
    "llama-cpp-q8": ("llama.cpp, Q8_0", "#aa4499", "D"),
}
# Colour and kind of line of a bound.
BOUNDS = {
    "float32": ("#0072b2", (0, (5, 2))),
    "int8": ("#d55e00", (0, (1, 1.5))),
    "Q8_0": ("#aa4499", (0, (5, 2, 1, 2))),
}
# Distances of a number from its point and from anything else above or below, in points.
NUMBER_GAP, NUMBER_HEIGHT = 10, 9


def draw_all(figures: dict, folder: Path) -> list[Path]:
    """Write a chart for each part of ``figures`` that has points; returns their files."""
    paths = []
    for name, draw in CHARTS.items():
        points = figures["charts"][name]
        if points:
            paths.append(folder / f"{name}.svg")
            with matplotlib.rc_context(SETTINGS):
                figure, title, description = draw(points, figures)
                save(figure, paths[-1], title, description)
    return paths


def save(figure: Figure, path: Path, title: str, description: str) -> None:
    """Write the SVG file."""
    metadata = {"Title": title, "Description": description, "Date": None}
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="svg", facecolor="white", metadata=metadata)


def draw_sequences(points: list[dict], figures: dict) -> tuple[Figure, str, str]:
    title = f"Tokens a second by number of sequences, {figures['shape']}"
    figure, axes = new_chart(title, figures)
    draw_engines(axes, points)
    x = points[0]["x"]
    for precision, rate in points[0]["bounds"].items():
        color, line = BOUNDS[precision]
        label = f"bound of memory, one sequence, {precision}"
        axes.plot([x, x * 1.2], [rate, rate], color=color, linestyle=line, label=label)
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    finish(figure, axes, points, "sequences at once")
    return figure, title, describe(points, "sequences")


def draw_length(points: list[dict], figures: dict) -> tuple[Figure, str, str]:
    title = f"Tokens a second of one sequence by its length, {figures['shape']}"
    figure, axes = new_chart(title, figures)
    draw_engines(axes, points)
    draw_bounds(axes, points)
    axes.set_ylim(bottom=0)
    finish(figure, axes, points, "tokens in the context")
    return figure, title, describe(points, "tokens in the context")


def draw_sizes(points: list[dict], figures: dict) -> tuple[Figure, str, str]:
    title = "Tokens a second of one sequence by size of the model"
    figure, axes = new_chart(title, figures)
    draw_engines(axes, points)
    draw_bounds(axes, points)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.07, y=0.1)
    finish(figure, axes, points, "parameters of the model")
    return figure, title, describe(points, "parameters")


CHARTS = {"sequences": draw_sequences, "length": draw_length, "sizes": draw_sizes}


def new_chart(title: str, figures: dict):
    """A figure with its axes, and below the title what was measured where."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=20)
    facts = f"{figures['processor']}, {figures['threads']} threads, random weights; "
    facts += f"medians and quartiles of {figures['rounds']} rounds"
    axes.text(0, 1.02, facts, transform=axes.transAxes, fontsize=8.5, color="#444444")
    axes.set_ylabel("tokens a second")
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.07)
    return figure, axes


def draw_engines(axes, points: list[dict]) -> None:
    """A line for each engine, with its quartiles."""
    for name in points[0]["rates"]:
        label, color, marker = ENGINES[name]
        x = [point["x"] for point in points]
        rates = [point["rates"][name] for point in points]
        y = [rate["median"] for rate in rates]
        errors = [
            [rate["median"] - rate["quartile_1"] for rate in rates],
            [rate["quartile_3"] - rate["median"] for rate in rates],
        ]
        axes.errorbar(
            x, y, errors, color=color, marker=marker, markersize=5, capsize=2, label=label
        )


def draw_bounds(axes, points: list[dict]) -> None:
    """A line for each precision: what the bandwidth of memory allows."""
    for precision in points[0]["bounds"]:
        color, line = BOUNDS[precision]
        axes.plot(
            [point["x"] for point in points],
            [point["bounds"][precision] for point in points],
            color=color, linestyle=line, label=f"bound of memory, {precision}",
        )  # fmt: skip


def finish(figure: Figure, axes, points: list[dict], x_label: str) -> None:
    """What is the same in all charts: ticks, the legend, numbers at the points."""
    labels = [point.get("label", f"{point['x']:,}") for point in points]
    axes.set_xticks([point["x"] for point in points], labels)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(x_label)
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: names[i].startswith("bound"))
    figure.legend(
        [handles[i] for i in order], [names[i] for i in order],
        loc="outside lower center", ncols=2, frameon=False,
    )  # fmt: skip
    figure.draw_without_rendering()  # decides where everything stands
    for i, point in enumerate(points):
        side = {0: -1, len(points) - 1: 1}.get(i, 0)
        add_numbers(axes, point, side)


def add_numbers(axes, point: dict, side: int) -> None:
    """The medians of one point: above, below, or, if -1 or 1, on that ``side``.

    A number for which no place is free is left out; the chart's description has all.
    """

    def height(rate: float) -> float:
        """In points, 1/72 of an inch."""
        return axes.transData.transform((point["x"], rate))[1] * 72 / axes.figure.dpi

    rates = {name: rate["median"] for name, rate in point["rates"].items()}
    taken = [(0, height(rate)) for rate in (*rates.values(), *point["bounds"].values())]
    for name, rate in rates.items():
        places = [(0, NUMBER_GAP), (0, -NUMBER_GAP), *([(side, 0)] if side else [])]
        for column, offset in places:
            at = height(rate) + offset
            if all(column != c or abs(at - h) >= NUMBER_HEIGHT for c, h in taken):
                taken.append((column, at))
                axes.annotate(
                    number(rate), (point["x"], rate), (7 * column, offset),
                    textcoords="offset points", ha={-1: "right", 0: "center", 1: "left"}[column],
                    va="center", fontsize=8, color=ENGINES[name][1],
                )  # fmt: skip
                break


def describe(points: list[dict], unit: str) -> str:
    """The chart in words: every median and every bound."""
    parts = []
    for point in points:
        rates = [
            f"{ENGINES[name][0].replace(',', '')} {number(rate['median'])}"
            for name, rate in point["rates"].items()
        ]
        bounds = [f"bound {name} {number(rate)}" for name, rate in point["bounds"].items()]
        at = point.get("label") or f"{point['x']:,} {unit}"
        parts.append(f"{at}: {', '.join(rates + bounds)}")
    return "Tokens a second. " + "; ".join(parts) + "."


def number(rate: float) -> str:
    """A rate as a chart shows it."""
    return f"{rate:.1f}" if rate < 10 else f"{rate:.0f}"
