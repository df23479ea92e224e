"""Type ``static``: the addresses that are written into the configuration."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from dovetail.cni.conf import Conf
from dovetail.cni.plugins.call import Call, Plugin, refuse
from dovetail.cni.plugins.ipam_config import read_static, static_differences
from dovetail.cni.spec.result import IP, Result
from dovetail.kernel.protocol import Netns
from dovetail.model.allocated import Allocated

__all__ = ["StaticPlugin"]


class StaticConf(Conf, frozen=True, kw_only=True):
    """The keys of ``ipam`` of type ``static``; CNI_ARGS may add IP and GATEWAY, lists with commas."""

    addresses: Annotated[tuple[Any, ...], "the addresses: `address` with its prefix length, `gateway`"] = ()
    routes: Annotated[
        tuple[Any, ...], "routes of the container: `dst`, `gw`, `mtu`, `advmss`, `priority`, `table`, `scope`"
    ] = ()
    dns: Annotated[dict[str, Any], "`nameservers`, `domain`, `search`, `options`"] = msgspec.field(
        default_factory=dict
    )


class StaticPlugin(Plugin):
    """Keeps nothing: who wrote the configuration keeps the books."""

    conf = StaticConf
    where = "$.ipam"
    capabilities: ClassVar = {"ips": "the addresses, in place of the configuration's"}
    gives_addresses = True

    def add(self, call: Call, netns: Netns) -> Result:
        """Say them."""
        config = read_static(call.config, version=call.version, args=call.environment.args)
        ips = tuple(IP(address=one.address, gateway=one.gateway) for one in config.addresses)
        return Result(ips=ips, routes=config.routes, dns=config.dns)

    def delete(self, call: Call, netns: Netns | None) -> None:
        """Do nothing."""

    def check(self, call: Call, netns: Netns) -> None:
        """Compare them with the result of the chain."""
        config = read_static(call.config, version=call.version, args=call.environment.args)
        found = [Allocated(address=ip.address, gateway=ip.gateway) for ip in call.required_result().ips]
        refuse(static_differences(config, found))

    def gc(self, call: Call) -> None:
        """Do nothing."""

    def status(self, call: Call) -> None:
        """Refuse a configuration that cannot be read."""
        read_static(call.config, version=call.version, args=call.environment.args)
