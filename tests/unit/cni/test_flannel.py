"""Type ``flannel``: what it makes of the daemon's file and its configuration, and whom it has do it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.cni.plugin import Outcome, run
from dovetail.kernel.recording import RecordingKernel
from dovetail.store.sqlite import SqliteStore

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SUBNET = (
    "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
)
SIX = "FLANNEL_IPV6_NETWORK=fd44::/48\nFLANNEL_IPV6_SUBNET=fd44:0:0:1::1/64\n"
# Says what it was told, and fails where it is asked to.
DELEGATE = """#!/bin/sh
cat > $HOME/$CNI_COMMAND.json
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >> $HOME/calls
if [ -e $HOME/fail ]; then echo '{"code": 11, "msg": "not now"}'; exit 1; fi
[ $CNI_COMMAND = ADD ] && cat $HOME/result
exit 0
"""


class Scene:
    """A host with flanneld's file, and a plugin ``other`` of somebody else's that flannel may delegate to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kernel = RecordingKernel()
        self.store = SqliteStore(str(directory / "dovetail.db"))
        self.engine = build_engine(
            state_dir=str(directory), run_dir=str(directory), kernel=self.kernel, store=self.store
        )
        self.subnet_file = directory / "subnet.env"
        self.subnet_file.write_text(SUBNET)
        self.data_dir = directory / "flannel"
        (directory / "bin").mkdir()
        other = directory / "bin" / "other"
        other.write_text(DELEGATE)
        other.chmod(0o755)
        self.kernel.create_netns("/run/netns/c1").close()

    def config(self, **keys: Any) -> dict[str, Any]:
        """Give a configuration that delegates to ``other``, and has its files here."""
        return {
            "cniVersion": "1.1.0",
            "name": "cbr0",
            "type": "flannel",
            "subnetFile": str(self.subnet_file),
            "dataDir": str(self.data_dir),
            "delegate": {"type": "other"},
            **keys,
        }

    def call(
        self, verb: str, config: dict[str, Any], *, ifname: str = "eth0", netns: str = "/run/netns/c1"
    ) -> tuple[int, Any]:
        """Call it; gives its status and what it printed."""
        outcome = self.outcome(verb, config, ifname=ifname, netns=netns)
        return outcome.status, json.loads(outcome.stdout) if outcome.stdout else None

    def outcome(
        self, verb: str, config: dict[str, Any], *, ifname: str = "eth0", netns: str = "/run/netns/c1"
    ) -> Outcome:
        """Call it; ``other`` answers with a result in the configuration's version."""
        version = config.get("cniVersion", "0.1.0")
        ips = {"ips": [{"address": "10.244.1.2/24", **({"version": "4"} if version < "1" else {})}]}
        result = {"ip4": {"ip": "10.244.1.2/24"}} if version in {"0.1.0", "0.2.0"} else ips
        (self.directory / "result").write_text(json.dumps({"cniVersion": version, **result}))
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": ifname,
            "CNI_NETNS": netns,
            "CNI_PATH": str(self.directory / "bin"),
            "HOME": str(self.directory),
        }
        return run(environment, json.dumps(config).encode(), lambda: self.engine, plugin="flannel")

    def told(self, verb: str) -> Any:
        """Give what ``other`` was told last."""
        return json.loads((self.directory / f"{verb}.json").read_text())

    def calls(self) -> list[str]:
        """Give the calls of ``other`` since the last call of this."""
        path = self.directory / "calls"
        found = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    @property
    def kept(self) -> Path:
        """Give the file that is kept of the container."""
        return self.data_dir / "c1"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()


# -- what the delegate is told ---------------------------------------------------------------------------


def test_the_delegate_is_told_the_daemon_s_words(scene: Scene) -> None:
    status, said = scene.call("ADD", scene.config())

    assert (status, said["ips"]) == (0, [{"address": "10.244.1.2/24"}])
    assert scene.told("ADD") == {
        "cniVersion": "1.1.0",
        "name": "cbr0",
        "type": "other",
        "ipMasq": False,
        "mtu": 1450,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.244.1.0/24"}]],
            "routes": [{"dst": "10.244.0.0/16"}],
        },
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_answered_in_its_own_words(scene: Scene, version: str) -> None:
    status, said = scene.call("ADD", scene.config(cniVersion=version))

    assert (status, said["cniVersion"], scene.told("ADD")["cniVersion"]) == (0, version, version)
    address = said["ip4"]["ip"] if version in {"0.1.0", "0.2.0"} else said["ips"][0]["address"]
    assert address == "10.244.1.2/24"


def test_both_families_have_a_range_and_a_route(scene: Scene) -> None:
    scene.subnet_file.write_text(SUBNET + SIX)

    scene.call("ADD", scene.config())

    ipam = scene.told("ADD")["ipam"]
    assert ipam["ranges"] == [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd44:0:0:1::/64"}]]
    assert ipam["routes"] == [{"dst": "10.244.0.0/16"}, {"dst": "fd44::/48"}]


def test_ipv6_alone_is_enough(scene: Scene) -> None:
    scene.subnet_file.write_text(f"{SIX}FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n# a comment\n\n")

    scene.call("ADD", scene.config())

    assert scene.told("ADD")["ipam"]["ranges"] == [[{"subnet": "fd44:0:0:1::/64"}]]
    assert scene.told("ADD")["ipMasq"] is True


def test_there_may_be_several_networks(scene: Scene) -> None:
    scene.subnet_file.write_text(SUBNET.replace("10.244.0.0/16", "10.244.0.0/16,10.245.0.0/16"))

    scene.call("ADD", scene.config())

    assert scene.told("ADD")["ipam"]["routes"] == [{"dst": "10.244.0.0/16"}, {"dst": "10.245.0.0/16"}]


def test_what_the_delegate_s_keys_say_stays_and_ipam_s_routes_come_first(scene: Scene) -> None:
    config = scene.config(
        delegate={"type": "other", "MTU": 1400, "ipMasq": True, "hairpinMode": True},
        ipam={"type": "mine", "dataDir": "/run/x", "routes": [{"dst": "192.0.2.0/24", "gw": "10.244.1.1"}]},
        capabilities={"portMappings": True},
        runtimeConfig={"mac": "02:00:00:00:00:07"},
    )
    scene.call("ADD", config)

    assert scene.told("ADD") == {
        "cniVersion": "1.1.0",
        "name": "cbr0",
        "type": "other",
        "MTU": 1400,
        "ipMasq": True,
        "hairpinMode": True,
        "runtimeConfig": {"mac": "02:00:00:00:00:07"},
        "ipam": {
            "type": "mine",
            "dataDir": "/run/x",
            "ranges": [[{"subnet": "10.244.1.0/24"}]],
            "routes": [{"dst": "192.0.2.0/24", "gw": "10.244.1.1"}, {"dst": "10.244.0.0/16"}],
        },
    }


def test_without_a_delegate_it_is_a_bridge_of_ours_with_a_gateway(scene: Scene) -> None:
    config = scene.config(ipam={"dataDir": str(scene.directory / "networks")})
    del config["delegate"]

    status, said = scene.call("ADD", config)

    assert status == 0, said
    assert [i["name"] for i in said["interfaces"]][::2] == ["cni0", "eth0"]
    assert [i["mtu"] for i in said["interfaces"]] == [1450] * 3
    assert (said["ips"][0]["address"], said["ips"][0]["gateway"]) == ("10.244.1.2/24", "10.244.1.1")
    assert json.loads(scene.kept.read_text())["isGateway"] is True
    assert [part.kind for part in scene.engine.parts.all()] == ["host-local", "bridge"]
    checked = {**config, "prevResult": said}
    assert scene.call("CHECK", checked) == (0, None)
    assert [scene.call("DEL", config) for _ in range(2)] == [(0, None)] * 2
    assert scene.engine.parts.all() == []
    assert list((scene.directory / "networks" / "cbr0").glob("10.*")) == []


# -- what is kept ------------------------------------------------------------------------------------------


def test_what_the_delegate_was_told_is_kept_as_go_writes_it(scene: Scene) -> None:
    scene.call("ADD", scene.config(cniVersion="0.3.1"))

    assert scene.kept.read_text() == (
        '{"cniVersion":"0.3.1","ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.244.1.0/24"}]],'
        '"routes":[{"dst":"10.244.0.0/16"}],"type":"host-local"},"mtu":1450,"name":"cbr0","type":"other"}'
    )
    assert stat.S_IMODE(scene.kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(scene.data_dir.stat().st_mode) == 0o700
    assert [path.name for path in scene.data_dir.iterdir()] == ["c1"]


def test_del_tells_the_delegate_what_it_was_told_though_all_has_changed(scene: Scene) -> None:
    scene.call("ADD", scene.config())
    scene.subnet_file.unlink()

    assert scene.call("DEL", scene.config(delegate={})) == (0, None)

    assert (scene.told("DEL"), scene.kept.exists()) == (scene.told("ADD"), False)


def test_del_of_what_flannel_s_own_plugin_kept(scene: Scene) -> None:
    scene.data_dir.mkdir()
    document = {"cniVersion": "0.3.1", "name": "cbr0", "type": "other", "ipam": {"type": "host-local"}}
    scene.kept.write_text(json.dumps(document))
    result = {"cniVersion": "0.3.1", "ips": []}

    assert scene.call("DEL", scene.config(delegate={}, prevResult=result)) == (0, None)

    assert scene.told("DEL") == {**document, "prevResult": result}
    assert not scene.kept.exists()


def test_the_second_interface_of_a_container_is_deleted_too(scene: Scene) -> None:
    for ifname in ("eth0", "net1"):
        scene.call("ADD", scene.config(), ifname=ifname)
    scene.calls()

    for ifname in ("net1", "eth0"):
        assert scene.call("DEL", scene.config(), ifname=ifname) == (0, None)

    assert scene.calls() == ["DEL c1 net1", "DEL c1 eth0"]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"type": 5}', "{}", "\xff"])
def test_del_puts_up_with_a_file_that_says_nothing(scene: Scene, text: str) -> None:
    scene.data_dir.mkdir()
    scene.kept.write_text(text, encoding="latin-1")

    assert scene.call("DEL", scene.config()) == (0, None)

    told = {"cniVersion": "1.1.0", "name": "cbr0", "type": "other", "ipam": {"type": "host-local"}}
    assert (scene.told("DEL"), scene.kept.exists()) == (told, False)


def test_a_delegate_that_cannot_delete_is_asked_again(scene: Scene) -> None:
    scene.call("ADD", scene.config())
    (scene.directory / "fail").touch()

    status, said = scene.call("DEL", scene.config())
    assert (status, said["code"], said["msg"], scene.kept.exists()) == (1, 11, "not now", True)

    (scene.directory / "fail").unlink()
    assert scene.call("DEL", scene.config()) == (0, None)
    assert not scene.kept.exists()


def test_an_add_that_fails_keeps_nothing_and_tells_the_delegate(scene: Scene) -> None:
    (scene.directory / "fail").touch()

    status, said = scene.call("ADD", scene.config())

    assert (status, said["code"], said["msg"]) == (1, 11, "not now")
    assert (scene.calls(), scene.kept.exists()) == (["ADD c1 eth0", "DEL c1 eth0"], False)


def test_an_add_that_fails_keeps_what_was_kept_of_another_interface(scene: Scene) -> None:
    scene.call("ADD", scene.config())
    before = scene.kept.read_bytes()
    (scene.directory / "fail").touch()

    scene.call("ADD", scene.config(delegate={"type": "other", "mtu": 9}), ifname="net1")

    assert scene.kept.read_bytes() == before


# -- CHECK, GC, STATUS ------------------------------------------------------------------------------------


def test_check_has_the_delegate_compare_what_it_was_told(scene: Scene) -> None:
    _, said = scene.call("ADD", scene.config())
    scene.subnet_file.unlink()

    assert scene.call("CHECK", scene.config(prevResult=said)) == (0, None)

    assert scene.told("CHECK") == {**scene.told("ADD"), "prevResult": said}


def test_check_without_a_result_is_refused(scene: Scene) -> None:
    status, said = scene.call("CHECK", scene.config())

    assert (status, said["code"], said["msg"]) == (1, 7, "Required prevResult missing")


@pytest.mark.parametrize(
    ("valid", "left", "called"),
    [(None, True, []), ([], False, ["GC"]), ([{"containerID": "c1", "ifname": "eth0"}], True, ["GC"])],
)
def test_gc_reaches_the_delegate_and_forgets_containers_that_are_gone(
    scene: Scene, valid: Any, called: list[str], *, left: bool
) -> None:
    scene.call("ADD", scene.config())
    (scene.data_dir / "elsewhere").write_text('{"name": "another", "type": "other"}')
    scene.calls()

    assert scene.call("GC", scene.config(**{"cni.dev/valid-attachments": valid})) == (0, None)

    assert [call.split()[0] for call in scene.calls()] == called
    assert (scene.kept.exists(), (scene.data_dir / "elsewhere").exists()) == (left, True)
    if called:
        assert scene.told("GC")["cni.dev/valid-attachments"] == valid


def test_status_asks_the_delegate(scene: Scene) -> None:
    assert scene.call("STATUS", scene.config()) == (0, None)

    assert scene.told("STATUS")["mtu"] == 1450


def test_status_says_that_flanneld_has_not_spoken(scene: Scene) -> None:
    scene.subnet_file.unlink()

    status, said = scene.call("STATUS", scene.config())

    assert (status, said["code"]) == (1, 50)
    assert f"open {scene.subnet_file}: no such file or directory" in said["msg"]


# -- what cannot be ---------------------------------------------------------------------------------------


def test_an_add_before_flanneld_has_spoken_may_be_tried_again(scene: Scene) -> None:
    scene.subnet_file.unlink()

    status, said = scene.call("ADD", scene.config())

    assert (status, said["code"], scene.calls()) == (1, 11, [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "FLANNEL_MTU=\nFLANNEL_NETWORK=10.244.0.0/16",
            "is missing FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ",
        ),
        (SUBNET.replace("FLANNEL_MTU", "X"), "is missing FLANNEL_MTU"),
        (SUBNET.replace("=true", "="), "is missing FLANNEL_IPMASQ"),
        (
            SUBNET.replace("FLANNEL_SUBNET", "FLANNEL_SUBNETS"),
            "is missing FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET",
        ),
        (SUBNET.replace("1450", "-1"), "FLANNEL_MTU: '-1' is not a number"),
        (SUBNET.replace("10.244.1.1/24", "10.244.1.1"), "FLANNEL_SUBNET: '10.244.1.1' has no length"),
        (SUBNET.replace("10.244.0.0/16", "nonsense/16"), "FLANNEL_NETWORK"),
    ],
)
def test_a_file_of_flanneld_s_that_is_not_whole_is_named(scene: Scene, text: str, told: str) -> None:
    scene.subnet_file.write_text(text)

    status, said = scene.call("ADD", scene.config())

    assert (status, said["code"]) == (1, 7), said
    assert str(scene.subnet_file) in said["msg"]
    assert told in said["msg"]
    assert (scene.calls(), scene.kept.exists()) == ([], False)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"delegate": {"type": 5}}, "$.delegate.type: expected a string"),
        ({"delegate": "bridge"}, "$.delegate: expected an object"),
        ({"delegate": {"type": "other", "name": "x"}}, "must not have 'name' field, it'll be set by flannel"),
        ({"delegate": {"type": "other", "ipam": {}}}, "must not have 'ipam' field, it'll be set by flannel"),
        ({"delegate": {"type": "flannel"}}, "flannel cannot be its own delegate"),
        ({"delegate": {"type": "../other"}}, "invalid plugin name: '../other'"),
        ({"delegate": {"type": "nosuch"}}, "failed to find plugin 'nosuch' in path"),
        ({"ipam": {"type": 5}}, "$.ipam.type: expected a string"),
        ({"ipam": {"routes": 5}}, "$.ipam.routes: expected a list"),
        ({"ipam": [5]}, "$.ipam: expected an object"),
        ({"subnetFile": "subnet.env"}, "$.subnetFile: 'subnet.env' is not an absolute path"),
        ({"dataDir": "x"}, "$.dataDir: 'x' is not an absolute path"),
        ({"runtimeConfig": 5}, "$.runtimeConfig: expected an object"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_place(scene: Scene, keys: Any, told: str) -> None:
    status, said = scene.call("ADD", scene.config(**keys))

    assert (status, said["code"]) == (1, 7), said
    assert told in said["msg"]
    assert (scene.calls(), scene.kept.exists()) == ([], False)


def test_a_directory_that_cannot_be_written_to_is_named(scene: Scene) -> None:
    scene.data_dir.write_text("a file")

    status, said = scene.call("ADD", scene.config())

    assert (status, said["code"], scene.calls()) == (1, 5, [])
    assert str(scene.kept) in said["msg"]


def test_what_the_delegate_says_on_its_standard_error_is_passed_on(scene: Scene) -> None:
    other = scene.directory / "bin" / "other"
    other.write_text(other.read_text().replace("cat $HOME/result", "{ cat $HOME/result; echo hello >&2; }"))

    assert scene.outcome("ADD", scene.config()).stderr == b"hello\n"


def test_the_previous_result_is_handed_on_in_whatever_case_its_key_is_written(scene: Scene) -> None:
    result = {"cniVersion": "1.1.0", "ips": [{"address": "10.244.1.7/24"}]}
    assert scene.call("ADD", scene.config())[0] == 0

    assert scene.call("DEL", scene.config(prevresult=result)) == (0, None)

    assert scene.told("DEL")["prevResult"] == result
