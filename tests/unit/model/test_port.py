from __future__ import annotations

import pytest

from dovetail.errors import InvalidArgument
from dovetail.model.codec import decode, encode
from dovetail.model.port import PortMapping, parse_publish


@pytest.mark.parametrize(
    ("text", "mappings"),
    [
        ("80", ["80/tcp"]),
        ("8080:80", ["8080->80/tcp"]),
        ("8080:80/UDP", ["8080->80/udp"]),
        (":80", ["80/tcp"]),
        ("0:80", ["80/tcp"]),
        ("127.0.0.1:8080:80", ["127.0.0.1:8080->80/tcp"]),
        ("127.0.0.1::80", ["127.0.0.1::80/tcp"]),
        ("[fd88::1]:8080:80/sctp", ["[fd88::1]:8080->80/sctp"]),
        ("8000-8001:80-81", ["8000->80/tcp", "8001->81/tcp"]),
        ("80-81", ["80/tcp", "81/tcp"]),
        ("8000-8010:80", ["8000-8010->80/tcp"]),
        ("8000-8000:80", ["8000->80/tcp"]),
    ],
)
def test_what_docker_run_publishes_is_read_as_docker_does(text, mappings):
    assert [str(mapping) for mapping in parse_publish(text)] == mappings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'' is not a port to publish"),
        ("8080:", "is not a port"),
        ("a:b:c:d", "is not a port"),
        ("10.0.0:8080:80", "'10.0.0' is not an IP address"),
        ("70000:80", "70000 is not a port"),
        ("8080:0", "0 is not a port"),
        ("8080:80/icmp", "'icmp' is not a protocol"),
        ("8001-8000:80", "'8001-8000' in '8001-8000:80' runs backwards"),
        ("0-5:80", "0 is not a port"),
        ("8000-8002:80-81", "the port ranges of '8000-8002:80-81' differ in length"),
        ("8000:80-81", "the port ranges of '8000:80-81' differ in length"),
        ("8000-:80", "'8000-' in '8000-:80' is not a port"),
        (f"{'9' * 5000}:80", "is not a port"),
        ("²:80", "'²' in '²:80' is not a port"),
    ],
)
def test_what_is_no_port_to_publish_is_refused_by_name(text, sentence):
    with pytest.raises(InvalidArgument) as caught:
        parse_publish(text, where="$.publish[0]")

    assert sentence in caught.value.message
    assert caught.value.where == "$.publish[0]"


def test_json_of_a_mapping_without_a_range_does_not_speak_of_one():
    mapping = PortMapping(container_port=80, host_port=8080)

    assert b"host_port_end" not in encode(mapping)
    assert decode(encode(mapping), PortMapping) == mapping
