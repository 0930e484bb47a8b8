"""Checked access to the settings in a JSON file, with errors that name file and setting.

Used by the readers of ``tokenizer.json`` and ``tokenizer_config.json``.

Invariant: a setting that is absent or null has its default; one of another type raises
ModelFileError.
"""

from pathlib import Path
from typing import Any

from gpt2core.errors import ModelFileError
from gpt2core.files import read_json
from gpt2core.tokenizer.added import AddedToken

KIND_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    bool: "true or false",
}


class JsonSettings:
    """The settings of one file, ``values``; empty if there is no such file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.exists = path.exists()
        self.values: dict[str, Any] = read_json(path) if self.exists else {}

    def error(self, sentence: str) -> ModelFileError:
        """An error in this file."""
        return ModelFileError(f"{self.path}: {sentence}")

    def refusal(self, name: str, value: Any) -> ModelFileError:
        """The error for a setting that is not supported; of an object, its type is shown."""
        value = value.get("type", value) if isinstance(value, dict) else value
        return self.error(f"{name} is {brief(value)}, which this tokenizer does not support.")

    def expect(self, values: Any, name: str, kind: type) -> Any:
        """``values[name]``, which must be there and be of this type."""
        value = values.get(name) if isinstance(values, dict) else None
        if type(value) is not kind:
            raise self.error(f"{name} is {brief(value)}; it must be {KIND_NAMES[kind]}.")
        return value

    def get(self, values: Any, name: str, kind: type, default: Any) -> Any:
        """``values[name]`` of this type, or ``default`` where it is absent or null."""
        is_absent = isinstance(values, dict) and values.get(name) is None
        return default if is_absent else self.expect(values, name, kind)

    def objects(self, values: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """A list of objects; empty where it is absent or null."""
        found = self.get(values, name, list, [])
        if not all(isinstance(one, dict) for one in found):
            raise self.error(f"{name} must be a list of objects.")
        return list(found)

    def added_token(self, values: Any, token_id: int) -> AddedToken:
        """An added token from an object with its content and its flags; those absent are false."""
        content = self.expect(values, "content", str)
        if not content:
            raise self.error(f"the added token {token_id} has no content.")
        special = self.get(values, "special", bool, False)
        return AddedToken(
            content,
            token_id,
            special,
            single_word=self.get(values, "single_word", bool, False),
            lstrip=self.get(values, "lstrip", bool, False),
            rstrip=self.get(values, "rstrip", bool, False),
            normalized=self.get(values, "normalized", bool, not special),
        )


def brief(value: object) -> str:
    """A value as an error shows it: not longer than a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
