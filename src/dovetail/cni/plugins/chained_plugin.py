"""What the plugins that change what another one made have in common: its result, a part of the engine, a result."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from dovetail.cni.errors import CniError
from dovetail.cni.plugins.call import Call, Plugin, refuse
from dovetail.cni.spec.result import Result
from dovetail.errors import NotFound
from dovetail.kernel.protocol import Netns

__all__ = ["ChainedPlugin"]


class ChainedPlugin(Plugin):
    """A plugin that comes after one which makes an interface. A subclass reads its configuration, and says what it does.

    kind: of its part.
    """

    kind: ClassVar[str]

    def read(self, call: Call) -> None:
        """Refuse a configuration that cannot be used, before anything is done; ADD, CHECK and STATUS ask."""

    @abstractmethod
    def detail(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say what is to be done to what `result` names; None where there is nothing to do. Changes nothing."""

    def result(self, call: Call, result: Result, made: Any) -> Result:
        """Say what `result` has become with `made`; it is handed on as it came where nothing in it changes."""
        return result

    def remains(self, call: Call, result: Result | None, netns: Netns | None) -> Any | None:
        """Say what another program's ADD has left, for a DEL of what is not ours; None for nothing."""
        return None

    def expected(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say what another program's ADD is to have done, for a CHECK of what is not ours."""
        return self.detail(call, result, netns)

    def add(self, call: Call, netns: Netns) -> Result:
        """Do it, and hand the result on; what fails leaves nothing. Raises code 7 without a previous result."""
        result = call.required_result()
        self.read(call)
        detail = self.detail(call, result, netns)
        if detail is None:
            if (
                self.engine.parts.known(self.kind, call.owner) is not None
            ):  # of an ADD whose DEL was forgotten
                self.engine.parts.remove(self.kind, call.owner, netns=netns)
            return result
        made = self.engine.parts.add(self.kind, call.owner, detail, netns=netns, path=call.environment.netns)
        return self.result(call, result, made)

    def delete(self, call: Call, netns: Netns | None) -> None:
        """Take back what ADD did. What is gone is no error, nor is a result that is missing or cannot be read."""
        try:
            result = call.prev_result
        except CniError:
            result = None
        otherwise = self.remains(call, result, netns)
        self.engine.parts.remove(self.kind, call.owner, netns=netns, otherwise=otherwise)

    def check(self, call: Call, netns: Netns) -> None:
        """Compare the kernel with what ADD did. Raises code 7 without a previous result."""
        result = call.required_result()
        self.read(call)
        try:
            differences = self.engine.parts.check(self.kind, call.owner, netns=netns)
        except NotFound:
            otherwise = self.expected(call, result, netns)
            if otherwise is None:
                return
            differences = self.engine.parts.check(self.kind, call.owner, netns=netns, otherwise=otherwise)
        refuse(differences)

    def gc(self, call: Call) -> None:
        """Take back what was done for attachments that the runtime does not have any more."""
        if call.valid is not None:
            self.engine.parts.collect(self.kind, call.name, call.valid)

    def status(self, call: Call) -> None:
        """Say whether the next ADD could succeed, as far as the configuration tells."""
        self.read(call)
