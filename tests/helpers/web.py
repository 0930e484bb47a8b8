"""What tests of the web part share: a real server, a raw client, and a small HTML parser.

Tests look at texts, classes and attributes under stable ids, never at the markup around them.
"""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

from gpt2core.hparams import HParams
from gpt2core.store.weights import save_params
from tests.helpers.paths import ROOT
from tests.helpers.small_models import SmallModel

HEROES = "Not all heroes wear capes."
HEROES_IDS = [3673, 477, 10281, 5806, 1451, 274, 13]
HEROES_PIECES = ["Not", "Ġall", "Ġheroes", "Ġwear", "Ġcap", "es", "."]
# The beginning of a story: whatever the seed, a story does not end within its first 30 tokens.
# It has more tokens than the prompt that the page begins with, so a count tells them apart.
STORY = "One day, a little girl named Lily went to"
STORY_IDS = [3198, 1110, 11, 257, 1310, 2576, 3706, 20037, 1816, 284]
STORY_PIECES = ["One", "Ġday", ",", "Ġa", "Ġlittle", "Ġgirl", "Ġnamed", "ĠLily", "Ġwent", "Ġto"]
HTMX = {"HX-Request": "true"}
JSON = {"Accept": "application/json"}
PATIENCE = 30  # seconds to wait for something quick; the machine may be busy
ROBOT = "\N{ROBOT FACE}"  # four bytes, several tokens


# Reading HTML

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


@dataclass
class Element:
    """A node of a parsed page."""

    tag: str
    attributes: dict
    children: list = field(default_factory=list)

    def __iter__(self):
        """This element and its descendants, in document order."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child

    @property
    def text(self) -> str:
        """All text inside, unchanged."""
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    @property
    def words(self) -> str:
        """The text as it is displayed: runs of white space are one space."""
        return " ".join(self.text.split())

    def all(self, tag: str = "", class_: str = "", **attributes) -> list["Element"]:
        """Elements with this tag, this class and these attributes."""
        return [
            element
            for element in self
            if (not tag or element.tag == tag)
            and (not class_ or class_ in (element.attributes.get("class") or "").split())
            and all(element.attributes.get(k) == v for k, v in attributes.items())
        ]

    def id(self, id: str) -> "Element":
        """The one element with this id."""
        (found,) = self.all(id=id)
        return found

    def pieces(self) -> list[str]:
        """The spelling on each chip inside."""
        return [chip.all(class_="piece")[0].text for chip in self.all(class_="chip")]

    def ids(self) -> list[int]:
        """The token id on each chip inside."""
        return [int(chip.all(class_="id")[0].text) for chip in self.all(class_="chip")]


class _Builder(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = [Element("document", {})]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
            self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parse(html: str) -> Element:
    """The tree of a page or partial, whose tags must all be closed in order."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert len(builder.open) == 1, f"<{builder.open[-1].tag}> is never closed"
    return builder.open[0]


def textarea_value(area: Element) -> str:
    """What a browser puts into a textarea: without the first newline of its markup."""
    return area.text.removeprefix("\n")


# Reading a stream


def messages(lines) -> list[str]:
    """The data of each message of server-sent events; comments are left out."""
    found, data = [], []
    for line in lines:
        line = line.rstrip("\n")
        assert "\r" not in line
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            found.append("\n".join(data))
            data = []
        else:
            assert not line or line.startswith(":"), f"neither data nor comment: {line!r}"
    assert not data, "the last message is cut off"
    return found


@dataclass
class Shown:
    """The page after all messages of a stream."""

    parts: dict  # id of the target -> elements swapped or appended, in order
    loose: list  # messages without partials, for the form's own target

    def text(self, id: str) -> str:
        return "".join(part.text for part in self.parts.get(id, []))

    def words(self, id: str) -> str:
        return " ".join(self.text(id).split())

    def chips(self) -> list[int]:
        return [id for part in self.parts.get("strip", []) for id in part.ids()]


def shown(messages: list[str]) -> Shown:
    """Apply partials as htmx does: ``innerHTML`` replaces, ``beforeend`` appends."""
    page = Shown({}, [])
    for message in messages:
        document = parse(message)
        partials = document.all("hx-partial")
        for partial in partials:
            target = partial.attributes["hx-target"].removeprefix("#")
            if partial.attributes.get("hx-swap") == "beforeend":
                page.parts.setdefault(target, []).append(partial)
            else:
                page.parts[target] = [partial]
        if not partials:
            page.loose.append(document)
    return page


# A model and a real server


def write_small_model(directory: Path, hparams: HParams) -> None:
    """A folder with a model of small random weights."""
    small = SmallModel(hparams, seed=3, embedding=0.1, weight=0.1, bias=0.1, gain=0.1)
    directory.mkdir()
    save_params(directory / "model.safetensors", small.params())
    (directory / "hparams.json").write_text(json.dumps(hparams.to_dict()))


class Server:
    """gunicorn in its own process, on a free port."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path, prefix: str = ""):
        self.process, self.port, self._log, self.prefix = process, port, log, prefix

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @contextmanager
    def request(self, method: str, path: str, body=None, headers=None):
        """A response whose body is still arriving; leaving the block closes the connection.

        ``response.close_connection()`` does so at once.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        if isinstance(body, dict):
            body = urlencode(body)
            headers = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        try:
            connection.request(method, self.prefix + path, body, headers or {})
            response = connection.getresponse()
            response.close_connection = connection.close  # response.close() leaves the socket open
            try:
                yield response
            finally:
                response.close()
        finally:
            connection.close()

    def generate(self, headers=None, **fields):
        """POST /generate with these fields as a form."""
        return self.request("POST", "/generate", fields, headers)

    def generate_json(self, **fields) -> dict:
        """The finished generation as JSON."""
        with self.generate(JSON, **fields) as response:
            assert response.status == 200, response.read()
            return json.load(response)

    def healthz(self) -> dict:
        with self.request("GET", "/healthz") as response:
            return json.load(response)

    def wait_for_load(self, running: int, waiting: int = 0, timeout: float = PATIENCE) -> None:
        """Wait until this many generations run and wait."""

        def there():
            health = self.healthz()
            return (health["running"], health["waiting"]) == (running, waiting)

        wait_until(there, f"{running} running and {waiting} waiting", timeout)

    def stop(self) -> int:
        """Send SIGTERM, as a platform does, and wait; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)

    def kill(self) -> None:
        """Kill master and workers at once, as if the machine had crashed."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(timeout=PATIENCE)


def wait_until(condition, what: str, timeout: float = PATIENCE, interval: float = 0.02) -> None:
    """Poll ``condition`` until it holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(interval)


def free_port() -> int:
    """A port that no process listens on, and that no outgoing connection is given meanwhile."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)  # systems give higher ones
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def environment(**settings) -> dict[str, str]:
    """This process's environment with only these settings of the app and the server."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GPT2_", "GUNICORN_", "TEST_PACE"))
        and name not in ("PORT", "WEB_CONCURRENCY", "SCRIPT_NAME", "FORWARDED_ALLOW_IPS")
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), ours.get("PATH", os.defpath)])
    return {**ours, "PATH": path, **{name: str(value) for name, value in settings.items()}}


@contextmanager
def serving(log: Path, app: str = "webapp:create_app()", command=None, ready=("ok",), **settings):
    """A :class:`Server` whose health is one of ``ready``; it is gone when the block ends.

    ``settings`` are environment variables. ``command`` is a shell command line in place
    of gunicorn's usual one.
    """
    settings.setdefault("PORT", free_port())
    with log.open("wb") as output:
        process = subprocess.Popen(
            command or [sys.executable, "-m", "gunicorn", app],
            shell=bool(command),
            cwd=ROOT,
            env=environment(**settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, int(settings["PORT"]), log, settings.get("SCRIPT_NAME", ""))
    try:
        wait_until(lambda: is_ready(server, ready), "a server that is ready")
        yield server
    finally:
        server.kill()


def is_ready(server: Server, ready) -> bool:
    assert server.process.poll() is None, server.log
    try:
        return server.healthz()["status"] in ready
    except (OSError, http.client.HTTPException):
        return False
