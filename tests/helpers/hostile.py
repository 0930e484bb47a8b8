"""Hostile requests: random fields, bodies, headers and addresses, the same for the same seed.

Used by a test of some hundreds and by ``tools/fuzz_requests.py``. Whatever is sent, the answer has
a status below 500 (or 503, if it says when to try again), and a message without a traceback.
"""

import json
import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

TEXTS = [
    "", " ", "a", "Not all heroes", "\x00", "\r\n\r", "\ud800", "\udcff", "\ufffd", "日本🤖",
    "é" * 50, "<script>alert(1)</script>", "'\"`;--", "{{7*7}}", "%00%ff%", "../../etc/passwd",
    "<|endoftext|>", "a" * 3000, "\u202e\u200b",
    "[" * 500, "{" * 500, "\\u0000", "null", "true", "\x1b[31m", "=1+1",
]  # fmt: skip
NUMBERS = [
    "0", "1", "2", "-1", "3.5", "1e9", "1e999", "-0", "NaN", "Infinity", "²", "٣", "0x10", "1_000",
    "9" * 40, " 1 ", "", "+1", "1,2", ",", "50256", "50257", "1,2,x", "-1,5",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**63, 2**80, 1e308, 0.5, [], {}, [1], ["a"], [[]], {"a": 1},
    [None], [1, 2, 50257], [-1], ["\n"] * 9, [{"a": []}],
]  # fmt: skip
FIELDS = (
    *("prompt", "n_tokens", "temperature", "top_k", "top_p", "seed", "kept", "stop", "pace"),
    *("special_tokens", "model", "text", "at", "layer", "head", "for", "logprobs", "prompt_json"),
    *(
        "regenerate",
        "generate",
        "max_tokens",
        "echo",
        "n",
        "logit_bias",
        "stream",
        "suffix",
        "user",
    ),
    *("stream_options", "presence_penalty", "frequency_penalty", "best_of", "ablate", "other"),
    *("position", "neuron", "state", "token", "id", "x", "__proto__", "self", "cls"),
)
ADDRESSES = (
    *("/", "/tokenize", "/generate", "/next", "/append", "/score", "/bpe", "/tokens.json"),
    *("/tokens.csv", "/model", "/healthz", "/api", "/openapi.json", "/robots.txt"),
    *("/inside", "/inside/3", "/inside/18", "/inside/99", "/inside.json", "/inside.csv"),
    *("/inside/heads", "/inside/lens.csv", "/inside/attribution", "/inside/sampling.csv"),
    *("/inside/neurons", "/inside/neighbours", "/inside/ablate", "/inside/patch"),
    *("/v1/models", "/v1/models/x", "/v1/completions", "/v1/chat/completions", "/v1/%00"),
    *("/static/app.css", "/static/%2e%2e/x", "/htmx/htmx.js", "/htmx/%00", "/source/model.py"),
)
METHODS = ("GET", "POST", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")
TYPES = (
    *("application/json", "application/json", "application/x-www-form-urlencoded", "text/plain"),
    *(
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-7",
        "",
        "a/b;c=" + "d" * 99,
    ),
)
HEADERS = {
    "Accept": ["application/json", "text/html", "text/event-stream", "*/*;q=x", ",;,", "a" * 500],
    "HX-Request": ["true", "false", "\xff"],
    "Accept-Encoding": ["gzip", "br;q=9", "gzip;q=-1,*;q=0", "\xff", "identity;q=0"],
    "Authorization": ["Bearer ", "Bearer \xff", "Basic x"],
    "Range": ["bytes=0-0", "bytes=9-1", "bytes=-", "x", "bytes=0-,1-,2-"],
    "If-None-Match": ['"x"', "*", 'W/"', "\xff"],
    "If-Modified-Since": ["x", "Thu, 99 Nov 2026 99:99:99 GMT"],
    "Content-Encoding": ["gzip", "x"],
    "X-Forwarded-For": ["x", "1.2.3.4, ::1", "\xff"],
    "Host": ["x", "a b", "x" * 300, "[::1", "\xff"],
    "Cookie": ["a=b; c", "=;=;", "\xff"],
    "Sec-Fetch-Site": ["cross-site", "x", "same-origin"],
    "HX-Target": ["\xff", "a" * 999],
    "HX-Current-URL": ["http://x/%ff", "x"],
    "HX-Current-URL-URI-AutoEncoded": ["true"],
    "Origin": ["null", "http://x"],
}


@dataclass
class Case:
    """One request."""

    method: str
    address: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def case(seed: int) -> Case:
    """The request of this seed."""
    rng = random.Random(seed)
    fields = {name: any_value(rng) for name in rng.sample(FIELDS, rng.randint(0, 6))}
    if rng.random() < 0.6:  # otherwise most requests fail at their first field
        fields |= {"prompt": rng.choice(TEXTS), "n_tokens": 1, "max_tokens": 1, "model": "demo"}
        fields = {k: v for k, v in fields.items() if rng.random() < 0.8}
    method, address = rng.choice(METHODS), rng.choice(ADDRESSES)
    headers = {"Content-Type": rng.choice(TYPES)}
    for name in rng.sample(sorted(HEADERS), rng.choice([0, 0, 1, 2, 3])):
        headers[name] = rng.choice(HEADERS[name])
    body = b""
    if method in ("GET", "HEAD", "OPTIONS") or rng.random() < 0.1:
        address += "?" + encoded(fields)
    elif "json" in headers["Content-Type"]:
        body = json.dumps(rng.choice([fields, fields, fields, [fields], any_value(rng)])).encode()
    elif "multipart" in headers["Content-Type"]:
        body = multipart(fields)
    else:
        body = encoded(fields).encode()
    if rng.random() < 0.15:
        body = damaged(rng, body)
    return Case(method, address, body, headers)


def any_value(rng: random.Random) -> Any:
    return rng.choice(rng.choice([TEXTS, NUMBERS, VALUES]))


def encoded(fields: dict[str, Any]) -> str:
    """As a browser would, but for values that no form has."""
    return "&".join(
        f"{quote(name)}={quote_plus(str(value), errors='surrogatepass')}"
        for name, value in fields.items()
    )


def multipart(fields: dict[str, Any]) -> bytes:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return ("".join(parts) + "--x--\r\n").encode(errors="replace")


def damaged(rng: random.Random, body: bytes) -> bytes:
    """Cut off, repeated, or with other bytes in it."""
    at = rng.randint(0, len(body))
    noise = bytes(rng.randrange(256) for _ in range(rng.randint(0, 9)))
    return rng.choice([body[:at], body[:at] + noise + body[at:], body * 3, noise])


def send(client: Any, one: Case) -> Any:
    """The answer of a test client."""
    environ = {f"HTTP_{k.upper().replace('-', '_')}": v for k, v in one.headers.items()}
    kind = environ.pop("HTTP_CONTENT_TYPE")
    return client.open(
        one.address, method=one.method, data=one.body, content_type=kind, environ_overrides=environ
    )


def problem(answer: Any) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if answer.status_code >= 500 and not (
        answer.status_code == 503 and answer.headers.get("Retry-After")
    ):
        return f"status {answer.status_code}"
    if "Content-Security-Policy" not in answer.headers:
        return "no security policy"
    return "a traceback" if b"Traceback" in answer.data else ""
