"""Server-sent events: messages to bytes.

The last step of a stream before the socket. Invariants: a message is one event whatever its
text holds (newlines become several ``data:`` lines); a heartbeat is a comment that no client
shows.

Source: the WHATWG HTML standard, section "Server-sent events".
"""

# What a response needs so that neither proxies nor caches hold the stream back.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
HEARTBEAT = b": still here\n\n"


def message(data: str) -> bytes:
    """One unnamed event that carries ``data``."""
    # In an event stream a carriage return alone ends a line as well.
    lines = data.replace("\r\n", "\n").replace("\r", "\n")
    return "data: {}\n\n".format(lines.replace("\n", "\ndata: ")).encode()
