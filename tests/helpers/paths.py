"""Folders that tests refer to."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
GOLDEN = ROOT / "tests" / "golden"
