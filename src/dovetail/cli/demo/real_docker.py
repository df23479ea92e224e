"""A real Docker Engine on the stage: its own directories, one image made of busybox, one container."""

from __future__ import annotations

import glob
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from dovetail.cli.demo.report import StepFailedError
from dovetail.cli.demo.stage import Stage, call, wait_for

__all__ = ["RealDocker", "why_not"]

_STOP_S = 20
_READY_S = 40.0


def why_not() -> str:
    """Say what is missing for a real Docker Engine; empty where nothing is."""
    for program, package in (
        ("dockerd", "docker.io"),
        ("docker", "docker.io or docker-cli"),
        ("busybox", "busybox-static"),
    ):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: {package})"
    return ""


class RealDocker:
    """One dockerd, started and stopped here."""

    def __init__(self, stage: Stage) -> None:
        self._directory = os.path.join(stage.scratch, "docker")
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroup = os.path.basename(stage.scratch)
        self._socket = f"unix://{self._directory}/docker.sock"

    def start(self) -> None:
        """Start dockerd and wait until it answers."""
        os.makedirs(self._directory)
        with open(os.path.join(self._directory, "log"), "wb") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--data-root={self._directory}/data",
                    f"--exec-root={self._directory}/exec",
                    f"--pidfile={self._directory}/pid",
                    f"--host={self._socket}",
                    "--storage-driver=vfs",  # needs nothing of the file system below
                    "--exec-opt=native.cgroupdriver=cgroupfs",  # no systemd is in here to be asked
                    f"--cgroup-parent=/{self._cgroup}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, "dockerd", timeout_s=_READY_S)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            log = Path(self._directory, "log").read_text(encoding="utf-8", errors="replace").strip()
            raise StepFailedError(
                f"dockerd ended with status {self._process.returncode}: {log.splitlines()[-1:]}"
            )
        done = subprocess.run(
            ["docker", "--host", self._socket, "version"], capture_output=True, check=False, timeout=_STOP_S
        )
        return done.returncode == 0

    def docker(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run the docker command."""
        return call("docker", "--host", self._socket, *arguments, stdin=stdin).strip()

    def make_image(self, name: str, page: str) -> None:
        """Import an image that has busybox and one page."""
        buffer = io.BytesIO()
        busybox = shutil.which("busybox") or ""
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(os.path.realpath(busybox), arcname="bin/busybox")
            for applet in ("sh", "wget", "httpd"):
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
            index = tarfile.TarInfo("www/index.html")
            index.size, index.mode = len(page), 0o644
            archive.addfile(index, io.BytesIO(page.encode("ascii")))
        self.docker("import", "-", name, stdin=buffer.getvalue())

    def stop(self) -> None:
        """Stop dockerd, and kill it where it does not; its cgroups go as well."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise StepFailedError(f"dockerd did not stop within {_STOP_S} s") from None
        finally:
            self._process = None
            for top in glob.glob(f"/sys/fs/cgroup/{self._cgroup}") + glob.glob(
                f"/sys/fs/cgroup/*/{self._cgroup}"
            ):
                for directory, _, _ in os.walk(top, topdown=False):
                    os.rmdir(directory)
