"""Type ``dovetail``: join the network of that name, which Docker and others may be on as well.

``{"type": "dovetail", "network": "web"}``; without ``network`` it is the configuration's name.
Capabilities: portMappings, ips, mac, aliases, dns.
"""

from __future__ import annotations

from ipaddress import ip_interface

import msgspec

from dovetail.cni.environment import check_args
from dovetail.cni.errors import NOT_AVAILABLE, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.plugins.call import Call, Plugin, refuse
from dovetail.cni.port_mappings import read_port_mappings
from dovetail.cni.spec.result import Result, from_attachment
from dovetail.engine.engine import endpoint_id
from dovetail.errors import DovetailError, one_sentence
from dovetail.kernel.protocol import Netns
from dovetail.model.addresses import EVERYWHERE, IPAddress, parse_address
from dovetail.model.attachment import DNS, Attachment, Route
from dovetail.model.endpoint import EndpointSpec
from dovetail.model.mac import Mac
from dovetail.model.port import PortMapping
from dovetail.model.sandbox import Sandbox
from dovetail.model.sysctls import check_sysctls

__all__ = ["DovetailPlugin"]

_ARGS = ("IP", "MAC", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID")


class DovetailPlugin(Plugin):
    """A thin parser over the engine."""

    def add(self, call: Call, netns: Netns) -> Result:
        """Attach the container to the network."""
        environment, runtime, for_cni = call.environment, call.runtime, call.cni_args
        args = environment.args
        check_args(args, _ARGS)
        mac = runtime.text("mac") or for_cni.text("mac") or args.get("MAC", "")
        addresses = (
            runtime.texts("ips") or for_cni.texts("ips") or tuple(filter(None, args.get("IP", "").split(",")))
        )
        name = args.get("K8S_POD_NAME") or environment.container_id
        spec = EndpointSpec(
            owner=call.owner,
            name=name,
            addresses=tuple(_address(text) for text in addresses),
            mac=Mac(mac) if mac else None,
            aliases=runtime.texts_for("aliases", call.name),  # podman's are under the configuration's name
            dns=_dns(runtime.object("dns"), call.config.object("dns")),
            ports=tuple(_everywhere(port) for port in read_port_mappings(runtime)),
            sysctls=check_sysctls(call.config.strings("sysctl"), where="$.sysctl"),
        )
        sandbox = Sandbox(id=environment.container_id, name=name, netns=environment.netns, face="cni")
        attachment = self.engine.endpoints.attach(_network(call), spec, netns=netns, sandbox=sandbox)
        routes = (*_defaults(attachment), *attachment.routes)
        return from_attachment(msgspec.structs.replace(attachment, routes=routes))

    def delete(self, call: Call, netns: Netns | None) -> None:
        """Detach it; neither the namespace nor prevResult nor the network is needed."""
        self.engine.endpoints.detach(endpoint_id(call.owner))

    def check(self, call: Call, netns: Netns) -> None:
        """Compare the kernel with what ADD made."""
        call.required_result()
        refuse(self.engine.endpoints.check(endpoint_id(call.owner), netns))

    def gc(self, call: Call) -> None:
        """Detach what the runtime does not know any more; without a list nothing happens (cni.md §1.7.8)."""
        if call.valid is not None:
            self.engine.endpoints.collect("cni", call.name, call.valid)

    def status(self, call: Call) -> None:
        """Say whether the next ADD would find network, firewall and a free address."""
        try:
            self.engine.status(_network(call))
        except DovetailError as exc:
            raise CniError(NOT_AVAILABLE, one_sentence(exc)) from exc


def _defaults(attachment: Attachment) -> list[Route]:
    """Name the default routes, which an attachment knows as its gateways and a CNI result as routes."""
    return [Route(destination=EVERYWHERE[g.version], gateway=g) for g in attachment.gateways]


def _network(call: Call) -> str:
    return call.config.text("network") or call.name


def _address(text: str) -> IPAddress:
    """Read ``10.0.0.5`` or ``10.0.0.5/24``: runtimes send either."""
    try:
        return ip_interface(text).ip
    except ValueError:
        return parse_address(text, where="$.runtimeConfig.ips")


def _dns(runtime: Folded, configured: Folded) -> DNS:
    return DNS(
        nameservers=runtime.texts("servers") or configured.texts("nameservers"),
        domain=configured.text("domain"),
        search=runtime.texts("searches") or configured.texts("search"),
        options=runtime.texts("options") or configured.texts("options"),
    )


def _everywhere(port: PortMapping) -> PortMapping:
    """Take ``0.0.0.0`` and ``::``, which runtimes send where nothing was said, for every address of both families."""
    unspecified = port.host_ip is not None and port.host_ip.is_unspecified
    return msgspec.structs.replace(port, host_ip=None) if unspecified else port
