"""Arrays as pictures: ink levels, and SVG paths and bars whose numbers are whole.

The page's content security policy allows no style attribute and no ``data:`` image, so a
picture is made of classes, which the stylesheet colours, and of SVG paths, one for each
level. Both follow dark mode, print and forced colours.

Invariants: pure functions of arrays; the size of a picture is bounded for any array; a
picture never stands alone, its numbers are in a table, a caption or a row beside it.
"""

from dataclasses import dataclass

import numpy as np

BORDERS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # between the levels 0 to 8
THUMBNAIL_BORDERS = (0.1, 0.3, 0.7)  # fewer, because a layer has up to 25 thumbnails
THUMBNAIL_LEVELS = (0, 3, 5, 8)
MAX_STRIPES = 1024  # of a barcode; of longer vectors neighbours share a stripe
BAR_UNITS = 500  # half the width of a signed bar's picture


def levels(weights: np.ndarray) -> np.ndarray:
    """Ink level 0 to 8 of each weight from 0 to 1: ``[...] -> [...]`` int."""
    indices: np.ndarray = np.digitize(weights, BORDERS)
    return indices


def signed_levels(values: np.ndarray, scale: float) -> np.ndarray:
    """Level -8 to 8 of each value, by its magnitude as a share of ``scale``: ``[...] -> [...]``."""
    shares = np.abs(values) / scale if scale > 0 else np.zeros_like(values)
    signed: np.ndarray = np.sign(values).astype(int) * levels(shares)
    return signed


def level_class(level: int) -> str:
    """The CSS class of a level: ``h3`` for weights and for values above zero, ``n3`` below."""
    return f"n{-level}" if level < 0 else f"h{level}"


def weight_class(weight: float) -> str:
    """The CSS class of one weight from 0 to 1."""
    return level_class(int(levels(np.array(weight))))


def signed_class(value: float, scale: float) -> str:
    """The CSS class of one signed value."""
    return level_class(int(signed_levels(np.array(value), scale)))


@dataclass(frozen=True)
class Path:
    """All runs of one level: its class, and the path's ``d``."""

    css: str
    d: str


@dataclass(frozen=True)
class Picture:
    """Paths in a view box of ``width`` by ``height`` units; a cell is one unit."""

    width: int
    height: int
    paths: tuple[Path, ...]

    @property
    def view_box(self) -> str:
        return f"0 0 {self.width} {self.height}"


def picture(cells: np.ndarray) -> Picture:
    """A picture of levels ``[n_rows, n_columns]`` from -8 to 8. Level 0 is left blank.

    Each run of equal levels along a row is a stroke of width 1 through the cells' middle.
    """
    runs: dict[int, list[str]] = {}
    for row, line in enumerate(cells):
        starts = np.flatnonzero(np.diff(line, prepend=line[0] - 1))  # [n_runs]
        lengths = np.diff(starts, append=len(line))  # [n_runs]
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            if line[start]:
                runs.setdefault(int(line[start]), []).append(f"M{start} {row}.5h{length}")
    paths = tuple(Path(level_class(level), "".join(runs[level])) for level in sorted(runs))
    return Picture(cells.shape[1], cells.shape[0], paths)


def heat(weights: np.ndarray) -> Picture:
    """A picture of weights ``[n_rows, n_columns]`` from 0 to 1."""
    return picture(levels(weights))


def thumbnail(weights: np.ndarray) -> Picture:
    """A small picture of weights ``[n_rows, n_columns]`` from 0 to 1, in three levels."""
    indices = np.searchsorted(THUMBNAIL_BORDERS, weights, side="right")
    return picture(np.array(THUMBNAIL_LEVELS)[indices])


@dataclass(frozen=True)
class Barcode:
    """A vector as stripes; each shows the largest of ``n_shared`` neighbours."""

    picture: Picture
    n_shared: int
    scale: float


def barcode(values: np.ndarray, scale: float | None = None) -> Barcode:
    """A vector ``[n]`` as stripes, signed; ``scale`` is the largest magnitude by default."""
    values = np.asarray(values, np.float64)
    scale = float(np.abs(values).max()) if scale is None else scale
    n_shared = -(-len(values) // MAX_STRIPES)
    padded = np.pad(values, (0, -len(values) % n_shared)).reshape(-1, n_shared)
    largest = padded[np.arange(len(padded)), np.abs(padded).argmax(axis=1)]  # [n_stripes]
    return Barcode(picture(signed_levels(largest, scale)[None]), n_shared, scale)


@dataclass(frozen=True)
class SignedBar:
    """A bar from the middle: left edge and width in units of a view box 2 * BAR_UNITS wide."""

    x: int
    width: int
    css: str


def signed_bar(value: float, scale: float) -> SignedBar:
    """The bar of ``value``; a magnitude of ``scale`` reaches the edge."""
    share = min(abs(value) / scale, 1.0) if scale > 0 else 0.0
    width = round(BAR_UNITS * share)
    css = "below" if value < 0 else "above"
    return SignedBar(BAR_UNITS - width if value < 0 else BAR_UNITS, width, css)
