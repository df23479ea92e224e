"""The play: who comes on stage, who talks to whom, and how everybody leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from dovetail.api.topology import Topology
from dovetail.cli.demo.cni_runtime import CniContainer
from dovetail.cli.demo.docker_engine import EnginePart
from dovetail.cli.demo.real_docker import RealDocker, why_not
from dovetail.cli.demo.report import Report, StepFailedError
from dovetail.cli.demo.stage import HOST_ADDRESS, HOST_ADDRESS6, Stage, call
from dovetail.cli.render import table
from dovetail.cli.topology import draw
from dovetail.cli.trace import step_tree
from dovetail.engine.trace import Step
from dovetail.errors import DovetailError
from dovetail.model.codec import decode

__all__ = ["play"]

_NETWORK, _SUBNET, _SUBNET6 = "web", "10.88.0.0/24", "fd88::/64"
_PAGE = "hello from the sandbox"
_DOCKER_PAGE = "hello from Docker"
_BOX_PORT, _POD_PORT, _PART_PORT, _REAL_PORT = 8080, 8081, 8082, 8083


@dataclass
class Cast:
    """Who is on the network: the address of each by name, and how each attachment was timed."""

    addresses: dict[str, list[str]] = field(default_factory=dict)
    walls: dict[str, float] = field(default_factory=dict)


def play(scratch: str, *, docker: bool) -> int:
    """Play it in this process, which is the first of its private host; give 0 when every step went well."""
    report = Report()
    click.echo("A private host: its own network, mounts, processes and /run. Yours is not touched.")
    stage = Stage(scratch)
    try:
        with ExitStack() as curtain:
            curtain.callback(stage.close)
            _acts(stage, report, docker=docker)
    except (DovetailError, StepFailedError, OSError, ExceptionGroup):
        report.note("the rest cannot go on without it")
    verdict = f"{report.failed} steps FAILED" if report.failed else "Every step went well"
    click.echo(f"\n{verdict}, in {report.seconds:.1f} s.")
    return 1 if report.failed else 0


def _acts(stage: Stage, report: Report, *, docker: bool) -> None:
    cast = Cast()
    report.title("The host, the daemon and a network")
    _set_up(stage, report)
    report.title("Three ways on")
    box = _attach_sandbox(stage, report, cast)
    pod = _attach_cni(stage, report, cast)
    part = _attach_docker_part(stage, report, cast)
    real = _attach_real_docker(stage, report, cast) if docker else None
    report.title("They talk")
    _talk(stage, report, cast, box=box, pod=pod, part=part)
    if real is not None:
        _talk_real(stage, report, cast, real)
    _show(stage, report, cast)
    report.title("Everybody leaves")
    _strike(stage, report, pod=pod, part=part, real=real)


def _set_up(stage: Stage, report: Report) -> None:
    with report.step("a /run of its own, loopback up", vital=True):
        stage.furnish()
    with report.step("a namespace that plays the world outside, on a wire", vital=True) as told:
        stage.make_outside()
        told.append(f"(host {HOST_ADDRESS} and {HOST_ADDRESS6})")
    with report.step("dovetail daemon", vital=True):
        stage.start_daemon()
    with report.step(
        f"dovetail network create {_NETWORK} --subnet {_SUBNET} --subnet {_SUBNET6}", vital=True
    ):
        stage.dovetail("network", "create", _NETWORK, "--subnet", _SUBNET, "--subnet", _SUBNET6)


def _attach_sandbox(stage: Stage, report: Report, cast: Cast) -> str:
    with report.step("dovetail sandbox create box", vital=True):
        stage.dovetail("sandbox", "create", "box")
    with report.step(f"dovetail network connect {_NETWORK} box -p {_BOX_PORT}:80", vital=True) as told:
        begun = time.monotonic()
        words = stage.dovetail("network", "connect", _NETWORK, "box", "-p", f"{_BOX_PORT}:80").split()
        cast.walls["cli"] = time.monotonic() - begun
        cast.addresses["box"] = [word.partition("/")[0] for word in words[1:3]]
        told.extend(words[1:])
    return f"{stage.run_dir}/netns/box"


def _attach_cni(stage: Stage, report: Report, cast: Cast) -> CniContainer:
    bin_dir = os.path.join(stage.scratch, "cni-bin")
    with report.step("dovetail cni install", vital=True) as told:
        paths = stage.dovetail("cni", "install", "--bin-dir", bin_dir).split()
        with open(paths[0], "rb") as file:
            told.append(
                "(compiled C)" if file.read(4) == b"\x7fELF" else "(no C compiler here: the Python stand-in)"
            )
    pod = CniContainer(stage, name="pod", bin_dir=bin_dir, network=_NETWORK, publish=(_POD_PORT, 80))
    with report.step("a CNI runtime executes the plugin: ADD", vital=True) as told:
        begun = time.monotonic()
        result = pod.start()
        cast.walls["cni"] = time.monotonic() - begun
        addresses = [ip["address"] for ip in result["ips"]]
        cast.addresses["pod"] = [address.partition("/")[0] for address in addresses]
        told.extend(addresses)
    return pod


def _attach_docker_part(stage: Stage, report: Report, cast: Cast) -> EnginePart:
    part = EnginePart(stage, network=_NETWORK, publish=(_PART_PORT, 80))
    with report.step("dockerd's part on the plugin socket: Activate, capabilities", vital=True):
        part.activate()
    with report.step(f"RequestPool and CreateNetwork with dovetail.network={_NETWORK}", vital=True):
        part.create_network([_SUBNET, _SUBNET6])
    with report.step("RequestAddress, CreateEndpoint, Join, move the interface, ports", vital=True) as told:
        begun = time.monotonic()
        addresses = part.start_container()
        cast.walls["docker"] = time.monotonic() - begun
        cast.addresses[part.name] = [address.partition("/")[0] for address in addresses]
        told.extend(addresses)
    return part


def _attach_real_docker(stage: Stage, report: Report, cast: Cast) -> RealDocker | None:
    missing = why_not()
    if missing:
        report.note(f"no real Docker Engine: {missing}; the plugin socket was driven as dockerd drives it")
        return None
    real = RealDocker(stage)
    with report.step("a real Docker Engine starts", vital=True) as told:
        real.start()
        told.append(f"(dockerd {real.docker('version', '--format', '{{.Server.Version}}')})")
    with report.step(
        "docker network create -d dovetail --ipam-driver dovetail, on the same network", vital=True
    ):
        choice = f"dovetail.network={_NETWORK}"
        words = ["-d", "dovetail", "--ipam-driver", "dovetail", "-o", choice, "--ipam-opt", choice]
        real.docker("network", "create", *words, _NETWORK)
    with report.step(f"docker run -p {_REAL_PORT}:80 --network {_NETWORK}", vital=True) as told:
        real.make_image("page", _DOCKER_PAGE)
        begun = time.monotonic()
        real.docker(
            "run", "-d", "--name", "real", "-p", f"{_REAL_PORT}:80", "--network", _NETWORK, "page",
            "/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www",
        )  # fmt: skip
        cast.walls["real"] = time.monotonic() - begun
        address = real.docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "real"
        )
        cast.addresses["real"] = [address]
        told.append(address)
    return real


def _talk(stage: Stage, report: Report, cast: Cast, *, box: str, pod: CniContainer, part: EnginePart) -> None:
    with report.step("python3 -m http.server 80 in the sandbox", vital=True):
        stage.serve(box, _PAGE)
    four, six = cast.addresses["box"]
    for who, netns in (("CNI container", pod.netns), ("Docker-style container", part.netns)):
        for address in (four, six):
            report.expect(
                f"{who} fetches http://{address}", partial(stage.fetch, address, netns=netns), _PAGE
            )
    published = [
        ("the world outside", HOST_ADDRESS, stage.outside),
        ("the world outside", HOST_ADDRESS6, stage.outside),
        ("the host", "127.0.0.1", ""),
        ("the host", HOST_ADDRESS, ""),
        ("CNI container", HOST_ADDRESS, pod.netns),
        ("the sandbox itself (hairpin)", HOST_ADDRESS, box),
    ]
    for who, address, netns in published:
        text = f"{who} fetches the published port {address}:{_BOX_PORT}"
        report.expect(text, partial(stage.fetch, address, _BOX_PORT, netns=netns), _PAGE)
    report.expect(
        "CNI container, seen from outside, has the host's address",
        lambda: stage.seen_outside_as(pod.netns),
        HOST_ADDRESS,
    )
    taken = [address for addresses in cast.addresses.values() for address in addresses]
    with report.step("no address is given twice") as told:
        if len(taken) != len(set(taken)):
            raise StepFailedError(f"{taken}")
        told.append(f"({len(taken)} addresses)")


def _talk_real(stage: Stage, report: Report, cast: Cast, real: RealDocker) -> None:
    box = cast.addresses["box"][0]
    fetch_box = ("exec", "real", "/bin/busybox", "wget", "-q", "-O", "-")  # -T crashes Debian 12's busybox
    report.expect(
        f"Docker container fetches http://{box}", lambda: real.docker(*fetch_box, f"http://{box}/"), _PAGE
    )
    address = cast.addresses["real"][0]
    netns = f"{stage.run_dir}/netns/box"
    report.expect(
        f"the sandbox fetches http://{address} from Docker",
        lambda: stage.fetch(address, netns=netns),
        _DOCKER_PAGE,
    )
    report.expect(
        f"the world outside fetches Docker's published port {HOST_ADDRESS}:{_REAL_PORT}",
        lambda: stage.fetch(HOST_ADDRESS, _REAL_PORT, netns=stage.outside),
        _DOCKER_PAGE,
    )


def _show(stage: Stage, report: Report, cast: Cast) -> None:
    report.title("dovetail topology")
    click.echo(draw(decode(stage.daemon.request("GET", "/v1/topology", None, query={}), Topology)))
    steps = decode(stage.daemon.request("GET", "/v1/trace", None, query={"last": "200"}), list[Step])
    attachments = [step for step in steps if (step.layer, step.name) in _ATTACHMENTS]
    report.title("dovetail trace: the attachments")
    for step in attachments:
        click.echo(step_tree(step))
    report.title("How long each attachment took")
    click.echo(_times(cast, attachments))
    click.echo("The whole call has the caller's own time in it: Python's start, the container's start.")


_ATTACHMENTS = {
    ("cli", "network connect"),
    ("cni", "ADD"),
    ("docker", "IpamDriver.RequestAddress"),
    ("docker", "NetworkDriver.CreateEndpoint"),
    ("docker", "NetworkDriver.Join"),
    ("docker", "NetworkDriver.ProgramExternalConnectivity"),
}


def _times(cast: Cast, steps: list[Step]) -> str:
    """Tabulate the time inside dovetail, and that of the whole call, which has the caller's own in it."""
    docker = [step for step in steps if step.layer == "docker"]
    joins = [
        index for index, step in enumerate(docker) if step.name == "NetworkDriver.ProgramExternalConnectivity"
    ]
    part = docker[: joins[0] + 1] if joins else docker
    rest = docker[joins[0] + 1 :] if joins else []
    rows = [
        (
            "sandbox",
            "dovetail network connect",
            [s for s in steps if s.layer == "cli"],
            cast.walls.get("cli"),
        ),
        (
            "CNI container",
            "the installed plugin, ADD",
            [s for s in steps if s.layer == "cni"],
            cast.walls.get("cni"),
        ),
        ("Docker-style container", "the plugin socket", part, cast.walls.get("docker")),
        ("Docker container", "docker run", rest, cast.walls.get("real")),
    ]
    return table(
        ("ATTACHED", "BY", "IN THE DAEMON", "THE WHOLE CALL"),
        [
            (who, how, f"{sum(step.duration_ms for step in chosen):.2f} ms", f"{wall * 1000:.0f} ms")
            for who, how, chosen, wall in rows
            if wall is not None
        ],
    )


def _strike(
    stage: Stage, report: Report, *, pod: CniContainer, part: EnginePart, real: RealDocker | None
) -> None:
    if real is not None:
        with report.step("docker rm -f, docker network rm, dockerd stops"):
            real.docker("rm", "-f", "real")
            real.docker("network", "rm", _NETWORK)
            real.stop()
    with report.step("dockerd's part: Leave, DeleteEndpoint, ReleaseAddress, DeleteNetwork"):
        part.stop_container()
        part.delete_network()
    with report.step("the CNI runtime executes the plugin: DEL"):
        pod.stop()
    with report.step("dovetail sandbox rm box"):
        stage.dovetail("sandbox", "rm", "box")
    with report.step(f"dovetail network rm {_NETWORK}"):
        stage.dovetail("network", "rm", _NETWORK)
    with report.step("the engine holds nothing any more"):
        view = decode(stage.daemon.request("GET", "/v1/topology", None, query={}), Topology)
        pools = stage.daemon.request("GET", "/v1/pools", None, query={})
        if view.networks or view.sandboxes or pools != b"[]":
            raise StepFailedError(draw(view) + pools.decode())
    with report.step("dovetail daemon stops on SIGTERM and takes its sockets along"):
        stage.stop_daemon()
    with report.step("no link, namespace or nftables table of ours is left"):
        _look_for_remains(stage)


def _look_for_remains(stage: Stage) -> None:
    links = [
        link.name
        for link in stage.kernel.links()
        if link.alias.startswith("dovetail:") or link.name.startswith("dv")
    ]
    mounted = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    mounts = [line.split()[1] for line in mounted if stage.run_dir in line]
    tables = call("nft", "list", "tables")
    rules = ""
    if shutil.which("iptables"):
        rules = subprocess.run(
            ["iptables", "-S"], capture_output=True, text=True, check=False, timeout=10
        ).stdout
    found = [*links, *mounts, *(["nftables table"] if "dovetail" in tables else [])]
    found += [line for line in rules.splitlines() if "dovetail" in line.lower()]
    if found:
        raise StepFailedError(f"there are {', '.join(found)}")
