"""The first program of the managed plugin: makes Docker's container fit, then is the daemon.

Docker runs a managed plugin in a container (runc), and three things there are not as the daemon needs them:

- ``/proc/sys`` is read-only: the daemon turns forwarding on and sets its bridges' sysctls.
- ``/run`` is the host's, with what the host mounts in it, and keeps what is mounted here to itself: Docker mounts the
  plugin's socket directory in it. ``/host/run`` is the same once more, shared both ways, and the run directory comes
  from there, so that the host sees the namespaces that the daemon makes. It is made here, as /run is empty at boot.
- Capabilities: Docker's usual fourteen and those of config.json. What the daemon has no use for is dropped.

Needs CAP_SYS_ADMIN and CAP_SETPCAP. Source: mount_namespaces(7), capabilities(7); moby ``plugin/v2/plugin_linux.go``,
where "propagatedMount" is what makes runc share mounts at all (``RootfsPropagation``).
"""

import ctypes
import os
import struct
import sys

_MS_BIND, _MS_REC = 4096, 16384  # include/uapi/linux/mount.h
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38  # include/uapi/linux/prctl.h
_CAP_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, include/uapi/linux/capability.h
_KEPT = {  # include/uapi/linux/capability.h
    "CAP_DAC_OVERRIDE": 1,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
}
"""Those of packaging/systemd/dovetail.service, but for CAP_NET_RAW, which is for the old iptables of a host."""
_RUN = "/run/dovetail"  # assembly.DEFAULT_RUN_DIR
_SHARED = "/host/run/dovetail"
_PROC_SYS = "/proc/sys"

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Make the mounts, drop what is not needed, then run ``dovetail daemon`` in this process."""
    if os.statvfs(_PROC_SYS).f_flag & os.ST_RDONLY:
        _done(_libc.umount2(_PROC_SYS.encode(), 0), _PROC_SYS)
    os.makedirs(_SHARED, mode=0o755, exist_ok=True)
    _done(_libc.mount(_SHARED.encode(), _RUN.encode(), None, _MS_BIND | _MS_REC, None), _RUN)
    _warn()
    _drop()

    os.environ["DOVETAIL_MANAGED"] = "1"  # there is a Docker Engine, although its programs are not to be seen
    sys.argv = ["dovetail", "daemon"]
    from dovetail.main import main as dovetail

    dovetail()


def _done(status: int, what: str) -> None:
    if status != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def _warn() -> None:
    """Say so where the host keeps its mounts to itself: neither side sees the namespaces of the other then."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
        fields = {line.split()[4]: line.split()[6:] for line in lines}
    groups = {field.partition(":")[2] for field in fields["/run"] if field.startswith("master:")}
    if not any(f"shared:{group}" in fields["/host/run"] for group in groups):
        sys.stderr.write(
            'level=warning event="/run is no shared mount on the host: namespaces made here are not seen there"'
            ' hint="mount --make-rshared /run there, then enable the plugin again"\n'
        )


def _drop() -> None:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    for number in set(range(last + 1)) - set(_KEPT.values()):
        _done(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0), "PR_CAPBSET_DROP")
    _done(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    kept = sum(1 << number for number in _KEPT.values())
    # struct __user_cap_header_struct; twice struct __user_cap_data_struct: effective, permitted, inheritable
    header, sets = struct.pack("=Ii", _CAP_VERSION_3, 0), struct.pack("=6I", kept, kept, 0, 0, 0, 0)
    _done(_libc.capset(header, sets), "capset")


if __name__ == "__main__":
    main()
