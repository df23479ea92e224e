"""What comes on standard input: the configuration, its version and its name."""

from __future__ import annotations

import msgspec

from dovetail.cni.errors import CANNOT_DECODE, INVALID_CONFIG, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.spec.registry import check_version
from dovetail.errors import InvalidArgument
from dovetail.model.names import check_name

__all__ = ["network_name", "read_config"]

_BYTES = 16 << 20


def read_config(stdin: bytes) -> tuple[Folded, str]:
    """Read the configuration and its version (0.1.0 where it names none). Raises codes 1, 6 and 7."""
    if len(stdin) > _BYTES:
        raise CniError(CANNOT_DECODE, f"the configuration is larger than {_BYTES} bytes")
    try:
        document = msgspec.json.decode(stdin)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise CniError(CANNOT_DECODE, f"the configuration is not valid JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise CniError(CANNOT_DECODE, "the configuration is not a JSON object")
    config = Folded(document)
    return config, check_version(config.text("cniVersion") or "0.1.0")


def network_name(config: Folded) -> str:
    """Give the configuration's ``name``; raises code 7."""
    name = config.text("name")
    if not name:
        raise CniError(INVALID_CONFIG, "missing network name", "write a name into the configuration")
    try:
        return check_name("network", name, where="$.name")
    except InvalidArgument as exc:
        raise CniError(INVALID_CONFIG, str(exc)) from exc
