"""Links of `LinuxKernel` that change their name or their namespace."""

from __future__ import annotations

import errno
from functools import partial

from dovetail.errors import AlreadyExists, DovetailError, KernelError
from dovetail.kernel import rtnl
from dovetail.kernel.commands import describe
from dovetail.kernel.ifindex import index_of
from dovetail.kernel.linux_handle import LinuxHandle
from dovetail.kernel.netlink import Message, Refusal
from dovetail.kernel.protocol import Netns
from dovetail.kernel.train import Operation, Resolve

__all__ = ["LinuxMoving"]


class LinuxMoving(LinuxHandle):
    """Those verbs in the handle's namespace."""

    def rename_link(self, name: str, new_name: str) -> None:
        """Give a link another name; raises AlreadyExists, NotFound."""
        commands = partial(describe, "rename_link", name, new_name)

        def refused(refusal: Refusal) -> DovetailError | None:
            if refusal.errno != errno.EBUSY:
                return None
            message = f"{name!r} is up and cannot be renamed"
            return KernelError(message, errno.EBUSY, hint=f"bring it down first: ip link set dev {name} down")

        self._do(
            Operation(
                commands,
                lambda resolve: [rtnl.move_link(resolve(name), new_name)],
                AlreadyExists("interface", new_name),
                name,
                refused=refused,
            )
        )

    def move_link(self, name: str, netns: Netns, *, new_name: str = "", alias: str | None = None) -> None:
        """Put a link into another namespace by one message; raises AlreadyExists, NotFound, KernelError.

        The kernel moves first and renames then, so a name that is taken is looked for before, and a link that lost
        the race for it is fetched back.
        """
        commands = partial(describe, "move_link", name, netns, new_name=new_name, alias=alias)
        wanted = new_name or name
        taken = AlreadyExists(
            "interface",
            wanted,
            hint=f"in {netns.path or 'the other namespace'}; choose another name",
        )

        def build(resolve: Resolve) -> list[Message]:
            index = resolve(name)
            if _there(netns, wanted):
                raise taken
            return [rtnl.move_link(index, wanted, netns=netns, alias=alias)]

        def refused(refusal: Refusal) -> DovetailError | None:
            if refusal.errno != errno.EEXIST:
                return None
            with self._route.borrow() as netlink:
                here = index_of(netlink.fileno(), name)
            if not here:
                self.take_link(name, netns)
            return taken

        self._do(Operation(commands, build, link=name, refused=refused))

    def take_link(self, name: str, netns: Netns, *, new_name: str = "", alias: str | None = None) -> None:
        """Fetch a link of another namespace; raises as `move_link`."""
        commands = partial(describe, "take_link", name, netns, new_name=new_name, alias=alias)

        def take() -> None:
            LinuxMoving(netns).move_link(name, self._home, new_name=new_name, alias=alias)

        self._do(Operation(commands, lambda _: [], after=take))


def _there(netns: Netns, name: str) -> bool:
    with LinuxHandle(netns).borrow_route() as netlink:
        return bool(index_of(netlink.fileno(), name))
