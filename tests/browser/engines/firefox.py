"""Firefox by WebDriver BiDi, the protocol that it speaks itself, so no driver is between.

Source: W3C, "WebDriver BiDi". Only the commands that the tests need.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import websocket

from tests.browser.engines.engine import EngineError
from tests.helpers.web import PATIENCE, wait_until

NAMES = ("firefox-esr", "firefox")
HOW_TO_GET_ONE = "No Firefox found: install one, for example with `apt install firefox-esr`."
LISTENING = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
CONTROL = "\ue009"
KEYS = {"Escape": ["\ue00c"], "Paste": [CONTROL, "v"]}
# A finger and no mouse, on a small screen.
PHONE = {"ui.primaryPointerCapabilities": 1, "ui.allPointerCapabilities": 1}
PHONE_SIZE = {"width": 390, "height": 844}


def find() -> str | None:
    """An installed Firefox."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Firefox:
    """A headless Firefox with a profile of its own; see :class:`engine.Engine`."""

    def __init__(self, path: str, scripts: bool = True, phone: bool = False):
        self._pointer = "touch" if phone else "mouse"
        self._last = 0  # id of the last command
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        preferences = {"javascript.enabled": scripts, **(PHONE if phone else {})}
        lines = [f'user_pref("{k}", {json.dumps(v)});' for k, v in preferences.items()]
        (Path(self._profile.name) / "user.js").write_text("\n".join(lines))
        self._log = Path(self._profile.name) / "stderr"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [path, "--headless", "--no-remote", "--remote-debugging-port=0"]
                + ["--profile", self._profile.name, "about:blank"],
                stderr=log,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self._connect()
            if phone:
                self._command(
                    "browsingContext.setViewport", context=self._context, viewport=PHONE_SIZE
                )
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        wait_until(self._address, "Firefox listens")
        self._socket = websocket.create_connection(
            f"{self._address()}/session", timeout=PATIENCE, suppress_origin=True
        )
        self._command("session.new", capabilities={})
        self._context = self._command("browsingContext.getTree")["contexts"][0]["context"]

    def _address(self) -> str | None:
        """Where it listens, which it says on its standard error."""
        found = LISTENING.search(self._log.read_text())
        return found[1] if found else None

    def _command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command. Raises EngineError."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        answer: dict[str, Any] = {}
        while answer.get("id") != self._last:
            answer = json.loads(self._socket.recv())
        if answer["type"] != "success":
            raise EngineError(f"{method}: {answer['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str) -> None:
        self._command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        value = self._evaluated(f"JSON.stringify({expression})").get("value", "null")
        return json.loads(value)

    def _evaluated(self, expression: str) -> dict[str, Any]:
        """The result of an expression as the protocol describes it. Raises EngineError."""
        found = self._command(
            "script.evaluate",
            expression=expression,
            target={"context": self._context},
            awaitPromise=True,
        )
        if found["type"] != "success":
            raise EngineError(found["exceptionDetails"]["text"])
        result: dict[str, Any] = found["result"]
        return result

    def click(self, selector: str) -> None:
        element = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f'{element}.scrollIntoView({{block: "center", behavior: "instant"}})')
        # From the element, so that it is hit wherever it is by then.
        origin = {"type": "element", "element": {"sharedId": self._evaluated(element)["sharedId"]}}
        actions = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        pointer = {"pointerType": self._pointer}
        self._perform({"type": "pointer", "id": "p", "parameters": pointer, "actions": actions})

    def type(self, selector: str, text: str) -> None:
        self.click(selector)
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self._keys([[char] for char in text or "\ue003"])  # backspace

    def press(self, key: str) -> None:
        self._keys([KEYS[key]])

    def _keys(self, chords: list[list[str]]) -> None:
        """Press the keys of each chord together, one chord after the other."""
        actions = [
            {"type": kind, "value": key}
            for chord in chords
            for kind in ("keyDown", "keyUp")
            for key in (chord if kind == "keyDown" else chord[::-1])
        ]
        self._perform({"type": "key", "id": "k", "actions": actions})

    def _perform(self, source: dict[str, Any]) -> None:
        self._command("input.performActions", context=self._context, actions=[source])

    def close(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
        os.killpg(self._process.pid, signal.SIGKILL)  # with its content processes
        self._process.wait(timeout=PATIENCE)
        self._profile.cleanup()
