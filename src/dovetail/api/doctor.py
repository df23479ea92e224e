"""What is wrong on this host, and what to do about it. Every check reads; none changes anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from dovetail.engine.engine import Engine
from dovetail.engine.firewall import Firewall
from dovetail.errors import DovetailError, one_sentence
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.network import Network

__all__ = ["Check", "Verdict", "examine"]

Verdict: TypeAlias = Literal["ok", "warning", "problem"]

_DOCKER_PLUGIN_DIR = "/run/docker/plugins"  # where dockerd looks for sockets, moby pkg/plugins/discovery.go
_SELF_STATUS = "/proc/self/status"
_NEEDED = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN"}  # include/uapi/linux/capability.h
_FEW = 5


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One finding. hint: what to do, empty where all is well."""

    name: str
    verdict: Verdict
    detail: str
    hint: str = ""


def examine(engine: Engine, *, docker_plugin_dir: str = _DOCKER_PLUGIN_DIR) -> list[Check]:
    """Run every check on the engine's namespace; one that cannot run is a problem of its own."""
    checks: tuple[Callable[[Engine], Iterator[Check]], ...] = (
        _privileges,
        _nft,
        _store,
        _table,
        _user_rules,
        _forwarding,
        _forward_policy,
        _bridge_netfilter,
        _links,
        _clashes,
        _orphans,
    )
    found: list[Check] = []
    with engine.tracer.step("cli", "doctor"):
        for check in checks:
            found += _run(check, engine)
    return [*found, _docker_plugins(docker_plugin_dir)]


def _run(check: Callable[[Engine], Iterator[Check]], engine: Engine) -> list[Check]:
    try:
        return list(check(engine))
    except (DovetailError, OSError) as exc:
        name = check.__name__.strip("_").replace("_", " ")
        return [Check(name=name, verdict="problem", detail=f"cannot be checked: {one_sentence(exc)}")]


def _privileges(_engine: Engine) -> Iterator[Check]:
    status = dict(
        line.split(":", 1)
        for line in Path(_SELF_STATUS).read_text(encoding="ascii").splitlines()
        if ":" in line
    )
    effective = int(status["CapEff"].strip(), 16)
    missing = [name for bit, name in _NEEDED.items() if not effective >> bit & 1]
    if missing:
        detail = f"the process (uid {os.geteuid()}) lacks {' and '.join(missing)}"
        yield Check(name="privileges", verdict="problem", detail=detail, hint="run as root")
    else:
        yield Check(
            name="privileges", verdict="ok", detail=f"uid {os.geteuid()} with {', '.join(_NEEDED.values())}"
        )


def _nft(_engine: Engine) -> Iterator[Check]:
    path = shutil.which("nft")
    if path is None:
        hint = "install nftables (Debian: apt install nftables)"
        yield Check(name="nft", verdict="problem", detail="the program nft is not in PATH", hint=hint)
    else:
        yield Check(name="nft", verdict="ok", detail=path)


def _store(engine: Engine) -> Iterator[Check]:
    store = engine.core.store
    networks = store.networks()
    detail = (
        f"{len(networks)} networks, {len(store.endpoints())} endpoints, {len(store.sandboxes())} sandboxes"
    )
    half = [f"{network.name} ({network.status})" for network in networks if network.status != "active"]
    if half:
        hint = "if no operation is under way, restart the daemon: it finishes what a crash interrupted"
        yield Check(
            name="store", verdict="warning", detail=f"{detail}; half done: {', '.join(half)}", hint=hint
        )
    else:
        yield Check(name="store", verdict="ok", detail=f"{detail}; id {store.id}")


def _filtered(engine: Engine) -> list[Network]:
    return [n for n in engine.networks.all() if n.firewall is not None and n.status == "active"]


def _table(engine: Engine) -> Iterator[Check]:
    name = "nftables table"
    table = Firewall(engine.core).table
    wanted, there = bool(_filtered(engine)), table.exists()
    fault = table.fault() if there else ""
    if wanted and not there:
        detail = "table inet dovetail is missing, so nothing is masqueraded or published"
        hint = "restart the daemon, which restores it; something flushed the ruleset"
        yield Check(name=name, verdict="problem", detail=detail, hint=hint)
        return
    if fault:
        yield Check(name=name, verdict="warning", detail=fault, hint=_RESTART)
    else:
        detail = "inet dovetail" if there else "none, as no network needs it"
        yield Check(name=name, verdict="ok", detail=detail)
    if wanted:
        yield _elements(engine)


def _user_rules(engine: Engine) -> Iterator[Check]:
    name, files = "rules of the user", engine.core.user_rules()
    problems = engine.firewall_problems()
    if problems:
        hint = "correct it: within a minute the daemon takes it in"
        yield Check(name=name, verdict="problem", detail=_some(problems), hint=hint)
    elif files:
        yield Check(name=name, verdict="ok", detail=_some([file.path for file in files]))
    else:
        yield Check(name=name, verdict="ok", detail="none")


def _elements(engine: Engine) -> Check:
    firewall = Firewall(engine.core)
    present = engine.kernel.nft_elements()
    wanted = {element for network in _filtered(engine) for element in firewall.network_elements(network)}
    for network in _filtered(engine):
        for endpoint in engine.endpoints.all(network=network.id):
            if endpoint.status == "joined":
                wanted.update(firewall.joined_elements(network, endpoint))
    missing, extra = len(wanted - present), len(present - wanted)
    name = "nftables elements"
    if missing or extra:
        detail = f"{missing} of {len(wanted)} are missing, {extra} belong to nobody"
        return Check(name=name, verdict="problem" if missing else "warning", detail=detail, hint=_RESTART)
    return Check(name=name, verdict="ok", detail=f"all {len(wanted)} are there")


_RESTART = "restart the daemon, which repairs it (systemctl restart dovetail)"


def _forwarding(engine: Engine) -> Iterator[Check]:
    networks = _filtered(engine)
    versions = {subnet.subnet.version for network in networks for subnet in network.subnets}
    for version, key in ((4, "net/ipv4/ip_forward"), (6, "net/ipv6/conf/all/forwarding")):
        on = engine.kernel.sysctl(key) == "1"
        name = f"IPv{version} forwarding"
        if on or version not in versions:
            detail = "on" if on else "off, as no network needs it"
            yield Check(name=name, verdict="ok", detail=detail)
        else:
            detail = f"{key.replace('/', '.')} is off, so containers reach nothing outside their network"
            hint = f"run: sysctl -w {key.replace('/', '.')}=1"
            yield Check(name=name, verdict="problem", detail=detail, hint=hint)


def _forward_policy(engine: Engine) -> Iterator[Check]:
    """See whether another firewall drops what we forward: then our accepts must be in its place for users."""
    name = "FORWARD policy"
    policies = engine.kernel.forward_policies()
    drops = sorted(program for program, drop in policies.items() if drop)
    if policies.get("iptables") is False and _docker_relies_on_drop(engine):
        detail = (
            "the FORWARD policy of iptables is ACCEPT: machines with a route to Docker's own networks reach ports there"
            " that are not published, as Docker before 28 sets DROP only where it turns forwarding on itself"
        )
        hint = "run: iptables -P FORWARD DROP, unless something else on this host relies on ACCEPT"
        yield Check(name=name, verdict="warning", detail=detail, hint=hint)
        return
    if not drops:
        yield Check(name=name, verdict="ok", detail="no other firewall drops what is forwarded")
        return
    wishes = RecordingKernel(engine.kernel)  # what would be added is what is missing
    engine.core.host_firewall.accept(wishes, _filtered(engine))
    where = (
        f"the FORWARD policy of {' and '.join(drops)} is DROP (Docker sets it, and so do we before it comes)"
    )
    if _filtered(engine) and wishes.commands:
        hint = f"restart the daemon, or run: {'; '.join(wishes.commands)}"
        detail = f"{where} and what lets our bridges through is not in place"
        yield Check(name=name, verdict="problem", detail=detail, hint=hint)
    else:
        yield Check(name=name, verdict="ok", detail=f"{where}; our bridges are accepted")


def _docker_relies_on_drop(engine: Engine) -> bool:
    """See by its chains whether a Docker is there that does not drop by rules of its own (those came with DOCKER-FORWARD)."""
    rules = engine.kernel.iptables_rules("iptables")
    return "-N DOCKER-USER" in rules and "-N DOCKER-FORWARD" not in rules


def _bridge_netfilter(engine: Engine) -> Iterator[Check]:
    on = [
        program
        for program in ("iptables", "ip6tables")
        if engine.kernel.sysctl(f"net/bridge/bridge-nf-call-{program}") == "1"
    ]
    if on:
        detail = f"frames within a bridge pass {' and '.join(on)} too (bridge-nf-call is 1)"
    else:
        detail = "frames within a bridge stay clear of the host's firewall"
    yield Check(name="bridge netfilter", verdict="ok", detail=detail)


def _links(engine: Engine) -> Iterator[Check]:
    links = {link.name: link for link in engine.kernel.links()}
    active = [network for network in engine.networks.all() if network.status == "active"]
    wanted = [(n.link, f"{n.link} (network {n.name})") for n in active if n.link]
    # the link that was named, or the one that was made for it; of vlan the parent is a VLAN, which has no link here
    parents = [(n.options.get("parent") or n.parent, n.name) for n in active if n.parent]
    wanted += [(parent, f"{parent} (parent of network {name})") for parent, name in parents]
    missing = [text for name, text in wanted if name not in links]
    down = [text for name, text in wanted if name in links and not links[name].up]
    if missing:
        detail = f"missing: {_some(missing)}"
        yield Check(name="network links", verdict="problem", detail=detail, hint=_RESTART)
    if down:
        hint = f"run: ip link set {down[0].split()[0]} up"
        yield Check(name="network links", verdict="problem", detail=f"down: {_some(down)}", hint=hint)
    if not missing and not down:
        yield Check(name="network links", verdict="ok", detail=f"{len(wanted)} there and up")


def _clashes(engine: Engine) -> Iterator[Check]:
    """Look for routes of the host that came after a network and lead somewhere else with its addresses.

    A network that the host is no gateway of may be on a wire that it has a route to.
    """
    found = []
    routes = [route for route in engine.kernel.routes() if route.destination.prefixlen]
    for network in engine.networks.all():
        if not engine.core.driver(network.driver).is_gateway:
            continue
        own = {network.link, *(endpoint.link for endpoint in engine.endpoints.all(network=network.id))}
        for subnet in network.subnets:
            found += [
                f"{subnet.subnet} of network {network.name} overlaps the route {route.destination} dev {route.link}"
                for route in routes
                if route.link not in own
                and route.destination.version == subnet.subnet.version
                and route.destination.overlaps(subnet.subnet)
            ]
    if found:
        hint = "make the network again with another --subnet, or remove the route"
        yield Check(name="pools", verdict="warning", detail=_some(found), hint=hint)
    else:
        yield Check(name="pools", verdict="ok", detail="no subnet overlaps a route of the host")


def _orphans(engine: Engine) -> Iterator[Check]:
    """Tell what a reconciliation would take away or give back; what it would put back has checks of its own."""
    report = engine.plan()
    found = [str(finding) for finding in report.findings if finding.action != "restore"] + report.failed
    if found:
        yield Check(name="orphans", verdict="warning", detail=_some(found), hint="run: dovetail gc")
    else:
        yield Check(
            name="orphans", verdict="ok", detail="every link, endpoint and address belongs to somebody"
        )


def _docker_plugins(directory: str) -> Check:
    name, path = "docker plugin socket", os.path.join(directory, "dovetail.sock")
    if os.path.exists(path):
        return Check(name=name, verdict="ok", detail=path)
    if shutil.which("dockerd") is None:
        return Check(name=name, verdict="ok", detail="not there, and neither is a Docker Engine")
    hint = "start the daemon (dovetail daemon) before docker"
    return Check(
        name=name, verdict="warning", detail=f"{path} is missing, so Docker cannot use dovetail", hint=hint
    )


def _some(sentences: list[str]) -> str:
    rest = len(sentences) - _FEW
    return "; ".join(sentences[:_FEW]) + (f"; and {rest} more" if rest > 0 else "")
