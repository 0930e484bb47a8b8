"""What commands print: a table, and the processor it comes from."""

import platform
from pathlib import Path

# Of columns whose values differ by less than others are rounded to.
DECIMALS = {"bits_per_byte": 4, "percent_more": 3, "same_likeliest_percent": 1}


def print_table(rows: list[dict]) -> None:
    """Rows as a Markdown table."""
    print("| " + " | ".join(name.replace("_", " ") for name in rows[0]) + " |")
    print("|" + "|".join("---" if isinstance(v, str) else "--:" for v in rows[0].values()) + "|")
    for row in rows:
        print("| " + " | ".join(cell(name, value) for name, value in row.items()) + " |")


def cell(name: str, value: str | float) -> str:
    """A value as a table shows it."""
    if not isinstance(value, float):
        return str(value)
    if name in DECIMALS:
        return f"{value:z.{DECIMALS[name]}f}"
    return f"{value:.3g}" if value < 10 else f"{value:,.0f}"


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
