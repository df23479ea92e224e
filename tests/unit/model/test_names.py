"""What may name a thing."""

from __future__ import annotations

import pytest

from dovetail.errors import InvalidArgument
from dovetail.model.names import check_ifname


@pytest.mark.parametrize("name", ["eth0", "br-lan", "eth0.10", "été", "x" * 15])
def test_what_linux_takes_and_can_be_shown_names_an_interface(name: str) -> None:
    assert check_ifname(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a:b", "a b", "a%d", "x" * 16, "a\x01b", "a\x7f", "a\x85"]
)
def test_what_linux_refuses_or_nobody_can_read_does_not(name: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a valid interface name"):
        check_ifname(name, where="$.ifname")
