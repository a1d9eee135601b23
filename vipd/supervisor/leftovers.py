"""VIPs on the host that no living engine answers for: found and removed.

An address is ours if it carries our tag (IFA_PROTO). Kernels before 5.18 have no tags; there, it
is ours if it stands in the list that the supervisor keeps in ``runtime_dir``: every VIP that this
daemon may have added. The list is written before the engine may act on it.

Only for when no engine lives: at the daemon's start, after an engine's death, ``vipd release``.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from vipd.adapters import netlink
from vipd.adapters.netlink_codec import removal_of
from vipd.errors import AdapterError
from vipd.model import ADDRESS_TAG, HostAddress, NodeConfig, VipKey, format_address, parse_address

LIST_NAME = "addresses.json"
FIRST_KERNEL_WITH_TAGS = (5, 18)
_GONE_ALREADY = frozenset({99, 19})  # EADDRNOTAVAIL, ENODEV


def kernel_has_tags(release: str | None = None) -> bool:
    """Whether the kernel keeps IFA_PROTO; ``release`` as of uname."""
    words = (release or os.uname().release).split(".")
    with contextlib.suppress(ValueError, IndexError):
        return (int(words[0]), int(words[1])) >= FIRST_KERNEL_WITH_TAGS
    return True


def remember(runtime_dir: Path, configs: Iterable[NodeConfig]) -> None:
    """Write the VIPs of ``configs`` (the old and the new one) to the list, atomically.

    Raises AdapterError.
    """
    vips = {
        vip.key
        for config in configs
        for instance in config.instances
        if not instance.is_owner
        for vip in instance.vips
    }
    lines = [{"interface": name, "address": format_address(address)} for name, address in vips]
    draft = runtime_dir / f"{LIST_NAME}.new"
    try:
        draft.write_text(json.dumps(sorted(lines, key=str), indent=1), encoding="ascii")
        draft.replace(runtime_dir / LIST_NAME)
    except OSError as error:
        raise AdapterError(f"writing {draft}: {error.strerror}", error.errno or 0) from error


def remembered(runtime_dir: Path) -> frozenset[VipKey]:
    """The list as an earlier run left it; empty where there is none that can be read."""
    try:
        lines = json.loads((runtime_dir / LIST_NAME).read_text(encoding="ascii"))
        return frozenset((line["interface"], parse_address(line["address"])) for line in lines)
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def remove_tagged() -> tuple[str, ...]:
    """What can be known as ours without any file: nothing where the kernel keeps no tags."""
    return remove(frozenset())


def remove_listed(runtime_dir: Path) -> tuple[str, ...]:
    """Everything that is ours; the list is read only where it is needed. As ``remove``."""
    return remove(frozenset() if kernel_has_tags() else remembered(runtime_dir))


def remove(listed: frozenset[VipKey]) -> tuple[str, ...]:
    """Remove what is ours; returns the addresses removed. Raises AdapterError when refused.

    In reverse of the kernel's order: removing the first address of a subnet first would cost
    O(n²), or take its siblings along.
    """
    ours = list(reversed(_tagged() if kernel_has_tags() else _listed(listed)))
    if not ours:
        return ()
    failures = netlink.RequestSocket().apply([removal_of(entry) for entry in ours])
    for position, number in failures:
        if number not in _GONE_ALREADY:
            address = format_address(ours[position].address)
            raise AdapterError(f"removing {address}: {os.strerror(number)}", number)
    return tuple(format_address(entry.address) for entry in ours)


def _tagged() -> list[HostAddress]:
    # Not the links: there may be hundreds, and somebody waits for these addresses.
    return [entry for entry in netlink.dump_addresses() if entry.tag == ADDRESS_TAG]


def _listed(listed: frozenset[VipKey]) -> list[HostAddress]:
    links, addresses = netlink.dump()
    names = {link.index: link.name for link in links}
    return [entry for entry in addresses if (names.get(entry.index, ""), entry.address) in listed]
