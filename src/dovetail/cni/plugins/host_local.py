"""Type ``host-local``: addresses of this host, in the files of the reference plugin."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, ClassVar

from dovetail.cni.conf import Conf
from dovetail.cni.errors import NOT_AVAILABLE, CniError
from dovetail.cni.plugins.call import Call, Plugin, refuse
from dovetail.cni.plugins.ipam_config import HostLocalConfig, data_dir, read_host_local
from dovetail.cni.spec.result import IP, Result
from dovetail.errors import DovetailError, InvalidArgument, NotFound, one_sentence
from dovetail.ipam.host_local import DATA_DIR
from dovetail.ipam.host_local_parts import HostLocalAddresses
from dovetail.kernel.protocol import Netns

__all__ = ["HostLocalPlugin"]

_KIND = "host-local"


class HostLocalConf(Conf, frozen=True, kw_only=True):
    """The keys of ``ipam`` of type ``host-local``."""

    ranges: Annotated[
        tuple[tuple[Any, ...], ...],
        "one address is taken of each set; a set is alternatives of one family: `subnet`, `rangeStart`, `rangeEnd`, `gateway`",
    ] = ()
    subnet: Annotated[str, "a set of one range, before those of `ranges`, with the next three keys"] = ""
    range_start: Annotated[str, "its first address; of the subnet's where it is left out"] = ""
    range_end: Annotated[str, "its last address; of the subnet's where it is left out"] = ""
    gateway: Annotated[
        str, "its gateway, which nobody gets; the subnet's first address where it is left out"
    ] = ""
    routes: Annotated[
        tuple[Any, ...], "routes of the container: `dst`, `gw`, `mtu`, `advmss`, `priority`, `table`, `scope`"
    ] = ()
    data_dir: Annotated[str, "the directory of the files, by network"] = DATA_DIR
    resolv_conf: Annotated[str, "a file of resolver settings for the result"] = ""


class HostLocalPlugin(Plugin):
    """A thin parser over `ipam.host_local`."""

    conf = HostLocalConf
    where = "$.ipam"
    capabilities: ClassVar = {
        "ips": "addresses that are wanted, with or without a prefix length",
        "ipRanges": "sets of ranges, before those of the configuration",
    }
    gives_addresses = True

    def add(self, call: Call, netns: Netns) -> Result:
        """Take addresses."""
        config = _read(call)
        wanted = HostLocalAddresses(
            data_dir=config.data_dir, range_sets=config.range_sets, requested=config.requested
        )
        made = self.engine.parts.add(_KIND, call.owner, wanted, netns=netns, path=call.environment.netns)
        ips = tuple(IP(address=one.address, gateway=one.gateway) for one in made.given)
        return Result(ips=ips, routes=config.routes, dns=config.dns)

    def delete(self, call: Call, netns: Netns | None) -> None:
        """Give them back, whoever took them."""
        if self.engine.parts.remove(_KIND, call.owner, netns=netns) is None:
            otherwise = HostLocalAddresses(data_dir=data_dir(call.config))
            with suppress(InvalidArgument):  # a path that is none, where nobody can have taken any
                self.engine.parts.remove(_KIND, call.owner, netns=netns, otherwise=otherwise)

    def check(self, call: Call, netns: Netns) -> None:
        """Compare the files with the part, or say that the container has none."""
        try:
            differences = self.engine.parts.check(_KIND, call.owner, netns=netns)
        except NotFound:
            otherwise = HostLocalAddresses(data_dir=data_dir(call.config))
            differences = self.engine.parts.check(_KIND, call.owner, netns=netns, otherwise=otherwise)
        refuse(differences)

    def gc(self, call: Call) -> None:
        """Give back what the runtime's attachments do not have."""
        if call.valid is not None:
            otherwise = HostLocalAddresses(data_dir=data_dir(call.config))
            self.engine.parts.collect(_KIND, call.name, call.valid, otherwise=otherwise)

    def status(self, call: Call) -> None:
        """Raise code 50 where no address is left."""
        config = _read(call)
        wanted = HostLocalAddresses(data_dir=config.data_dir, range_sets=config.range_sets)
        try:
            self.engine.parts.require(_KIND, call.name, wanted)
        except DovetailError as exc:
            raise CniError(NOT_AVAILABLE, one_sentence(exc)) from exc


def _read(call: Call) -> HostLocalConfig:
    return read_host_local(call.config, version=call.version, args=call.environment.args)
