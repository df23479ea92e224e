"""resolv.conf, line by line."""

from __future__ import annotations

import pytest

from dovetail.model.attachment import DNS
from dovetail.model.resolv_conf import parse_resolv_conf

CASES = [
    ("", DNS()),
    ("nameserver 192.0.2.1", DNS(nameservers=("192.0.2.1",))),
    (
        "# from a DHCP server\n; so too\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 trailing\n",
        DNS(nameservers=("192.0.2.1", "2001:db8::1")),
    ),
    ("domain a.example\ndomain b.example extra\n", DNS(domain="b.example")),
    ("search a b\nsearch c\n", DNS(search=("a", "b", "c"))),
    ("options ndots:5 timeout:2\n  options rotate\r\n", DNS(options=("ndots:5", "timeout:2", "rotate"))),
    ("nameserver\nsearch\n\n   \nsortlist 10.0.0.0\nNAMESERVER 1.1.1.1\n#nameserver 1.1.1.1", DNS()),
    ("#\n;\n", DNS()),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_settings_are_read_and_the_rest_is_left_out(text: str, expected: DNS) -> None:
    assert parse_resolv_conf(text) == expected
