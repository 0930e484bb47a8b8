"""What the shared tests ask of a browser, whichever engine it has."""

from typing import Any, Protocol


class EngineError(Exception):
    """A command that the browser did not carry out, such as one during a navigation."""


class Engine(Protocol):
    """One window of a real browser, driven by what a person does: pointer and keys."""

    def open(self, url: str) -> None:
        """Load a page and wait until it is there."""

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON. Raises EngineError."""

    def click(self, selector: str) -> None:
        """Scroll an element into view and press it in its middle. A phone taps it."""

    def type(self, selector: str, text: str) -> None:
        """Replace the text of a field, key by key."""

    def press(self, key: str) -> None:
        """Press one of the keys ``Escape`` and ``Paste``."""

    def close(self) -> None:
        """End the browser."""
