"""Address families of the kernel by IP version, and back."""

from __future__ import annotations

import socket

__all__ = ["FAMILIES", "VERSIONS"]

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
VERSIONS = {int(family): version for version, family in FAMILIES.items()}
