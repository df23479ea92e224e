"""A container's way through FORWARD in the reference plugins' form of iptables (``firewall``, ``backend: iptables``).

In table filter, for a container at 10.50.0.2 behind bridge br50 with ``ingressPolicy: same-bridge``::

    FORWARD                -j CNI-ISOLATION-STAGE-1
    FORWARD                -j CNI-FORWARD
    CNI-FORWARD            -j CNI-ADMIN
    CNI-FORWARD            -d 10.50.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    CNI-FORWARD            -s 10.50.0.2/32 -j ACCEPT
    CNI-ISOLATION-STAGE-1  -i br50 ! -o br50 -j CNI-ISOLATION-STAGE-2
    CNI-ISOLATION-STAGE-1  -j RETURN
    CNI-ISOLATION-STAGE-2  -o br50 -j DROP
    CNI-ISOLATION-STAGE-2  -j RETURN

``isolated`` also has ``CNI-ISOLATION-STAGE-1 -i br50 -o br50 -j DROP``. Those of a bridge stay when a container goes,
as others may be behind it. What is made here is removed by `reference_rules`.
Source: containernetworking/plugins ``plugins/meta/firewall/{iptables,ingresspolicy}.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from dovetail.errors import InvalidArgument
from dovetail.features import iptables_form
from dovetail.features.iptables_form import Form, Rule, Wanted, check_chain, commented
from dovetail.features.iptables_programs import by_program
from dovetail.kernel.protocol import Kernel
from dovetail.model.addresses import IPInterface
from dovetail.model.names import check_ifname

__all__ = [
    "FORWARD_CHAIN",
    "FirewallSettings",
    "IngressPolicy",
    "differences",
    "firewall_form",
    "isolate",
    "isolation_form",
    "make",
    "passing_rules",
]

IngressPolicy: TypeAlias = Literal["open", "same-bridge", "isolated"]
"""Who may open connections to a container: everybody; those behind its bridge, and the host; the host."""

FORWARD_CHAIN = "CNI-FORWARD"
_STAGE_1 = "CNI-ISOLATION-STAGE-1"
_STAGE_2 = "CNI-ISOLATION-STAGE-2"
_POLICY_COMMENT = "CNI firewall plugin rules (ingressPolicy: {})"


class FirewallSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration of ``firewall`` says.

    admin_chain: where an administrator's rules are, which come first. bridge: of the container, for the policies that
    speak of it.
    """

    admin_chain: str = "CNI-ADMIN"
    policy: IngressPolicy = "open"
    bridge: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be a rule.

        Raises:
            InvalidArgument: with CNI's key as the place.
        """
        check_chain(self.admin_chain, where="$.iptablesAdminChainName")
        if self.policy == "open":
            return
        if not self.bridge:
            raise InvalidArgument(
                f"the policy {self.policy!r} needs a bridge, and the result so far names none",
                where="$.ingressPolicy",
                hint="put firewall behind bridge in the list of plugins",
            )
        check_ifname(self.bridge, where="$.prevResult.interfaces[0].name")
        if self.bridge.endswith("+"):
            raise InvalidArgument(
                f"the bridge {self.bridge!r} cannot be told from others, as iptables takes a + for any characters",
                where="$.prevResult.interfaces[0].name",
                hint="give the bridge another name",
            )


_DEFAULT = FirewallSettings()


def firewall_form(addresses: Sequence[IPInterface], settings: FirewallSettings = _DEFAULT) -> Form:
    """Give the form for `addresses`, all of one IP version."""
    admin = settings.admin_chain
    apart = isolation_form(settings)
    jump = Wanted("FORWARD", (*commented("CNI firewall plugin rules"), "-j", FORWARD_CHAIN), first=True)
    overrides = (*commented("CNI firewall plugin admin overrides"), "-j", admin)
    return Form(
        "filter",
        (FORWARD_CHAIN, admin, *apart.chains),
        (
            *apart.rules,
            jump,
            Wanted(FORWARD_CHAIN, overrides, first=True),
            *(
                Wanted(FORWARD_CHAIN, rule)
                for address in addresses
                for rule in passing_rules(f"{address.ip}/{address.max_prefixlen}")
            ),
        ),
    )


def isolation_form(settings: FirewallSettings) -> Form:
    """Give the part of the form that keeps bridges apart, which the plugin makes whatever else it uses."""
    isolates = settings.policy != "open"
    return Form("filter", (_STAGE_1, _STAGE_2) if isolates else (), _isolation(settings) if isolates else ())


def passing_rules(address: str) -> tuple[Rule, Rule]:
    """Give the rules of ``CNI-FORWARD`` for an address, which is written with its length."""
    answers = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
    return ("-d", address, *answers, "-j", "ACCEPT"), ("-s", address, "-j", "ACCEPT")


def _isolation(settings: FirewallSettings) -> tuple[Wanted, ...]:
    """Give the rules of a bridge. They stand before the RETURN, and the jump before the one that accepts."""
    bridge = settings.bridge
    comment = commented(_POLICY_COMMENT.format("same-bridge"))
    apart = commented(_POLICY_COMMENT.format("isolated"))
    within = Wanted(_STAGE_1, ("-i", bridge, "-o", bridge, *apart, "-j", "DROP"), first=True)
    return (
        Wanted("FORWARD", (*comment, "-j", _STAGE_1), first=True),
        *((within,) if settings.policy == "isolated" else ()),
        Wanted(_STAGE_1, ("-i", bridge, "!", "-o", bridge, *comment, "-j", _STAGE_2), first=True),
        Wanted(_STAGE_1, (*comment, "-j", "RETURN")),
        Wanted(_STAGE_2, ("-o", bridge, *comment, "-j", "DROP"), first=True),
        Wanted(_STAGE_2, (*comment, "-j", "RETURN")),
    )


def make(kernel: Kernel, addresses: Iterable[IPInterface], settings: FirewallSettings = _DEFAULT) -> None:
    """Let what `addresses` send and are answered pass, and keep bridges apart as the policy says; idempotent.

    Raises as `iptables_form.make`.
    """
    for program, ours in by_program(addresses):
        iptables_form.make(kernel, program, firewall_form(ours, settings))


def isolate(kernel: Kernel, addresses: Iterable[IPInterface], settings: FirewallSettings) -> None:
    """Make that part alone, for the IP versions of `addresses`; where another firewall lets containers pass (firewalld)."""
    for program, _ in by_program(addresses):
        iptables_form.make(kernel, program, isolation_form(settings))


def differences(
    kernel: Kernel, addresses: Iterable[IPInterface], settings: FirewallSettings = _DEFAULT
) -> list[str]:
    """Say what is missing of what `make` makes; changes nothing."""
    return [
        sentence
        for program, ours in by_program(addresses)
        for sentence in iptables_form.differences(kernel, program, firewall_form(ours, settings))
    ]
