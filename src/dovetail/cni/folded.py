"""JSON objects read with Go's tolerance for the case of keys, each value by its type or refused by its place."""

from __future__ import annotations

from typing import Any

from dovetail.cni.errors import INVALID_CONFIG, CniError

__all__ = ["Folded"]


class Folded:
    """A JSON object whose keys match in any case; the last of several spellings counts (cni.md §1.3).

    document: the object as it came.
    """

    def __init__(
        self, document: object, where: str = "$", *, objects: dict[str, Folded] | None = None
    ) -> None:
        if not isinstance(document, dict):
            raise CniError(INVALID_CONFIG, f"{where}: expected an object, got {type(document).__name__}")
        self.document: dict[str, Any] = document
        self._items = {str(key).lower(): value for key, value in document.items()}
        self._where = where
        self._objects = objects if objects is not None else {}
        self.conf: tuple[type, Any] | None = None
        """What `conf.read_conf` read of it last: a plugin asks at each step."""

    def having(self, key: str, value: object) -> Folded:
        """Give the object with another value of `key`, which is none of those that `conf` is read of."""
        objects = {name: one for name, one in self._objects.items() if name != key.lower()}
        other = Folded({**self.document, key: value}, self._where, objects=objects)
        other.conf = self.conf
        return other

    def __contains__(self, key: str) -> bool:
        return self._items.get(key.lower()) is not None

    def text(self, key: str) -> str:
        """Give a string, empty where it is missing or null."""
        value: str = self._typed(key, str, "")
        return value

    def choice(self, key: str, known: tuple[str, ...]) -> str:
        """Give a string that is one of `known`."""
        text = self.text(key)
        if text not in known:
            choices = ", ".join(filter(None, known))
            raise CniError(
                INVALID_CONFIG, f"{self._where}.{key}: unknown {key} {text!r}", f"there are {choices}"
            )
        return text

    def integer(self, key: str) -> int:
        """Give a whole number, 0 where it is missing or null."""
        value = self._items.get(key.lower())
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise CniError(INVALID_CONFIG, f"{self._where}.{key}: expected a whole number")
        return int(value) if isinstance(value, float) else self._typed(key, int, 0)

    def is_word(self, key: str, word: str) -> bool:
        """Say whether the value is `word`, where another type is expected otherwise."""
        return bool(self._items.get(key.lower()) == word)

    def boolean(self, key: str) -> bool:
        """Give true or false, false where it is missing or null."""
        value: bool = self._typed(key, bool, False)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Give a list of strings."""
        found: list[Any] = self._typed(key, list, None)
        if not found:
            return ()
        if not all(isinstance(one, str) for one in found):
            raise CniError(INVALID_CONFIG, f"{self._where}.{key}: expected strings")
        return tuple(found)

    def texts_for(self, key: str, name: str) -> tuple[str, ...]:
        """Give a list of strings, or the one under `name` where there is an object of lists."""
        if isinstance(self._items.get(key.lower()), dict):
            return self.object(key).texts(name)
        return self.texts(key)

    def strings(self, key: str) -> dict[str, str]:
        """Give an object of strings with its keys as they are spelt, an empty one where it is missing or null."""
        found: dict[str, Any] = self._typed(key, dict, {})
        if not all(isinstance(one, str) for one in found.values()):
            raise CniError(INVALID_CONFIG, f"{self._where}.{key}: expected strings")
        return found

    def object(self, key: str) -> Folded:
        """Give an object, an empty one where it is missing or null."""
        folded = key.lower()
        found = self._objects.get(folded)
        if found is None:
            value = self._items.get(folded)
            if not value:
                return _EMPTY
            found = self._objects[folded] = Folded(value, f"{self._where}.{key}")
        return found

    def objects(self, key: str) -> list[Folded]:
        """Give a list of objects."""
        found: list[Any] = self._typed(key, list, [])
        return [Folded(one, f"{self._where}.{key}[{index}]") for index, one in enumerate(found)]

    def object_lists(self, key: str) -> list[list[Folded]]:
        """Give a list of lists of objects."""
        rows: list[Any] = self._typed(key, list, [])
        found = []
        for index, row in enumerate(rows):
            where = f"{self._where}.{key}[{index}]"
            if not isinstance(row, list | None):
                raise CniError(INVALID_CONFIG, f"{where}: expected a list, got {type(row).__name__}")
            found.append([Folded(one, f"{where}[{inner}]") for inner, one in enumerate(row or ())])
        return found

    def _typed(self, key: str, kind: type, default: Any) -> Any:
        value = self._items.get(key.lower())
        if value is None:
            return default
        if not isinstance(value, kind):
            expected = _WORDS[kind]
            raise CniError(
                INVALID_CONFIG, f"{self._where}.{key}: expected {expected}, got {type(value).__name__}"
            )
        return value


_WORDS = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
    dict: "an object",
}
_EMPTY = Folded({})
