"""Server-sent events: messages to bytes.

The last step of a stream before the socket. Invariants: a message is one event whatever its
text holds (newlines become several ``data:`` lines); a heartbeat is a comment that no client
shows.

Source: the WHATWG HTML standard, section "Server-sent events".
"""

import re

# What a response needs so that neither proxies nor caches hold the stream back.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
HEARTBEAT = b": still here\n\n"
# In an event stream a carriage return alone ends a line as well.
LINE_END = re.compile(r"\r\n|\r|\n")


def message(data: str) -> bytes:
    """One unnamed event that carries ``data``."""
    lines = LINE_END.split(data)
    return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"
