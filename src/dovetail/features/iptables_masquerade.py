"""Masquerading in the reference plugins' form of iptables (``ipMasqBackend: iptables``).

For a container whose address is 10.50.0.2/24, in table nat::

    POSTROUTING  -s 10.50.0.2/32      -j CNI-5145…
    CNI-5145…    -d 10.50.0.0/24      -j ACCEPT
    CNI-5145…    ! -d 224.0.0.0/4     -j MASQUERADE

Each rule has the comment ``name: "NETWORK" id: "CONTAINER"``. Of several subnets each is accepted before anything is
masqueraded (the reference plugins put the second one behind that, where no packet comes). What is made here is
removed by `reference_rules`. Source: containernetworking/plugins ``pkg/ip/ipmasq_iptables_linux.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dovetail.features import iptables_form
from dovetail.features.iptables_form import Form, Wanted, commented
from dovetail.features.iptables_programs import by_program
from dovetail.features.reference_names import Owner, chain_name, masquerade_comment
from dovetail.kernel.protocol import Kernel
from dovetail.model.addresses import IPInterface

__all__ = ["differences", "make", "masquerade_form"]

_MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}  # RFC 5771, RFC 4291 §2.7: containers of a network speak by it


def masquerade_form(owner: Owner, addresses: Sequence[IPInterface]) -> Form:
    """Give the form for `addresses`, at least one and all of one IP version."""
    chain, comment = chain_name(owner), commented(masquerade_comment(owner))
    subnets = dict.fromkeys(str(address.network) for address in addresses)
    multicast = _MULTICAST[addresses[0].version]
    return Form(
        "nat",
        (chain,),
        (
            *(Wanted(chain, ("-d", subnet, *comment, "-j", "ACCEPT"), first=True) for subnet in subnets),
            Wanted(chain, ("!", "-d", multicast, *comment, "-j", "MASQUERADE")),
            *(
                Wanted("POSTROUTING", ("-s", f"{a.ip}/{a.max_prefixlen}", *comment, "-j", chain))
                for a in addresses
            ),
        ),
    )


def make(kernel: Kernel, owner: Owner, addresses: Iterable[IPInterface]) -> None:
    """Masquerade what `addresses` send to elsewhere than their subnets; idempotent.

    Raises as `iptables_form.make`.
    """
    for program, ours in by_program(addresses):
        iptables_form.make(kernel, program, masquerade_form(owner, ours))


def differences(kernel: Kernel, owner: Owner, addresses: Iterable[IPInterface]) -> list[str]:
    """Say what is missing of what `make` makes; changes nothing."""
    return [
        sentence
        for program, ours in by_program(addresses)
        for sentence in iptables_form.differences(kernel, program, masquerade_form(owner, ours))
    ]
