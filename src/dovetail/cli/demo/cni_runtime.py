"""What a CNI runtime does: a namespace for the container, and the plugin executed with JSON on its standard input.

Source: CNI SPEC 1.1.0, "Execution protocol".
"""

from __future__ import annotations

import json
from typing import Any

from dovetail.cli.demo.stage import Stage, call

__all__ = ["CniContainer"]


class CniContainer:
    """One container of a runtime, on one network."""

    def __init__(
        self, stage: Stage, *, name: str, bin_dir: str, network: str, publish: tuple[int, int]
    ) -> None:
        self.name = name
        self.netns = f"/run/netns/{name}"
        self._stage = stage
        self._bin_dir = bin_dir
        host_port, container_port = publish
        self._config: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": network,
            "type": "dovetail",
            "network": network,
            "runtimeConfig": {
                "portMappings": [{"hostPort": host_port, "containerPort": container_port, "protocol": "tcp"}]
            },
        }

    def start(self) -> dict[str, Any]:
        """Make the namespace and execute ADD; gives the result."""
        self._stage.kernel.create_netns(self.netns).close()
        result: dict[str, Any] = json.loads(self._execute("ADD"))
        return result

    def stop(self) -> None:
        """Execute DEL and delete the namespace."""
        self._execute("DEL")
        self._stage.kernel.delete_netns(self.netns)

    def _execute(self, command: str) -> str:
        environ = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.name,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self._bin_dir,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        return call(f"{self._bin_dir}/dovetail", stdin=json.dumps(self._config).encode(), environ=environ)
