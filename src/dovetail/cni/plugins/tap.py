"""Type ``tap``: an interface whose other end is a process, such as a virtual machine's."""

from __future__ import annotations

import os
from typing import Annotated, ClassVar, Literal

import msgspec

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.environment import check_args
from dovetail.cni.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.interface_plugin import InterfacePlugin, by_gateways
from dovetail.cni.plugins.link_keys import LINK_ARGS, check_mtu, mac_in, read_mac, read_mtu
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Attachment
from dovetail.model.lone_link import TapLink
from dovetail.model.names import check_ifname

__all__ = ["TapPlugin"]

_ID_MAX = 2**32 - 2  # 2**32 - 1 is nobody's, INVALID_UID of include/linux/uidgid.h


class TapConf(Conf, frozen=True, kw_only=True):
    """The keys of ``tap``."""

    multi_queue: Annotated[bool, "the process may open it several times"] = False
    mtu: Annotated[
        int | Literal["auto"], "0 is the kernel's default, auto that of the host's default route"
    ] = 0
    mac: Annotated[str, "the MAC of the interface; a runtime's goes before"] = ""
    owner: Annotated[int | None, "the id of the user who may open it"] = None
    group: Annotated[int | None, "the id of the group that may open it"] = None
    bridge: Annotated[str, "a bridge of the container that it becomes a port of"] = ""
    selinux_context: Annotated[str, "refused where SELinux is there: the interface has dovetail's own"] = ""


class TapPlugin(InterfacePlugin):
    """A thin parser over `drivers.lone_link`."""

    kind = "tap"
    conf = TapConf
    capabilities: ClassVar = {"mac": "the MAC of the interface"}
    selinux: ClassVar[str] = "/sys/fs/selinux"

    def read(self, call: Call) -> None:
        """Refuse what no tap can have."""
        conf = read_conf(call.config, TapConf)
        check_args(call.environment.args, LINK_ARGS)
        check_mtu(call)
        read_mac(call, key=True)
        if conf.bridge:
            check_ifname(conf.bridge, where="$.bridge")
        for key, number in (("owner", conf.owner), ("group", conf.group)):
            if number is not None and not 0 <= number <= _ID_MAX:
                raise CniError(INVALID_CONFIG, f"$.{key}: {number} is not between 0 and {_ID_MAX}")
        if conf.selinux_context and os.path.isdir(self.selinux):
            text = f"$.selinuxContext: {conf.selinux_context!r}: an interface is not made under another label"
            raise CniError(UNSUPPORTED_FIELD, text, "leave it out, and let the policy allow dovetail's")

    def detail(self, call: Call, ipam: Result, netns: Netns) -> TapLink:
        """Put the link together."""
        conf = read_conf(call.config, TapConf)
        return TapLink(
            attachment=Attachment(
                ifname=call.environment.ifname,
                mac=read_mac(call, key=True),
                addresses=tuple(ip.address for ip in ipam.ips),
                routes=by_gateways(ipam.routes, ipam.ips),
                sandbox=call.environment.netns,
            ),
            mtu=read_mtu(call, self.engine.kernel, ipv6=any(ip.address.version == 6 for ip in ipam.ips)),
            multi_queue=conf.multi_queue,
            owner=conf.owner,
            group=conf.group,
            bridge=conf.bridge,
        )

    def expected(self, call: Call, result: Result, netns: Netns) -> TapLink:
        """Say what the result of another program's plugin names."""
        detail = self.detail(call, result, netns)
        attachment = msgspec.structs.replace(detail.attachment, mac=mac_in(call, result), mtu=detail.mtu)
        return msgspec.structs.replace(detail, attachment=attachment)

    def remains(self, call: Call, netns: Netns | None) -> TapLink:
        """Say what the reference plugin leaves to find: an interface in the sandbox."""
        return TapLink(attachment=Attachment(ifname=call.environment.ifname), ours=False)
