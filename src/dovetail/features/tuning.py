"""Change an interface that is there, and settings of its namespace, as CNI's type ``tuning`` has it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal

from dovetail.errors import InvalidArgument, KernelError, NotFound
from dovetail.features import link_backup
from dovetail.features.link_backup import LinkBackup
from dovetail.kernel.protocol import Kernel, Link, Netns
from dovetail.model.endpoint import Owner
from dovetail.model.mac import Mac
from dovetail.model.tuning import Tuning

__all__ = ["Tunings"]


class Tunings:
    """The kind of part ``tuning``."""

    name = "tuning"
    layer: Literal["feature"] = "feature"
    detail = Tuning

    def make(
        self,
        kernel: Kernel,
        detail: Tuning,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> Tuning:
        """Change the interface, then the sysctls: some are of the interface, and its MTU sets one.

        Kernel changes: in the sandbox's namespace only. Files: what the interface was, see `link_backup`. Raises
        NotFound for the interface or a sysctl that the kernel has not, KernelError for a value that it refuses.
        """
        if netns is None:
            raise NotFound("namespace", owner.container)
        with kernel.inside(netns) as inner:
            if detail.changes_link:
                link = inner.link(detail.ifname)
                if link is None:
                    raise NotFound("interface", detail.ifname, hint="the plugin before this one makes it")
                undo.callback(self._restore, kernel, detail, owner, netns)
                link_backup.write(_path(detail, owner), _before(detail, link))
                inner.set_link(detail.ifname, **_wanted(detail))
            for key, value in detail.sysctls.items():
                before = inner.sysctl(key)
                if before is None:
                    raise NotFound("sysctl", key, where="$.sysctl")
                undo.callback(_set_back, kernel, netns, key, before)
                inner.set_sysctl(key, value)
        return detail

    def unmake(self, kernel: Kernel, detail: Tuning, *, owner: Owner, netns: Netns | None) -> None:
        """Give the interface what it had. Sysctls stay: the namespace is other interfaces' as well."""
        self._restore(kernel, detail, owner, netns)

    def _restore(self, kernel: Kernel, detail: Tuning, owner: Owner, netns: Netns | None) -> None:
        path = _path(detail, owner)
        backup = link_backup.read(path)
        if backup is not None and netns is not None:
            with kernel.inside(netns) as inner:
                _give_back(inner, detail.ifname, backup)
        link_backup.forget(path)

    def differences(self, kernel: Kernel, detail: Tuning, *, owner: Owner, netns: Netns | None) -> list[str]:
        """Compare what was asked for; what was not may be anything (a sniffer makes an interface promiscuous)."""
        if netns is None:
            return []
        with kernel.inside(netns) as inner:
            found = _link_differences(inner.link(detail.ifname), detail) if detail.changes_link else []
            for key, value in detail.sysctls.items():
                present = inner.sysctl(key)
                if present is None or present.split() != value.split():  # tabs between the numbers of some
                    found.append(f"sysctl {key} is {present}, not {value}")
        return found


def _path(detail: Tuning, owner: Owner) -> str:
    return link_backup.backup_path(detail.data_dir, owner)


def _wanted(detail: Tuning) -> dict[str, Any]:
    return {
        "mac": detail.mac,
        "mtu": detail.mtu or None,
        "promisc": detail.promisc or None,
        "allmulti": detail.allmulti,
        "txqueuelen": detail.tx_queue_length,
    }


def _before(detail: Tuning, link: Link) -> LinkBackup:
    return LinkBackup(
        mac=str(link.mac) if detail.mac is not None else "",
        promisc=link.promisc if detail.promisc else None,
        mtu=link.mtu if detail.mtu else 0,
        allmulti=link.allmulti if detail.allmulti is not None else None,
        tx_queue_length=link.txqueuelen if detail.tx_queue_length is not None else None,
    )


def _give_back(inner: Kernel, ifname: str, backup: LinkBackup) -> None:
    """Set each value by itself: one that is refused must keep neither the others nor the interface that goes next."""
    values: list[dict[str, Any]] = [
        {"mtu": backup.mtu or None},
        {"mac": _mac(backup.mac)},
        {"promisc": backup.promisc},
        {"allmulti": backup.allmulti},
        {"txqueuelen": backup.tx_queue_length},
    ]
    for value in values:
        if None in value.values():
            continue
        try:
            inner.set_link(ifname, **value)
        except NotFound:
            return
        except KernelError:
            continue


def _mac(text: str) -> Mac | None:
    try:
        return Mac(text) if text else None
    except InvalidArgument:  # a file that somebody else has written
        return None


def _set_back(kernel: Kernel, netns: Netns, key: str, value: str) -> None:
    with kernel.inside(netns) as inner:
        inner.set_sysctl(key, value)


def _link_differences(link: Link | None, detail: Tuning) -> list[str]:
    name = detail.ifname
    if link is None:
        return [f"interface {name!r} is gone from the sandbox"]
    facts: list[tuple[str, object, object]] = [
        ("MAC", link.mac, detail.mac),
        ("MTU", link.mtu, detail.mtu or None),
        ("promiscuous mode", _switch(link.promisc), _switch(detail.promisc or None)),
        ("all-multicast mode", _switch(link.allmulti), _switch(detail.allmulti)),
        ("transmit queue length", link.txqueuelen, detail.tx_queue_length),
    ]
    return [
        f"interface {name!r} has {what} {present}, not {wanted}"
        for what, present, wanted in facts
        if wanted is not None and present != wanted
    ]


def _switch(value: bool | None) -> str | None:
    return None if value is None else "on" if value else "off"
