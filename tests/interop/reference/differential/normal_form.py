"""The state of a host and its containers as one flat table: a path for each fact, and no name that chance gave.

Random names become what they are to somebody with a name (``<peer of c1 eth0>``), random MAC addresses the link
that has them, link-local addresses of the kernel's own making and what passes by itself are left out.
"""

from __future__ import annotations

import json
import re
from typing import Any

from differential.kernel_state import bridge_address_is_set

HOST = "host"
WITHOUT_PEER = "<veth without a peer>"
Flat = dict[str, Any]

_MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b")
_LINK_FACTS = (
    "mtu",
    "group",
    "txqlen",
    "link_type",
    "promiscuity",
    "allmulti",
    "num_tx_queues",
    "num_rx_queues",
)
_PASSING_FLAGS = {"LOWER_UP", "NO-CARRIER", "M-DOWN"}
_TIMES = {"valid_life_time", "preferred_life_time"}
# Of a bridge and its ports: timers, and what the spanning tree and the ports found out.
_PASSING = re.compile(
    r"_timer$|_id$|^root|^designated|^state$|^topology|^port_no$|^no$|^config_pending$|_cnt$|^bridge|_lasttime$|^id$|"
    r"^tcn|^n_|_time$|^gc|^message_age$|^multicast_router$"
)
_NFT_PASSING = {"handle", "metainfo", "packets", "bytes"}
_OF_IPTABLES = {"filter", "nat", "mangle", "raw", "security"}


class Names:
    """Knows the links of one moment: what each is called, and whose a MAC address is."""

    def __init__(self, namespaces: dict[str, Any], fixed: str, before: Names | None = None) -> None:
        """`namespaces` are those of `kernel_state.namespace`, `fixed` a text with all names that somebody chose.

        `before` knows those of an earlier moment: rules and files may still have a name that is gone.
        """
        self._fixed = fixed
        self._links = {
            where: {link["ifindex"]: link for link in state["links"]} for where, state in namespaces.items()
        }
        self.names: dict[str, dict[str, str]] = {
            where: {link["ifname"]: link["ifname"] for link in state["links"]}
            for where, state in namespaces.items()
        }
        self._name_peers()
        self._macs: dict[str, str] = {}
        self._own_macs()
        self._random = {} if before is None else dict(before._random)
        self._random |= {
            name: shown for names in self.names.values() for name, shown in names.items() if name != shown
        }
        if before is not None:
            self._macs = before._macs | self._macs
        words = sorted(map(re.escape, self._random), key=len, reverse=True)
        self._words = re.compile(rf"(?<![\w-])({'|'.join(words)})(?![\w-])") if words else None

    def _chosen(self, word: str) -> bool:
        return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", self._fixed) is not None

    def _name_peers(self) -> None:
        for where, index, link in self._ordered():
            name = link["ifname"]
            if where != HOST or link.get("linkinfo", {}).get("info_kind") != "veth" or self._chosen(name):
                continue
            for other, at, peer in self._ordered():
                mutual = link.get("link_index", self._index(where, link.get("link"))) == at and (
                    peer.get("link_index", self._index(other, peer.get("link"))) == index
                )
                if mutual and (other, at) != (where, index):
                    place = "" if other == HOST else f"{other} "
                    self.names[where][name] = f"<peer of {place}{peer['ifname']}>"
                    break
            else:
                self.names[where][name] = WITHOUT_PEER

    def _ordered(self) -> list[tuple[str, int, Any]]:
        rows = [(where, at, link) for where, links in self._links.items() for at, link in links.items()]
        return sorted(rows, key=lambda row: (row[0] == HOST, row[0], row[2]["ifname"]))

    def _index(self, where: str, name: str | None) -> int:
        return next((at for at, link in self._links[where].items() if link["ifname"] == name), 0)

    def _own_macs(self) -> None:
        rows = self._ordered()
        # a bridge without an address of its own has that of a port, and the port's name goes with it
        rows.sort(key=lambda row: row[2].get("linkinfo", {}).get("info_kind") == "bridge")
        for where, _, link in rows:
            mac = link.get("address", "")
            if mac and mac != "00:00:00:00:00:00" and not self._chosen(mac):
                place = "" if where == HOST else f"{where} "
                self._macs.setdefault(mac, f"<mac of {place}{self.names[where][link['ifname']]}>")

    def text(self, text: str) -> str:
        """Put the chosen names into a text."""
        if self._words:
            text = self._words.sub(lambda found: self._random[found[0]], text)
        return _MAC.sub(lambda found: self._macs.get(found[0]) or self._unknown(found[0]), text)

    def _unknown(self, mac: str) -> str:
        """Show an address that no link has any more; one of all zeroes or all ones is nobody's."""
        return mac if len(set(mac)) == 2 or self._chosen(mac) else "<mac of nobody>"

    def value(self, value: Any) -> Any:
        """The same for all strings in JSON."""
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.value(one) for one in value]
            case dict():
                return {key: self.value(one) for key, one in value.items()}
            case _:
                return value

    def mac(self, where: str, name: str) -> str | None:
        """Give the MAC address of a link as the kernel has it."""
        return next(
            (link.get("address") for link in self._links.get(where, {}).values() if link["ifname"] == name),
            None,
        )

    def lower(self, where: str, link: dict[str, Any]) -> str | None:
        """Name the link that `link` lies on, here or on the host."""
        if "link" in link:
            return self.text(link["link"])
        below = self._links[HOST].get(link.get("link_index", 0))
        if below is None or link.get("linkinfo", {}).get("info_kind") == "veth":
            return None
        return f"host {self.names[HOST][below['ifname']]}"


def flatten(document: Any, path: str) -> Flat:
    """Give a path for each leaf of JSON; an empty list or object is a leaf."""
    if isinstance(document, dict) and document:
        return {k: v for key, one in document.items() for k, v in flatten(one, f"{path}/{key}").items()}
    if isinstance(document, list) and document:
        return {k: v for at, one in enumerate(document) for k, v in flatten(one, f"{path}/{at}").items()}
    return {path: document}


def normal_form(namespaces: dict[str, Any], files: Any, names: Names) -> Flat:
    """Give the table of all namespaces and files; paths begin with ``host``, a container's id or ``file``."""
    flat: Flat = {}
    for where, state in namespaces.items():
        for part in (_links, _routes, _rules, _neighbours, _queues, _sysctls, _iptables, _nft):
            flat |= {f"{where}/{path}": value for path, value in part(where, state, names).items()}
    for path, facts in files.items():
        flat |= {f"file {path}/{key}": names.text(value) for key, value in facts.items()}
    return flat


def result_form(result: Any, names: Names, containers: dict[str, str]) -> Flat:
    """Give the table of a result; a random MAC address that is the link's is ``<mac>``."""
    document = json.loads(json.dumps(result))
    by_path = {path: name for name, path in containers.items()}
    for interface in document.get("interfaces") or []:
        where = by_path.get(interface.get("sandbox"), HOST)
        actual = names.mac(where, interface.get("name", ""))
        if actual and interface.get("mac") == actual and names.text(actual) != actual:
            interface["mac"] = "<mac>"
    return flatten(names.value(document), "result")


def _links(where: str, state: Any, names: Names) -> Flat:
    flat: Flat = {}
    for link in state["links"]:
        shown = names.names[where][link["ifname"]]
        base = f"link {shown}"
        facts: dict[str, Any] = {key: link[key] for key in _LINK_FACTS if key in link}
        facts["flags"] = sorted(set(link["flags"]) - _PASSING_FLAGS)
        info = link.get("linkinfo", {})
        facts["kind"] = info.get("info_kind", "")
        facts["lower"] = names.lower(where, link)
        facts["master"] = names.value(link.get("master"))
        facts["addrgen"] = link.get("inet6_addr_gen_mode")
        mac = link.get("address", "")
        facts["mac"] = mac if names.text(mac) == mac else "<mac>"
        if facts["kind"] == "bridge" and where == HOST:
            facts["mac is set"] = bridge_address_is_set(link["ifname"])
        for key in ("info_data", "info_slave_data"):
            facts |= {
                f"{key.removeprefix('info_')} {name}": names.value(value)
                for name, value in info.get(key, {}).items()
                if not _PASSING.search(name)
            }
        flat |= {f"{base}/{key}": value for key, value in facts.items() if value is not None}
        for address in link["addr_info"]:
            if address["local"].startswith("fe80::") and not names._chosen(address["local"]):
                continue
            at = f"address {shown} {address['local']}/{address['prefixlen']}"
            rest = {k: v for k, v in address.items() if k not in {"local", "prefixlen", *_TIMES}}
            flat |= {f"{at}/{key}": names.value(value) for key, value in rest.items()}
            if address.get("valid_life_time") != 2**32 - 1:
                flat[f"{at}/ends"] = True
    return flat


def _routes(where: str, state: Any, names: Names) -> Flat:
    flat: Flat = {}
    for route in state["routes"]:
        of_kernel = route.get("protocol") == "kernel" and route.get("table", "main") == "local"
        if of_kernel or str(route["dst"]).startswith("fe80::"):
            continue
        key = " ".join(
            [f"route {route.get('table', 'main')} {route.get('type', '')} {route['dst']}"]
            + [f"{word} {names.value(route[word])}" for word in ("gateway", "dev") if word in route]
        )
        while key in flat:  # twice the same
            key += " again"
        rest = {k: v for k, v in route.items() if k not in {"table", "type", "dst", "gateway", "dev"}}
        rest["flags"] = sorted(set(rest.get("flags", [])) - {"linkdown", "dead"})
        flat[key] = json.dumps(names.value(rest), sort_keys=True)
    return flat


def _rules(where: str, state: Any, names: Names) -> Flat:
    return {
        f"rule {family} {rule['priority']} {rule.get('src')} {rule.get('table')}": json.dumps(
            names.value(rule), sort_keys=True
        )
        for family, rules in state["rules"].items()
        for rule in rules
    }


def _neighbours(where: str, state: Any, names: Names) -> Flat:
    return {
        f"neighbour {names.text(entry.get('dev', ''))} {entry['dst']}": json.dumps(
            names.value(entry), sort_keys=True
        )
        for entry in state["neighbours"]
    }


def _queues(where: str, state: Any, names: Names) -> Flat:
    flat: Flat = {}
    for qdisc in state["qdiscs"]:
        dev = names.text(qdisc["dev"])
        parent = "root" if qdisc.get("root") else qdisc.get("parent", "")
        facts = {"handle": qdisc["handle"], **qdisc.get("options", {})}
        if qdisc["handle"] == "0:":  # the kernel's own
            facts = {"handle": "0:"}
        flat |= flatten(facts, f"qdisc {dev} {parent} {qdisc['kind']}")
    for dev, filters in state["filters"].items():
        flat |= flatten(names.value(filters), f"filter {names.text(dev)}")
    return flat


def _sysctls(where: str, state: Any, names: Names) -> Flat:
    flat = {}
    for path, value in state["sysctls"].items():
        parts = path.split("/")
        if len(parts) > 3 and parts[2] in {"conf", "neigh"}:
            parts[3] = names.names[where].get(parts[3], parts[3])
        flat["sysctl " + "/".join(parts)] = value
    return flat


def _iptables(where: str, state: Any, names: Names) -> Flat:
    flat: dict[str, Any] = {}
    for program in ("iptables", "ip6tables"):
        table = ""
        for raw in state[program].splitlines():
            line = names.text(raw)
            if line.startswith("*"):
                table = f"{program} {line[1:]}"
            elif line.startswith(":"):
                chain, policy, *_ = line[1:].split()
                flat[f"{table} {chain}/policy"] = policy
                flat[f"{table} {chain}/rules"] = []
            elif line.startswith("-A "):
                flat[f"{table} {line.split()[1]}/rules"].append(line.partition(" ")[2].partition(" ")[2])
    return flat


def _nft(where: str, state: Any, names: Names) -> Flat:
    flat: dict[str, Any] = {}
    seen = {
        (family, line[1:])
        for program, family in (("iptables", "ip"), ("ip6tables", "ip6"))
        for line in state[program].splitlines()
        if line.startswith("*")
    }
    for entry in state["nft"]:
        ((kind, facts),) = entry.items()
        table = facts.get("name") if kind == "table" else facts.get("table")
        if kind == "metainfo" or (table in _OF_IPTABLES and (facts["family"], table) in seen):
            continue
        at = f"nft {facts['family']} {table}"
        plain = names.value(_without(facts, _NFT_PASSING))
        match kind:
            case "table":
                flat[f"{at}/table"] = True
            case "rule":
                text = json.dumps([plain["expr"], plain.get("comment", "")], sort_keys=True)
                flat.setdefault(f"{at} chain {facts['chain']}/rules", []).append(text)
            case "set" | "map":
                elements = sorted(json.dumps(e, sort_keys=True) for e in plain.pop("elem", []))
                flat[f"{at} {kind} {facts['name']}/is"] = json.dumps(plain, sort_keys=True)
                flat |= {f"{at} {kind} {facts['name']}/{element}": True for element in elements}
            case _:
                flat[f"{at} {kind} {facts['name']}/is"] = json.dumps(plain, sort_keys=True)
    return flat


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, keys) for key, one in value.items() if key not in keys}
    return [_without(one, keys) for one in value] if isinstance(value, list) else value
