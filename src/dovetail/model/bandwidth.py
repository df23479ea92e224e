"""How much an endpoint may receive and send, each as a rate and a burst in bits, as CNI's ``bandwidth`` has them."""

from __future__ import annotations

import msgspec

from dovetail.errors import InvalidArgument

__all__ = ["Bandwidth", "Rate", "parse_bandwidth"]

_BITS = 8
_BURST_MAX = (
    0xFFFFFFFF * _BITS - 1
)  # below the number of bytes that 32 bits count: the reference plugin's bound
_RATE_MAX = 0xFFFFFFFFFFFFFFFF  # 64 bits: the reference plugin's type
_US = 1_000_000


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A token bucket: `rate` bits a second in the long run, `burst` bits at once. Built by `parse_bandwidth`."""

    rate: int
    burst: int

    @property
    def rate_bytes(self) -> int:
        """Whole bytes a second."""
        return self.rate // _BITS

    @property
    def burst_bytes(self) -> int:
        """Whole bytes."""
        return self.burst // _BITS


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint may receive (`ingress`, to the container) and send (`egress`); None is without a bound."""

    ingress: Rate | None = None
    egress: Rate | None = None

    def __bool__(self) -> bool:
        return self.ingress is not None or self.egress is not None


def parse_bandwidth(
    *,
    ingress_rate: int = 0,
    ingress_burst: int = 0,
    egress_rate: int = 0,
    egress_burst: int = 0,
    where: str = "$",
) -> Bandwidth:
    """Check rates and bursts, in bits; 0 is without a bound.

    where: the object that holds ``ingressRate`` and the other keys.

    Raises InvalidArgument: one of rate and burst without the other, a negative number, a burst that 32 bits cannot
    count in bytes, less than a byte, or a burst that takes less than a microsecond, which the kernel cannot keep.
    """
    return Bandwidth(
        ingress=_rate("ingress", ingress_rate, ingress_burst, where),
        egress=_rate("egress", egress_rate, egress_burst, where),
    )


def _rate(direction: str, rate: int, burst: int, where: str) -> Rate | None:
    at_rate, at_burst = f"{where}.{direction}Rate", f"{where}.{direction}Burst"
    for at, number in ((at_rate, rate), (at_burst, burst)):
        if number < 0:
            raise InvalidArgument(
                f"{number} bits is less than nothing", where=at, hint="0 is without a bound"
            )
    if not rate and not burst:
        return None
    if not burst:
        hint = "give the bits that may go at once"
        raise InvalidArgument(
            f"{direction}Rate is set and {direction}Burst is not", where=at_burst, hint=hint
        )
    if not rate:
        hint = "give bits a second"
        raise InvalidArgument(f"{direction}Burst is set and {direction}Rate is not", where=at_rate, hint=hint)
    _check_range(rate, "bits a second", _RATE_MAX, at_rate)
    _check_range(burst, "bits", _BURST_MAX, at_burst)
    made = Rate(rate=rate, burst=burst)
    if made.burst_bytes * _US < made.rate_bytes:
        raise InvalidArgument(
            f"a burst of {burst} bits takes less than a microsecond at {rate} bits a second",
            where=at_burst,
            hint="the kernel keeps it as that time: give a larger burst",
        )
    return made


def _check_range(number: int, unit: str, most: int, where: str) -> None:
    if number < _BITS:
        hint = "the kernel counts bytes"
        raise InvalidArgument(f"{number} {unit} is less than a byte", where=where, hint=hint)
    if number > most:
        raise InvalidArgument(f"{number} {unit} is too much", where=where, hint=f"at most {most}")
