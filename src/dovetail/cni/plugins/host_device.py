"""Type ``host-device``: a network card of the host goes into the container, and comes back."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.errors import INVALID_CONFIG, NOT_AVAILABLE, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.interface_plugin import InterfacePlugin, by_gateways
from dovetail.cni.plugins.link_keys import mac_in
from dovetail.cni.spec.result import Result
from dovetail.errors import DovetailError, InvalidArgument, NotFound, one_sentence
from dovetail.kernel.devices import (
    DeviceSelector,
    find_device,
    pci_address,
    read_device_id,
    userspace_driver,
)
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Attachment
from dovetail.model.host_device import HostDevice
from dovetail.model.mac import Mac
from dovetail.model.names import check_ifname

__all__ = ["HostDevicePlugin"]


class HostDeviceConf(Conf, frozen=True, kw_only=True):
    """The keys of ``host-device``; of several that name the device the first counts."""

    device: Annotated[str, "the name of its interface on the host"] = ""
    hwaddr: Annotated[str, "its MAC address"] = ""
    kernelpath: Annotated[str, "its directory below `/sys/devices`"] = ""
    pci_bus_id: Annotated[str, "its PCI address, as `0000:3b:00.1`"] = msgspec.field(
        name="pciBusID", default=""
    )


class HostDevicePlugin(InterfacePlugin):
    """A thin parser over `drivers.host_device`."""

    kind = "host-device"
    conf = HostDeviceConf
    capabilities: ClassVar = {"deviceID": "the device, by its PCI address or as an auxiliary one"}

    def read(self, call: Call) -> None:
        """Refuse a configuration that names no device, or none that can be."""
        _selector(call)

    def detail(self, call: Call, ipam: Result, netns: Netns) -> HostDevice:
        """Find the device. One whose driver gives it to a process (DPDK) stays, and only has addresses."""
        selector, where = _selector(call)
        attachment = Attachment(
            ifname=call.environment.ifname,
            addresses=tuple(ip.address for ip in ipam.ips),
            routes=by_gateways(ipam.routes, ipam.ips),
            sandbox=call.environment.netns,
        )
        driver = userspace_driver(selector.pci, where=where) if selector.pci else ""
        if driver:
            return HostDevice(attachment=attachment, pci=selector.pci, driver=driver)
        link = find_device(self.engine.kernel, selector, where=where)
        attachment = msgspec.structs.replace(attachment, mac=_mac(link.mac), mtu=link.mtu)
        alias = "" if link.alias == link.name else link.alias  # Go's leaves that behind
        return HostDevice(attachment=attachment, device=link.name, alias=alias, pci=pci_address(link.name))

    def result(self, call: Call, ipam: Result, attachment: Attachment) -> Result:
        """Say the PCI address, and no interface where there is none."""
        result = super().result(call, ipam, attachment)
        made: HostDevice | None = self.engine.parts.known(self.kind, call.owner)
        if made is None:
            return result
        if made.driver:
            ips = tuple(msgspec.structs.replace(ip, interface=None) for ip in result.ips)
            return msgspec.structs.replace(result, interfaces=(), ips=ips)
        inner = msgspec.structs.replace(result.interfaces[-1], pci_id=made.pci)
        return msgspec.structs.replace(result, interfaces=(inner,))

    def expected(self, call: Call, result: Result, netns: Netns) -> HostDevice:
        """Say what the result of another program's plugin names; a result without an interface is of a device that stays."""
        inner = result.inner(call.environment.ifname)
        attachment = Attachment(
            ifname=call.environment.ifname,
            mac=mac_in(call, result),
            addresses=tuple(ip.address for ip in result.ips),
            routes=by_gateways(result.routes, result.ips),
        )
        return HostDevice(attachment=attachment, driver="" if inner is not None else "unknown")

    def remains(self, call: Call, netns: Netns | None) -> HostDevice:
        """Say what the reference plugin leaves to find: a device in the sandbox with its name in its alias."""
        return HostDevice(attachment=Attachment(ifname=call.environment.ifname))

    def status(self, call: Call) -> None:
        """Raise code 50 where the host does not have the device."""
        super().status(call)
        selector, where = _selector(call)
        try:
            if not (selector.pci and userspace_driver(selector.pci, where=where)):
                find_device(self.engine.kernel, selector, where=where)
        except (InvalidArgument, NotFound) as exc:
            raise CniError(NOT_AVAILABLE, one_sentence(exc)) from exc


def _selector(call: Call) -> tuple[DeviceSelector, str]:
    """Read which device is meant, and where that is said. Raises code 7."""
    conf = read_conf(call.config, HostDeviceConf)
    if conf.device:
        return DeviceSelector(name=check_ifname(conf.device, where="$.device")), "$.device"
    if conf.hwaddr:
        try:
            return DeviceSelector(mac=Mac(conf.hwaddr)), "$.hwaddr"
        except DovetailError as exc:
            raise InvalidArgument(exc.message, where="$.hwaddr", hint=exc.hint) from exc
    if conf.kernelpath:
        return DeviceSelector(kernel_path=conf.kernelpath), "$.kernelpath"
    device_id = call.runtime.text("deviceID")
    if device_id:
        where = "$.runtimeConfig.deviceID"
        return read_device_id(device_id, where=where), where
    if conf.pci_bus_id:
        return DeviceSelector(pci=conf.pci_bus_id), "$.pciBusID"
    raise CniError(INVALID_CONFIG, 'specify either "device", "hwaddr", "kernelpath" or "pciBusID"')


def _mac(text: str) -> Mac | None:
    """Read a MAC; a card may have none, or no Ethernet one."""
    try:
        return Mac(text) if text else None
    except InvalidArgument:
        return None
