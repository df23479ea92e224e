"""The netlink socket against a kernel that is played: acknowledgements, lists, strangers, silence."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.errors import Busy, KernelError
from dovetail.kernel import netlink as netlink_module
from dovetail.kernel.attributes import attribute, attributes, be16, be32, each, nest, nul, u8, u32
from dovetail.kernel.netlink import Message, NetlinkSocket, Refusal, RefusedError, SocketPool

ERROR, DONE = 2, 3
MULTI, INTR, CAPPED, TLVS = 0x2, 0x10, 0x100, 0x200
HEADER = struct.Struct("=IHHII")


class PlayedKernel:
    """Takes the place of socket.socket: hands out `answers`, keeps what was sent."""

    def __init__(self, *_: object) -> None:
        self.sent: list[list[tuple[int, int, int, bytes]]] = []
        self.answers: list[Any] = []
        self.closed = False

    def setsockopt(self, *_: object) -> None: ...

    def bind(self, _: object) -> None: ...

    def fileno(self) -> int:
        return 99

    def close(self) -> None:
        self.closed = True

    def send(self, data: bytes) -> int:
        train, offset = [], 0
        while offset < len(data):
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
            train.append((kind, flags, sequence, data[offset + 16 : offset + length]))
            offset += (length + 3) & ~3
        self.sent.append(train)
        return len(data)

    def recvmsg(self, _: int) -> tuple[bytes, list[Any], int, tuple[int, int]]:
        if not self.answers:
            raise BlockingIOError(errno.EAGAIN, "nothing came")
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        data, flags, sender = answer if isinstance(answer, tuple) else (answer, 0, 0)
        return data, [], flags, (sender, 0)


def packet(*messages: tuple[int, int, int, bytes]) -> bytes:
    return b"".join(
        HEADER.pack(16 + len(body), kind, flags, sequence, 1) + body + bytes(-len(body) & 3)
        for kind, flags, sequence, body in messages
    )


def error(sequence: int, code: int = 0, text: str = "", offset: int = 0) -> tuple[int, int, int, bytes]:
    body = struct.pack("=i", -code) + HEADER.pack(200, 16, 5, sequence, 0)
    body += nul(1, text) if text else b""
    body += u32(2, offset) if offset else b""
    return ERROR, CAPPED | TLVS, sequence, body


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterable[tuple[NetlinkSocket, PlayedKernel]]:
    kernels: list[PlayedKernel] = []

    def play(*_: object) -> PlayedKernel:
        kernels.append(PlayedKernel())
        return kernels[-1]

    monkeypatch.setattr(netlink_module.socket, "socket", play)
    opened = NetlinkSocket(0, timeout_s=2)
    monkeypatch.undo()
    return opened, kernels[0]


def test_a_train_is_one_send_and_asks_for_one_acknowledgement(played: Any) -> None:
    opened, kernel = played
    kernel.answers = [packet(error(2, errno.EEXIST, "it is there", 24)), packet(error(3))]

    refusals = opened.execute([Message(16, 0x600, b"abc"), Message(16, 0, b""), Message(17, 0, b"d")])

    assert [[(kind, flags) for kind, flags, _, _ in train] for train in kernel.sent] == [
        [(16, 0x601), (16, 0x1), (17, 0x5)]
    ]
    assert kernel.sent[0][0][3] == b"abc"
    assert refusals == [None, Refusal(errno.EEXIST, "it is there", 24), None]


def test_answers_to_an_earlier_conversation_are_passed_over(played: Any) -> None:
    opened, kernel = played
    kernel.answers = []
    with pytest.raises(Busy, match="did not answer over netlink within 2 s"):
        opened.execute([Message(16, 0, b"")])

    kernel.answers = [packet(error(1, errno.EIO)), packet(error(2))]

    assert opened.execute([Message(16, 0, b"")]) == [None]


def test_what_another_process_sends_is_not_the_kernels_word(played: Any) -> None:
    opened, kernel = played
    kernel.answers = [(packet(error(1, errno.EPERM)), 0, 4711), packet(error(1))]

    assert opened.execute([Message(16, 0, b"")]) == [None]


def test_a_refusal_that_carries_the_whole_request_is_read_behind_it(played: Any) -> None:
    opened, kernel = played
    request = bytes(20)
    body = struct.pack("=i", -errno.EINVAL) + HEADER.pack(16 + len(request), 16, 5, 1, 0) + request
    kernel.answers = [packet((ERROR, TLVS, 1, body + nul(1, "said behind")))]

    assert opened.execute([Message(16, 0, request)]) == [Refusal(errno.EINVAL, "said behind")]


def test_an_answer_and_a_refusal_of_a_request(played: Any) -> None:
    opened, kernel = played
    kernel.answers = [packet((16, 0, 1, b"body")), packet(error(2, errno.ENODEV))]

    assert opened.request(Message(18, 0, b"")) == b"body"
    with pytest.raises(RefusedError) as refused:
        opened.request(Message(18, 0, b""))
    assert refused.value.refusal == Refusal(errno.ENODEV)


def test_a_list_that_was_interrupted_is_read_again(played: Any) -> None:
    opened, kernel = played
    done = (DONE, MULTI, 0, bytes(4))
    kernel.answers = [
        packet((16, MULTI, 1, b"old1")),
        packet((16, MULTI | INTR, 1, b"old2")),
        packet((*done[:2], 1, done[3])),
        packet((DONE, MULTI, 2, struct.pack("=i", -errno.EINTR))),
        packet((16, MULTI, 3, b"new1"), (16, MULTI, 3, b"new2")),
        packet((*done[:2], 3, done[3])),
    ]

    assert opened.dump(Message(18, 0, b"")) == [b"new1", b"new2"]
    assert [train[0][1] for train in kernel.sent] == [0x301, 0x301, 0x301]


def test_a_list_that_never_holds_still_is_busy(played: Any) -> None:
    opened, kernel = played
    kernel.answers = [packet((DONE, MULTI | INTR, n + 1, bytes(4))) for n in range(200)]

    with pytest.raises(Busy, match="kept changing"):
        opened.dump(Message(18, 0, b""))


def test_a_list_that_is_refused_raises(played: Any) -> None:
    opened, kernel = played
    kernel.answers = [packet((DONE, MULTI, 1, struct.pack("=i", -errno.ENOENT) + nul(1, "no table")))]

    with pytest.raises(RefusedError) as refused:
        opened.dump(Message(26, 0, b""))
    assert refused.value.refusal == Refusal(errno.ENOENT, "no table")


def test_a_transaction_asks_at_its_last_message_and_ends_when_the_whole_is_refused(played: Any) -> None:
    opened, kernel = played
    messages = [Message(0x10, 0, b""), Message(1, 0, b""), Message(2, 0, b""), Message(0x11, 0, b"")]
    kernel.answers = [packet(error(1, errno.EPERM)), packet(error(6, errno.EEXIST), error(7))]

    assert opened.transact(messages) == [Refusal(errno.EPERM), None, None, None]
    assert opened.transact(messages) == [None, Refusal(errno.EEXIST), None, None]
    assert [flags for _, flags, _, _ in kernel.sent[0]] == [1, 1, 5, 1]


def test_a_long_train_goes_in_several_sends(played: Any) -> None:
    opened, kernel = played
    body = bytes(1000)
    kernel.answers = [packet(error(n)) for n in range(1, 201)]

    refusals = opened.execute([Message(16, 0, body)] * 200)

    assert refusals == [None] * 200
    assert len(kernel.sent) > 1
    assert all(sum(len(message[3]) for message in train) <= 1 << 16 for train in kernel.sent)


@pytest.mark.parametrize(
    "answer", [OSError(errno.ENOBUFS, "full"), (b"", socket.MSG_TRUNC, 0)], ids=["lost", "cut"]
)
def test_an_answer_that_was_lost_is_an_error_and_no_silence(played: Any, answer: object) -> None:
    opened, kernel = played
    kernel.answers = [answer]

    with pytest.raises(KernelError, match="answer over netlink was"):
        opened.execute([Message(16, 0, b"")])


def test_a_pool_lends_an_idle_socket_again_and_drops_one_that_failed(played: Any) -> None:
    opened, kernel = played
    pool = SocketPool(lambda: opened)
    with pool.borrow() as first, pytest.raises(RefusedError):
        raise RefusedError(Refusal(errno.ENODEV))
    with pool.borrow() as second:
        assert second is first is opened
    assert not kernel.closed

    with pytest.raises(Busy), pool.borrow():
        raise Busy("silence")
    assert kernel.closed


def test_a_pool_that_is_closed_closes_what_comes_back(played: Any) -> None:
    opened, kernel = played
    pool = SocketPool(lambda: opened)

    with pool.borrow():
        pool.close()
        assert not kernel.closed

    assert kernel.closed


# -- attributes -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
def test_attributes_are_read_as_they_were_written(written: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, payload) for kind, payload in written)

    assert len(data) % 4 == 0
    assert list(each(data)) == written
    assert attributes(data) == dict(written)


@given(st.binary(max_size=60))
def test_reading_attributes_never_fails_on_what_is_none(data: bytes) -> None:
    for _, payload in each(data):
        assert payload in data


def test_numbers_have_the_size_and_order_that_their_name_says() -> None:
    assert u8(1, 2) == attribute(1, b"\x02")
    assert u32(1, 2) == attribute(1, struct.pack("=I", 2))
    assert be16(1, 0x1234) == attribute(1, b"\x12\x34")
    assert be32(1, 2) == attribute(1, b"\0\0\0\x02")
    assert nest(5, u8(1, 2)) == struct.pack("=HH", 12, 5 | 0x8000) + u8(1, 2)
    assert attributes(nest(5, u8(1, 2))) == {5: u8(1, 2)}
