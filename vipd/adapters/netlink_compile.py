"""Compiles, with pyroute2, the netlink requests that the engine will send.

Only the supervisor imports this module: pyroute2 costs 24 MiB and asyncio, and the engine has
neither to spare. What comes out are complete requests in which link index and prefix length are
left open (``netlink_codec`` fills them in).

Every add is a *create or replace* with everything that must survive a renewal, because the
kernel keeps nothing from the old one: a renewal without the tag erases the tag, one without a
lifetime makes the address permanent.

* The **lifetime** is the fence of last resort: a host whose processes are all dead or frozen
  loses the VIP by its own kernel.
* The **tag** (IFA_PROTO) says that the address is ours; older kernels ignore it.
* **IPv6** VIPs skip duplicate address detection, which would keep them unusable for a second
  just when they are needed, and their preferred lifetime is 0: usable, but never chosen as the
  source of the host's own connections, which a later release would break (checklist ANN-12).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from pyroute2.netlink import nla, nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from vipd.adapters.netlink_codec import AddressTemplate
from vipd.model import Family, Vip, format_address

_RTM_SETLINK, _RTM_NEWADDR, _RTM_DELADDR = 19, 20, 21
_NLM_F_REQUEST, _NLM_F_REPLACE, _NLM_F_CREATE = 0x1, 0x100, 0x400
_IFA_F_NODAD = 0x02
_RT_SCOPE_UNIVERSE = 0


def compile_address(vip: Vip, *, lifetime_s: int, tag: int) -> AddressTemplate:
    """The requests for ``vip``; the link index is 0, the prefix the configured one."""
    if lifetime_s < 1:
        raise ValueError(f"the lifetime of {vip} is {lifetime_s} s, but the least is 1 s")
    is_ipv4 = vip.family is Family.IPV4
    header = {
        "family": socket.AF_INET if is_ipv4 else socket.AF_INET6,
        "prefixlen": vip.prefix,
        "flags": 0,
        "scope": _RT_SCOPE_UNIVERSE,
        "index": 0,
    }
    text = format_address(vip.address)
    identity = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    preferred_s = lifetime_s if is_ipv4 else 0
    properties = [
        ("IFA_CACHEINFO", {"ifa_preferred": preferred_s, "ifa_valid": lifetime_s}),
        ("IFA_FLAGS", 0 if is_ipv4 else _IFA_F_NODAD),
        ("IFA_PROTO", tag),
    ]
    create = _NLM_F_REQUEST | _NLM_F_CREATE | _NLM_F_REPLACE
    return AddressTemplate(
        add=_encode(ifaddrmsg(), _RTM_NEWADDR, create, header, [*identity, *properties]),
        delete=_encode(ifaddrmsg(), _RTM_DELADDR, _NLM_F_REQUEST, header, identity),
    )


def compile_promote_secondaries() -> bytes:
    """The request that sets ``promote_secondaries`` on a link; the index is 0.

    Without it the end of the first address of a subnet takes all later ones along: a VIP that
    leaves could take the host's own address and its default route.
    """
    configuration = {"attrs": [("PROMOTE_SECONDARIES", 1)]}
    inet = {"attrs": [("IFLA_INET_CONF", configuration)]}
    specification = {"attrs": [("AF_INET", inet)]}
    header = {"family": socket.AF_UNSPEC, "index": 0, "flags": 0, "change": 0}
    attributes = [("IFLA_AF_SPEC", specification)]
    return _encode(_LinkSettings(), _RTM_SETLINK, _NLM_F_REQUEST, header, attributes)


class _LinkSettings(nlmsg):  # type: ignore[misc]  # pyroute2 has no types
    """RTM_SETLINK with per-family settings.

    pyroute2 knows this attribute only as the kernel *reports* it, a flat array; what the kernel
    *takes* is one nested attribute per setting. Not a subclass of ``ifinfmsg``: once a message of
    that class has been encoded, its subclasses use its attributes, whatever they declare.
    """

    fields = ifinfmsg.fields

    nla_map = ((26, "IFLA_AF_SPEC", "per_family"),)

    class per_family(nla):  # type: ignore[misc]
        nla_map = ((2, "AF_INET", "inet"),)

        class inet(nla):  # type: ignore[misc]
            nla_map = ((1, "IFLA_INET_CONF", "settings"),)

            class settings(nla):  # type: ignore[misc]
                nla_map = ((20, "PROMOTE_SECONDARIES", "uint32"),)


def _encode(
    message: nlmsg, kind: int, flags: int, fields: dict[str, int], attributes: Sequence[object]
) -> bytes:
    message.update(fields)
    message["attrs"] = list(attributes)
    message["header"] = {"type": kind, "flags": flags, "sequence_number": 0, "pid": 0}
    message.encode()
    return bytes(message.data)
