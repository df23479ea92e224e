"""What the host's firewall lets pass for a sandbox, as CNI's type ``firewall`` has it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from dovetail.model.addresses import IPInterface

__all__ = ["Admitted", "IngressPolicy"]

IngressPolicy: TypeAlias = Literal["open", "same-bridge", "isolated"]


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox behind `link`, a bridge of the host or an interface of its own, for which the host is to forward.

    policy: ``open`` to everybody; ``same-bridge`` not to those behind other bridges that have it too; ``isolated``
    nor to those behind its own.
    iptables: by rules for `addresses` in the reference plugin's form, after the administrator's of `admin_chain`.
    """

    link: str
    policy: IngressPolicy = "open"
    iptables: bool = False
    addresses: tuple[IPInterface, ...] = ()
    admin_chain: str = "CNI-ADMIN"
