"""A configuration to run with both directories of plugins: the chain, what the runtime gives, the steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

VERSIONS = (
    "0.1.0",
    "0.2.0",
    "0.3.0",
    "0.3.1",
    "0.4.0",
    "1.0.0",
)  # of the specification, that Go's 1.1.1 speaks
STEPS = ("ADD c1", "CHECK c1", "DEL c1", "DEL c1")  # a second DEL succeeds


@dataclass(frozen=True)
class Case:
    """One configuration of one plugin.

    `steps` are run in order, and the state is compared after each of the first four kinds:

        ADD|CHECK|DEL ID [IFNAME] [netns=PATH] [prevResult=]   what a runtime does; `prevResult=` leaves it out
        host COMMAND, outside COMMAND, in ID COMMAND           a shell's command in a namespace
        lose ID                                                the container's namespace goes away
    """

    plugin: str  # that the case is about
    name: str
    chain: tuple[dict[str, Any], ...]
    version: str = "1.0.0"
    network: str = "mynet"
    steps: tuple[str, ...] = STEPS
    capabilities: dict[str, Any] = field(default_factory=dict)  # what the runtime gives
    capabilities_of: dict[str, dict[str, Any]] = field(default_factory=dict)  # for one container, instead
    args: str = ""  # CNI_ARGS
    before: tuple[str, ...] = ()  # commands on the host
    needs: tuple[str, ...] = ()  # features of the kernel, see `hosts.FEATURES`

    def __str__(self) -> str:
        """Name it in a test's id."""
        return f"{self.plugin}-{self.name}"

    @property
    def types(self) -> set[str]:
        """Give the types of all plugins that it runs."""
        ipam = {plugin["ipam"]["type"] for plugin in self.chain if plugin.get("ipam", {}).get("type")}
        return {plugin["type"] for plugin in self.chain} | ipam

    @property
    def ends_clean(self) -> bool:
        """Say whether the last that happens to each attachment is a DEL."""
        last: dict[tuple[str, str], str] = {}
        for step in self.steps:
            verb, *words = [word for word in step.split() if "=" not in word]
            if verb in {"ADD", "DEL"}:
                last[words[0], words[1] if len(words) > 1 else "eth0"] = verb
        return set(last.values()) <= {"DEL"}

    def document(self) -> dict[str, Any]:
        """Give it as JSON, for the host's process."""
        return asdict(self)


def in_all_versions(first: str, case: Case, *, upto: str = "1.0.0") -> list[Case]:
    """Give `case` in each version of the specification from `first` on, named after it."""
    wanted = VERSIONS[VERSIONS.index(first) : VERSIONS.index(upto) + 1]
    settings = {name: getattr(case, name) for name in case.__dataclass_fields__}
    return [Case(**{**settings, "name": f"{case.name}-{version}", "version": version}) for version in wanted]
