"""The plugins by the name runtimes know them by."""

from dovetail.cni.plugins.call import Call, Plugin
from dovetail.cni.plugins.dovetail import DovetailPlugin

__all__ = ["PLUGINS", "Call", "Plugin"]

PLUGINS: dict[str, type[Plugin]] = {"dovetail": DovetailPlugin}
