#!/usr/bin/python3 -IS
"""Stand-in for dovetail-cni.c on machines without a C compiler; imports as little as it can.

The frame is described in src/dovetail/cni/frame.py.
"""

import _socket
import os
import sys


def settings():
    found = {"run_dir": "/run/dovetail", "state_dir": "/var/lib/dovetail", "python": "python3"}
    try:
        with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), ".dovetail")) as file:
            for line in file:
                key, _, value = line.rstrip("\n").partition("=")
                found[key] = value
    except OSError:
        pass
    for key in ("run_dir", "state_dir"):
        found[key] = os.environ.get("DOVETAIL_" + key.upper()) or found[key]
    return found


def receive(sock, length):
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            raise OSError("closed")
        data += part
    return data


def ask(path, plugin, config):
    pairs = ["PLUGIN=" + plugin] + [f"{k}={v}" for k, v in os.environ.items() if k.startswith("CNI_")]
    environment = b"".join(os.fsencode(pair) + b"\0" for pair in pairs)
    own = os.stat("/proc/self/ns/net")
    head = b"DVT1" + b"".join(n.to_bytes(4, "little") for n in (len(environment), len(config)))
    head += own.st_dev.to_bytes(8, "little") + own.st_ino.to_bytes(8, "little")
    ancillary = []
    if os.environ.get("CNI_NETNS"):
        try:
            netns = os.open(os.environ["CNI_NETNS"], os.O_RDONLY)
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, netns.to_bytes(4, sys.byteorder))]
        except OSError:
            pass
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    sock.settimeout(float(os.environ.get("DOVETAIL_CNI_TIMEOUT") or 30))
    sock.connect(path)
    request = head + environment + config
    sent = sock.sendmsg([request], ancillary)
    if sent < len(
        request
    ):  # sendall() of nothing is a send as well, and fails where the daemon has answered already
        sock.sendall(request[sent:])
    numbers = receive(sock, 12)
    status, out, err = (int.from_bytes(numbers[i : i + 4], "little") for i in (0, 4, 8))
    return status, receive(sock, out), receive(sock, err)


def main():
    found = settings()
    plugin = os.path.basename(sys.argv[0])
    config = b""
    if os.environ.get("CNI_COMMAND", "VERSION") != "VERSION":
        config = sys.stdin.buffer.read()
    try:
        status, out, err = ask(found["run_dir"] + "/cni.sock", plugin, config)
        if status == 0xFFFFFFFF:
            raise OSError("the daemon is in another network namespace")
    except OSError:
        memory = os.memfd_create("cni", 0)
        os.write(memory, config)
        os.lseek(memory, 0, os.SEEK_SET)
        os.dup2(memory, 0)
        os.environ["DOVETAIL_CNI_TYPE"] = plugin
        os.environ["DOVETAIL_RUN_DIR"], os.environ["DOVETAIL_STATE_DIR"] = (
            found["run_dir"],
            found["state_dir"],
        )
        os.execvp(found["python"], [found["python"], "-I", "-m", "dovetail.cli.plugin_main"])
    os.write(1, out)
    os.write(2, err)
    sys.exit(status)


main()
