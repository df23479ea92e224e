"""A real containerd, asked over its CRI socket as the kubelet asks."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

IMAGE = "docker.io/library/bb:latest"
# restrict_oom_score_adj: else it wants CAP_SYS_RESOURCE, which root of a virtual machine may lack
CONFIG = """
version = 2
root = "{base}/root"
state = "{base}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "{base}/sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{base}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{base}/net.d"
"""


def field(number: int, value: bytes | str | int) -> bytes:
    """Write one field of a protocol buffer: a number as varint, anything else with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def fields(message: bytes) -> dict[int, bytes]:
    """Read the fields that have a length; the last of several counts, and numbers are passed over."""
    found: dict[int, bytes] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(message):
        key = number()
        length = number()
        if key & 7 == 2:
            found[key >> 3] = message[at : at + length]
            at += length
    return found


class Containerd:
    """containerd 1.6 in a private host. Its pods' only process is that of their sandbox, which serves HTTP.

    There is no crictl in Debian. A unary gRPC call is a POST over HTTP/2, which curl makes.
    """

    def __init__(self, host: Any, plugins: Path, conflist: dict[str, Any], rootfs: Path) -> None:
        """Write its configuration: `plugins` is its only directory of plugins, `conflist` the pods' network."""
        self.host = host
        self.base = host.dir / "containerd"
        self._socket = str(self.base / "sock")
        (self.base / "net.d").mkdir(parents=True)
        text = CONFIG.format(base=self.base, plugins=plugins, image=IMAGE)
        (self.base / "config.toml").write_text(text, encoding="utf-8")
        (self.base / "net.d" / "10-pods.conflist").write_text(json.dumps(conflist), encoding="utf-8")
        self._archive = self._image(rootfs)

    def _image(self, rootfs: Path) -> Path:
        """Write what ``docker save`` writes."""
        layer = rootfs.read_bytes()
        settings = {"Cmd": ["httpd", "-f", "-h", "/www"], "Env": ["PATH=/bin"]}
        digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        config = {"architecture": "amd64", "os": "linux", "config": settings}
        config |= {"rootfs": {"type": "layers", "diff_ids": [digest]}}
        manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
        path = self.base / "image.tar"
        with tarfile.open(path, "w") as archive:
            for name, data in (
                ("config.json", json.dumps(config).encode()),
                ("layer.tar", layer),
                ("manifest.json", json.dumps(manifest).encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
        return path

    def start(self) -> None:
        """Start it, wait until it answers, and give it the image."""
        self.host.spawn("containerd.log", "containerd", "--config", str(self.base / "config.toml"))
        ctr = ("ctr", "--address", self._socket, "--namespace", "k8s.io")
        self.host.wait_for(
            lambda: self.host.try_run(*ctr, "version").returncode == 0,
            timeout_s=60,
            what="containerd answers",
        )
        self.host.run(*ctr, "images", "import", "--snapshotter", "native", str(self._archive))

    def call(self, method: str, request: bytes) -> bytes:
        """Make a unary gRPC call of the CRI (runtime.v1 of k8s.io/cri-api); it must succeed."""
        status, said, answer = self._ask(method, request)
        assert status == "0", f"{method}: {said}\n{self.host.log('containerd.log')[-3000:]}"
        return answer

    def refused(self, method: str, request: bytes) -> str:
        """Make a call that must fail; gives what it says."""
        status, said, _ = self._ask(method, request)
        assert status != "0"
        return said

    def _ask(self, method: str, request: bytes) -> tuple[str, str, bytes]:
        with tempfile.TemporaryDirectory(dir=self.base, prefix="call-") as directory:
            return self._post(Path(directory), method, request)

    def _post(self, directory: Path, method: str, request: bytes) -> tuple[str, str, bytes]:
        question, answer, head = (directory / name for name in ("question", "answer", "head"))
        question.write_bytes(b"\0" + len(request).to_bytes(4, "big") + request)  # 0: not compressed
        answer.write_bytes(b"")
        self.host.run(
            *("curl", "-sS", "--max-time", "60", "--http2-prior-knowledge", "--unix-socket", self._socket),
            *("-H", "Content-Type: application/grpc", "-H", "TE: trailers"),
            *("--data-binary", f"@{question}", "-o", str(answer), "-D", str(head)),
            f"http://containerd/runtime.v1.RuntimeService/{method}",
        )
        lines = (line.partition(": ") for line in head.read_text(encoding="utf-8").splitlines())
        trailer = {key.lower(): value for key, _, value in lines}
        return trailer["grpc-status"], trailer.get("grpc-message", ""), answer.read_bytes()[5:]

    def pod(self, name: str, *, host_port: int = 0, annotations: dict[str, str] | None = None) -> bytes:
        """Write the configuration of a pod sandbox."""
        metadata = field(1, name) + field(2, f"uid-{name}") + field(3, "default")
        port = field(5, field(2, 80) + field(3, host_port)) if host_port else b""
        notes = b"".join(
            field(7, field(1, key) + field(2, value)) for key, value in (annotations or {}).items()
        )
        linux = field(8, field(1, f"/{self.host.cgroup}"))
        return field(1, metadata) + field(2, name) + field(3, str(self.base)) + port + notes + linux

    def run(self, name: str, *, host_port: int = 0, annotations: dict[str, str] | None = None) -> str:
        """Run a pod sandbox; gives its id."""
        config = self.pod(name, host_port=host_port, annotations=annotations)
        return fields(self.call("RunPodSandbox", field(1, config)))[1].decode()

    def remove(self, identifier: str) -> None:
        """Stop a pod sandbox, twice as the kubelet may, and remove it."""
        for method in ("StopPodSandbox", "StopPodSandbox", "RemovePodSandbox"):
            self.call(method, field(1, identifier))

    def address(self, identifier: str) -> str:
        """Give the address that the CRI says a pod has."""
        status = fields(self.call("PodSandboxStatus", field(1, identifier)))[1]
        return fields(fields(status)[5])[1].decode()

    def netns(self, identifier: str) -> str:
        """Give the path of a pod's network namespace."""
        answer = self.call("PodSandboxStatus", field(1, identifier) + field(2, 1))
        verbose = fields(fields(answer)[2])  # the only entry of map info
        return f"/proc/{json.loads(verbose[2])['pid']}/ns/net"


def need_containerd() -> None:
    """Skip the test where containerd is not installed."""
    for program in ("containerd", "runc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian package {program})")
