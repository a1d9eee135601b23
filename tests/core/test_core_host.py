"""The host view: which source adverts have (ENC-5, ENC-10), with which prefix a VIP is added."""

from __future__ import annotations

from tests.core.rig import ETH0, ETH1, router, vip
from vipd.core.host import HostView
from vipd.model import ADDRESS_TAG, Address, Family, HostAddress, Link, parse_address

VIPS = frozenset({parse_address("192.0.2.100"), parse_address("fe80::100")})


def entry(text: str, *, index: int = 2, tag: int = 0, tentative: bool = False) -> HostAddress:
    address, _, prefix = text.partition("/")
    return HostAddress(index, parse_address(address), int(prefix), tag, tentative)


def view(*entries: HostAddress) -> HostView:
    host = HostView()
    host.resync((ETH0, ETH1), entries)
    return host


def source(
    host: HostView, family: Family = Family.IPV4, current: Address | None = None, **changes: object
) -> Address | None:
    return host.source_for(router(family, **changes), VIPS, current)


def test_the_source_is_the_first_address_of_the_interface() -> None:
    host = view(entry("203.0.113.1/24", index=3), entry("192.0.2.11/24"), entry("192.0.2.9/24"))
    assert source(host) == parse_address("192.0.2.11")


def test_a_lower_second_address_does_not_make_the_source_flip() -> None:
    host = view(entry("192.0.2.9/24"), entry("192.0.2.11/24"))
    assert source(host, current=parse_address("192.0.2.11")) == parse_address("192.0.2.11")


def test_a_source_that_left_is_replaced() -> None:
    host = view(entry("192.0.2.9/24"))
    assert source(host, current=parse_address("192.0.2.11")) == parse_address("192.0.2.9")


def test_a_vip_is_no_source_except_for_its_owner() -> None:
    host = view(entry("192.0.2.100/24"))
    assert source(host) is None
    assert source(host, priority=255) == parse_address("192.0.2.100")


def test_what_carries_our_tag_is_no_source() -> None:
    """A VIP of an earlier run that is no longer configured is about to be removed."""
    host = view(entry("192.0.2.77/24", tag=ADDRESS_TAG), entry("192.0.2.11/24"))
    assert source(host) == parse_address("192.0.2.11")


def test_ipv6_speaks_from_a_link_local_address_that_is_not_tentative() -> None:
    host = view(entry("2001:db8::1/64"), entry("fe80::1/64", tentative=True), entry("fe80::100/64"))
    assert source(host, Family.IPV6) is None
    host.see_address(entry("fe80::1/64"))
    assert source(host, Family.IPV6) == parse_address("fe80::1")


def test_the_configured_source_is_taken_only_while_the_host_has_it() -> None:
    wanted = parse_address("192.0.2.12")
    host = view(entry("192.0.2.11/24"))
    assert source(host, source=wanted) is None
    host.see_address(entry("192.0.2.12/24"))
    assert source(host, source=wanted) == wanted


def test_a_configured_source_must_be_on_the_interface() -> None:
    host = view(entry("192.0.2.12/24", index=3))
    assert source(host, source=parse_address("192.0.2.12")) is None


def test_no_interface_no_source() -> None:
    assert source(view(), interface="eth9") is None


# --- the prefix of a VIP --------------------------------------------------------------------------


def placed(host: HostView, text: str) -> str:
    (result,) = host.place((vip(text),), VIPS)
    return str(result)


def test_a_vip_inside_a_subnet_of_the_host_is_added_as_32() -> None:
    assert placed(view(entry("192.0.2.11/24")), "192.0.2.100/24") == "192.0.2.100/32"


def test_the_covering_address_may_be_on_any_link() -> None:
    assert placed(view(entry("192.0.2.11/24", index=3)), "192.0.2.100/24") == "192.0.2.100/32"


def test_a_vip_that_nobody_covers_keeps_its_prefix() -> None:
    assert placed(view(entry("198.51.100.1/24")), "192.0.2.100/24") == "192.0.2.100/24"


def test_neither_vips_nor_tagged_addresses_cover() -> None:
    host = view(entry("192.0.2.100/24"), entry("192.0.2.77/24", tag=ADDRESS_TAG))
    (result,) = host.place((vip("192.0.2.101/24"),), VIPS)
    assert result.prefix == 24


def test_an_ipv6_vip_keeps_its_prefix() -> None:
    assert placed(view(entry("2001:db8::1/64")), "2001:db8::100/64") == "2001:db8::100/64"


def test_a_vip_that_is_there_keeps_the_prefix_it_has() -> None:
    host = view(entry("192.0.2.100/24", tag=ADDRESS_TAG), entry("192.0.2.11/24"))
    assert placed(host, "192.0.2.100/28") == "192.0.2.100/24"


# --- what the kernel says -------------------------------------------------------------------------


def test_an_ipv4_address_may_be_there_twice() -> None:
    key = ("eth0", parse_address("192.0.2.100"))
    ours, foreign = entry("192.0.2.100/32", tag=ADDRESS_TAG), entry("192.0.2.100/24")
    host = view(foreign, ours)
    assert host.entries(key) == [ours, foreign]
    host.lose_address(ours)
    assert host.has(key)
    host.lose_address(foreign)
    assert not host.has(key)
    assert host.entries(key) == []


def test_losing_an_unknown_address_is_nothing() -> None:
    host = view()
    host.lose_address(entry("192.0.2.100/24"))
    assert list(host.addresses()) == []


def test_an_ipv6_address_is_there_once_whatever_its_prefix() -> None:
    host = view(entry("2001:db8::100/64"), entry("2001:db8::100/128"))
    assert [each.prefix for each in host.addresses()] == [128]


def test_a_lost_link_takes_its_addresses_along() -> None:
    host = view(entry("192.0.2.11/24"), entry("203.0.113.1/24", index=3))
    assert host.lose_link(2) == [entry("192.0.2.11/24")]
    assert host.link_named("eth0") is None
    assert host.entries(("eth0", parse_address("192.0.2.11"))) == []
    assert host.lose_link(2) == []


def test_a_renamed_link_is_found_by_its_new_name_only() -> None:
    host = view(entry("192.0.2.11/24"))
    host.see_link(Link(2, "lan", True, ETH0.mac))
    assert host.link_named("eth0") is None
    assert host.key_of(entry("192.0.2.11/24")) == ("lan", parse_address("192.0.2.11"))


def test_the_late_end_of_an_old_link_does_not_hide_its_successor() -> None:
    host = view()
    again = Link(7, "eth0", True, ETH0.mac)
    host.see_link(again)
    host.lose_link(2)
    assert host.link_named("eth0") is again


def test_an_address_of_an_unknown_link_has_no_key() -> None:
    assert view().key_of(entry("192.0.2.11/24", index=9)) is None
