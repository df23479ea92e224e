#!/usr/bin/python3 -IS
"""``iptables`` and ``ip6tables`` of the managed plugin: the variant that the host's own rules are in.

The kernel has two iptables, which do not see each other's rules; Debian's tree has a program for each. On a host
``update-alternatives`` says which one everybody uses; here the rules have to. Asked at each call, as at boot the
plugin runs before Docker has written its own.
"""

import os
import subprocess
import sys

LEGACY, NFT = "/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi"
UNTOUCHED = {"-P INPUT ACCEPT", "-P FORWARD ACCEPT", "-P OUTPUT ACCEPT"}


def variant(program: str) -> str:
    """Give the program for `program`; the legacy one where its filter table has rules, chains or a policy."""
    family = "ip6" if program == "ip6tables" else "ip"
    try:
        with open(f"/proc/net/{family}_tables_names", encoding="ascii") as names:
            used = "filter" in names.read().split()
    except OSError:  # this kernel has no legacy iptables
        return NFT
    if not used:  # only looking into the table would make it
        return NFT
    listed = subprocess.run([LEGACY, program, "-S"], capture_output=True, text=True, check=False)
    return LEGACY if set(listed.stdout.splitlines()) - UNTOUCHED else NFT


if __name__ == "__main__":
    name = os.path.basename(sys.argv[0])
    os.execv(variant(name), [name, *sys.argv[1:]])
