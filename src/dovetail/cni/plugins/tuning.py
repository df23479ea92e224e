"""Type ``tuning``: change what the plugin before made, and settings of the container's namespace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.environment import check_args
from dovetail.cni.errors import CANNOT_DECODE, INVALID_CONFIG, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.spec.result import Interface, Result
from dovetail.kernel.protocol import Netns
from dovetail.model.mac import Mac
from dovetail.model.sysctls import namespace_path
from dovetail.model.tuning import Tuning

__all__ = ["TuningPlugin"]

_ARGS = ("IP", "MAC", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID")
_NUMBER_MAX = 2**31 - 1


class TuningConf(Conf, frozen=True, kw_only=True):
    """The keys of ``tuning``; all but dataDir may be in ``args.cni`` too, and come before these."""

    sysctl: Annotated[
        dict[str, str],
        "settings below net by name, with dots or slashes; `IFNAME` stands for the interface's name",
    ] = msgspec.field(default_factory=dict)
    mac: Annotated[str, "the interface's MAC address"] = ""
    promisc: Annotated[bool, "the interface takes frames to any address"] = False
    mtu: Annotated[int, "the interface's MTU; 0 leaves it"] = 0
    allmulti: Annotated[bool | None, "the interface takes frames to any group, or does not"] = None
    tx_q_len: Annotated[int | None, "how many packets wait on the interface"] = None
    data_dir: Annotated[str, "where it is kept what the interface was, for DEL"] = "/run/cni/tuning"


class TuningPlugin(ChainedPlugin):
    """A thin parser over `features.tuning`."""

    kind = "tuning"
    conf = TuningConf
    capabilities: ClassVar = {"mac": "the interface's MAC address, in place of the configuration's"}
    allowlist: ClassVar[Path] = Path("/etc/cni/tuning/allowlist.conf")
    """Regular expressions, a line each: where the file is, a sysctl's key, as it is written, must match one."""

    def read(self, call: Call) -> None:
        """Refuse what cannot be: a sysctl that is not of the namespace, is not allowed or is there twice."""
        _tuning(call)
        self._refuse_what_is_not_allowed(call)

    def detail(self, call: Call, result: Result, netns: Netns) -> Tuning | None:
        """Put the changes together; None where there are none."""
        tuning = _tuning(call)
        return tuning if tuning.sysctls or tuning.changes_link else None

    def result(self, call: Call, result: Result, made: Tuning) -> Result:
        """Say the interface's new MAC and MTU."""
        changes: dict[str, Any] = {}
        if made.mac is not None:
            changes["mac"] = str(made.mac)
        if made.mtu:
            changes["mtu"] = made.mtu

        def changed(one: Interface) -> Interface:
            mine = one.name == made.ifname and one.sandbox
            return msgspec.structs.replace(one, **changes) if mine else one

        return msgspec.structs.replace(result, interfaces=tuple(map(changed, result.interfaces)))

    def remains(self, call: Call, result: Result | None, netns: Netns | None) -> Tuning:
        """Name the file of the reference plugin, in which it is what the interface was."""
        return Tuning(ifname=call.environment.ifname, data_dir=_data_dir(call))

    def _refuse_what_is_not_allowed(self, call: Call) -> None:
        sysctls = _sysctls(call)
        if not sysctls:
            return
        try:
            lines = self.allowlist.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, UnicodeDecodeError) as exc:
            raise CniError(INVALID_CONFIG, f"{self.allowlist} cannot be read: {exc}") from exc
        allowed = [line.strip() for line in lines if line.strip()]
        for key in sysctls:
            if not any(self._matches(pattern, key) for pattern in allowed):
                raise CniError(
                    INVALID_CONFIG,
                    f"$.sysctl: Sysctl {key} is not allowed. Only the following sysctls are allowed: {' '.join(allowed)}",
                    f"{self.allowlist} says which are",
                )

    def _matches(self, pattern: str, key: str) -> bool:
        try:
            return re.search(pattern, key) is not None
        except re.error as exc:
            raise CniError(
                INVALID_CONFIG, f"{self.allowlist}: {pattern!r} is no regular expression: {exc}"
            ) from exc


def _tuning(call: Call) -> Tuning:
    check_args(call.environment.args, _ARGS)
    conf = _over(read_conf(call.config, TuningConf), call.cni_args)
    ifname = call.environment.ifname
    # args.cni comes before the runtime's, that before CNI_ARGS, and the configuration last
    mac = (
        call.cni_args.text("mac")
        or call.runtime.text("mac")
        or call.environment.args.get("MAC", "")
        or conf.mac
    )
    sysctls: dict[str, str] = {}
    for key, value in _sysctls(call).items():
        path = namespace_path(key, ifname, where="$.sysctl")
        if path in sysctls:
            raise _twice(key)
        sysctls[path] = value
    return Tuning(
        ifname=ifname,
        sysctls=sysctls,
        mac=Mac(mac) if mac else None,
        mtu=_number("mtu", conf.mtu),
        promisc=conf.promisc,
        allmulti=conf.allmulti,
        tx_queue_length=None if conf.tx_q_len is None else _number("txQLen", conf.tx_q_len),
        data_dir=_data_dir(call),
    )


def _over(conf: TuningConf, args: Folded) -> TuningConf:
    """Put what ``args.cni`` says in place of the configuration's values."""
    if not args.document:
        return conf
    given = read_conf(args, TuningConf)
    said = (field for field in msgspec.structs.fields(TuningConf) if field.encode_name in args)
    return msgspec.structs.replace(conf, **{field.name: getattr(given, field.name) for field in said})


def _number(key: str, value: int) -> int:
    if not 0 <= value <= _NUMBER_MAX:
        raise CniError(INVALID_CONFIG, f"$.{key}: {value} is not a number from 0 to {_NUMBER_MAX}")
    return value


def _data_dir(call: Call) -> str:
    directory = read_conf(call.config, TuningConf).data_dir or TuningConf().data_dir
    if not directory.startswith("/") or "\0" in directory:
        raise CniError(INVALID_CONFIG, f"$.dataDir: {directory!r} is not an absolute path")
    return directory


def _sysctls(call: Call) -> dict[str, str]:
    """Give the settings by their keys as they are written, those of ``args`` over the configuration's."""
    written = call.config.strings("sysctl")
    if written:
        _refuse_duplicates(call.stdin)
    return {**written, **call.cni_args.strings("sysctl")}


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all of its keys, as often as they are written."""


def _refuse_duplicates(stdin: bytes) -> None:
    """Raise code 7 where a key is written twice: a decoder would take one of them without a word."""
    import json  # few configurations come this far, and it is a while to import

    try:
        document = json.loads(stdin, object_pairs_hook=_Pairs) if stdin else []
    except (ValueError, RecursionError) as exc:
        raise CniError(CANNOT_DECODE, f"the configuration is not valid JSON: {exc}") from exc
    for name, value in document:
        if name.lower() != "sysctl" or not isinstance(value, _Pairs):
            continue
        seen: set[str] = set()
        for key, _ in value:
            if key in seen:
                raise _twice(key)
            seen.add(key)


def _twice(key: str) -> CniError:
    return CniError(
        INVALID_CONFIG,
        f"$.sysctl: duplicated sysctl keys are not allowed: {key}",
        "write it once, in one spelling",
    )
