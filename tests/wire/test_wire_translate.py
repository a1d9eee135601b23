"""translate.py: demultiplexing, own addresses, learned checksum forms, unicast, announcements."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import (
    ADDRESSES,
    ETH0,
    GARP_HEX,
    LINKS,
    NA_HEX,
    OWN4,
    OWN6,
    PEER4,
    PEER6,
    V2_PASS,
    V3,
    V6,
    VIP4,
    VIPS6,
    config,
    datagram,
    node,
    packet,
    vectors,
)

from vipd.core.actions import Announce, SendAdvert
from vipd.core.events import (
    AddressGone,
    AddressSeen,
    AdvertHeard,
    AdvertRejected,
    KernelResynced,
    LinkGone,
    LinkSeen,
    RivalAnnounced,
    StallDrained,
)
from vipd.core.teller import fields_of
from vipd.model import (
    ADDRESS_TAG,
    SECOND_NS,
    Advert,
    ChecksumForm,
    Datagram,
    DiscardReason,
    Family,
    HostAddress,
    InstanceConfig,
    Link,
    Remark,
    Vip,
    parse_address,
)
from vipd.translate import MAX_KNOWN_FORMS, Translator
from vipd.wire import announce
from vipd.wire.receiver import GROUP_IPV4, GROUP_IPV6
from vipd.wire.vrrp import encode, ipv4_packet

PSEUDO, PLAIN = ChecksumForm.PSEUDO, ChecksumForm.PLAIN
ADVERT = Advert(3, 51, 150, SECOND_NS, (VIP4,))


def translator(*instances: InstanceConfig) -> Translator:
    made = Translator()
    made.configure(node(*instances))
    made.set_host(LINKS, ADDRESSES)
    return made


def advert_from(
    source: bytes, form: ChecksumForm = PSEUDO, advert: Advert = ADVERT, to: bytes = GROUP_IPV4
) -> Datagram:
    payload = encode(advert, source=source, destination=to, form=form)
    return datagram(ipv4_packet(source, to, payload))


def verdict(of: Translator, data: Datagram) -> DiscardReason | str:
    """The reason of a discarded datagram, the instance of an accepted one."""
    event = of.receive(data)
    if isinstance(event, AdvertRejected):
        return event.reason
    assert isinstance(event, AdvertHeard)
    return event.instance


# --- whose datagram -----------------------------------------------------------------------------


def test_link_family_and_vrid_name_the_instance() -> None:
    other = config(name="other", vrid=52)
    of = translator(V3, V6, other)
    assert verdict(of, datagram(packet("G4"))) == V3.name
    assert verdict(of, datagram(packet("G5"))) == V6.name
    assert verdict(of, advert_from(PEER4, advert=replace(ADVERT, vrid=52))) == "other"


def test_the_event_tells_all() -> None:
    assert translator(V3).receive(advert_from(PEER4)) == AdvertHeard(V3.name, PEER4, ADVERT, ())


@pytest.mark.parametrize("index", [1, 3])
def test_a_link_without_instance_is_not_ours(index: int) -> None:
    assert translator(V3).receive(datagram(packet("G4"), index)) is None


def test_same_vrid_on_another_link_is_another_router() -> None:
    of = translator(V3, config(name="second", interface="eth1"))
    of.observe(LinkSeen(Link(3, "eth1", True, b"\x02\0\0\0\0\x0b")))
    assert verdict(of, datagram(packet("G4"), 3)) == "second"
    assert verdict(of, datagram(packet("G4"), 2)) == V3.name


@pytest.mark.parametrize(
    ("data", "reason", "source"),
    [
        (advert_from(PEER4, advert=replace(ADVERT, vrid=9)), DiscardReason.VRID, PEER4),
        (advert_from(PEER4, PLAIN, replace(ADVERT, vrid=9)), DiscardReason.VRID, PEER4),
        (advert_from(PEER4, advert=Advert(2, 9, 1, SECOND_NS, (VIP4,))), DiscardReason.VRID, PEER4),
        (
            advert_from(PEER4, advert=replace(ADVERT, vrid=9), to=OWN4),
            DiscardReason.VRID,
            PEER4,
        ),
        (
            advert_from(PEER4, advert=Advert(4, 9, 1, SECOND_NS, (VIP4,))),
            DiscardReason.VERSION,
            PEER4,
        ),
        (
            advert_from(OWN4, advert=replace(ADVERT, vrid=9)),
            DiscardReason.OWN_SOURCE,
            OWN4,
        ),
        (Datagram(Family.IPV4, 2, b"\x45"), DiscardReason.IP_HEADER, None),
        (Datagram(Family.IPV6, 2, b"", PEER6, GROUP_IPV6, 255), DiscardReason.LENGTH, PEER6),
        (
            Datagram(Family.IPV6, 2, b"\x21\x09" + bytes(6), PEER6, GROUP_IPV6, 255),
            DiscardReason.VERSION,
            PEER6,
        ),
    ],
)
def test_an_unknown_vrid_passes_all_other_checks_first(
    data: Datagram, reason: DiscardReason, source: bytes | None
) -> None:
    assert translator(V3).receive(data) == AdvertRejected("", reason, source)


@given(st.binary(max_size=80), st.sampled_from(Family), st.sampled_from([1, 2]))
def test_receive_never_raises(data: bytes, family: Family, index: int) -> None:
    of = translator(V3, V6)
    of.receive(Datagram(family, index, data))
    of.receive(Datagram(family, index, data, PEER6, GROUP_IPV6, 255))
    of.receive(datagram(ipv4_packet(PEER4, GROUP_IPV4, data), index))


# --- own addresses ------------------------------------------------------------------------------


def test_a_vip_that_we_hold_is_no_proof_that_the_advert_is_ours() -> None:
    event = translator(V3).receive(advert_from(VIP4))
    assert isinstance(event, AdvertHeard)
    assert event.remarks == (Remark.SOURCE_IS_VIP,)


def test_the_address_owner_sends_from_its_vip() -> None:
    of = translator(config(priority=255))
    of.set_host(LINKS, (HostAddress(2, VIP4, 24),))
    assert verdict(of, advert_from(VIP4)) is DiscardReason.OWN_SOURCE


def test_the_configured_source_is_own_before_the_kernel_has_it() -> None:
    of = translator(config(source=PEER4))
    assert verdict(of, advert_from(PEER4)) is DiscardReason.OWN_SOURCE


def test_own_addresses_of_other_links_count_but_link_local_ones_do_not() -> None:
    other = Link(3, "eth1", True, b"\x02\0\0\0\0\x0b")
    of = translator(V3, V6)
    of.set_host((*LINKS, other), (HostAddress(3, PEER4, 24), HostAddress(3, PEER6, 64)))
    assert verdict(of, advert_from(PEER4)) is DiscardReason.OWN_SOURCE
    assert verdict(of, datagram(packet("G5"))) == V6.name


def test_it_follows_the_kernel() -> None:
    of = translator(V3)
    peers = HostAddress(2, PEER4, 24)
    assert verdict(of, advert_from(PEER4)) == V3.name
    of.observe(AddressSeen(peers))
    assert verdict(of, advert_from(PEER4)) is DiscardReason.OWN_SOURCE
    of.observe(AddressSeen(peers))  # renewed: nothing changed
    assert verdict(of, advert_from(PEER4)) is DiscardReason.OWN_SOURCE
    of.observe(AddressSeen(replace(peers, tag=ADDRESS_TAG)))  # a VIP of an earlier configuration
    assert verdict(of, advert_from(PEER4)) == V3.name
    of.observe(AddressSeen(peers))
    of.observe(AddressSeen(replace(peers, prefix=32)))
    of.observe(AddressGone(replace(peers, prefix=32)))
    assert verdict(of, advert_from(PEER4)) is DiscardReason.OWN_SOURCE
    of.observe(AddressGone(peers))
    of.observe(StallDrained())
    assert verdict(of, advert_from(PEER4)) == V3.name
    of.observe(LinkGone(2))
    assert of.receive(advert_from(PEER4)) is None
    of.observe(KernelResynced(LINKS, (peers,)))
    assert verdict(of, advert_from(PEER4)) is DiscardReason.OWN_SOURCE


# --- checksum forms -----------------------------------------------------------------------------


def test_the_first_form_of_a_source_is_kept_and_said_once() -> None:
    of = translator(V3)
    remarks = []
    for _ in range(3):
        event = of.receive(advert_from(PEER4, PLAIN))
        assert isinstance(event, AdvertHeard)
        remarks.append(event.remarks)
    assert remarks == [(Remark.CHECKSUM_FORM_PLAIN,), (), ()]
    assert verdict(of, advert_from(PEER4, PSEUDO)) is DiscardReason.CHECKSUM
    assert verdict(of, advert_from(PEER4, PLAIN)) == V3.name
    assert verdict(of, advert_from(PEER4, PSEUDO)) is DiscardReason.CHECKSUM


def test_another_source_may_use_the_other_form() -> None:
    of = translator(V3)
    assert verdict(of, advert_from(PEER4, PLAIN)) == V3.name
    assert verdict(of, advert_from(parse_address("192.0.2.12"), PSEUDO)) == V3.name


def test_a_peer_that_was_reconfigured_is_learned_anew() -> None:
    of = translator(V3)
    assert verdict(of, advert_from(PEER4, PSEUDO)) == V3.name
    assert verdict(of, advert_from(PEER4, PLAIN)) is DiscardReason.CHECKSUM
    assert verdict(of, advert_from(PEER4, PLAIN)) == V3.name
    assert verdict(of, advert_from(PEER4, PLAIN)) == V3.name
    assert verdict(of, advert_from(PEER4, PSEUDO)) is DiscardReason.CHECKSUM


def test_corruption_teaches_nothing() -> None:
    of = translator(V3)
    assert verdict(of, advert_from(PEER4, PSEUDO)) == V3.name
    broken = bytearray(packet("G4"))
    broken[-1] ^= 1
    for _ in range(5):
        assert verdict(of, datagram(bytes(broken))) is DiscardReason.CHECKSUM
    assert verdict(of, advert_from(PEER4, PLAIN)) is DiscardReason.CHECKSUM


def test_a_flood_of_sources_pushes_no_peer_out() -> None:
    of = translator(V3)
    assert verdict(of, advert_from(PEER4, PLAIN)) == V3.name
    for number in range(MAX_KNOWN_FORMS + 10):
        source = bytes((10, 0, number >> 8, number & 0xFF))
        assert verdict(of, advert_from(source)) == V3.name
    assert verdict(of, advert_from(PEER4, PSEUDO)) is DiscardReason.CHECKSUM
    late = bytes((10, 0, (MAX_KNOWN_FORMS + 5) >> 8, (MAX_KNOWN_FORMS + 5) & 0xFF))
    assert verdict(of, advert_from(late, PLAIN)) == V3.name
    assert verdict(of, advert_from(late, PSEUDO)) == V3.name


def test_a_reload_keeps_what_unchanged_routers_learned() -> None:
    of = translator(V3)
    of.receive(advert_from(PEER4, PLAIN))
    of.configure(node(replace(V3, priority=120), V6))
    assert verdict(of, advert_from(PEER4, PSEUDO)) is DiscardReason.CHECKSUM
    of.configure(node(replace(V3, checksum=PSEUDO)))
    assert verdict(of, advert_from(PEER4, PSEUDO)) == V3.name
    of.configure(node())
    of.configure(node(V3))
    assert verdict(of, advert_from(PEER4, PSEUDO)) == V3.name


def sent(of: Translator, by: InstanceConfig, advert: Advert = ADVERT) -> list[str]:
    source = OWN4 if by.family is Family.IPV4 else OWN6
    return [out.payload.hex() for out in of.encode(SendAdvert(by, source, advert))]


def encoded(form: ChecksumForm, to: bytes = GROUP_IPV4) -> str:
    return encode(ADVERT, source=OWN4, destination=to, form=form).hex()


def test_auto_sends_the_form_of_the_last_peer() -> None:
    of = translator(V3)
    assert sent(of, V3) == [encoded(PSEUDO)]
    of.receive(advert_from(PEER4, PLAIN))
    assert sent(of, V3) == [encoded(PLAIN)]
    of.receive(advert_from(parse_address("192.0.2.12"), PSEUDO))
    assert sent(of, V3) == [encoded(PSEUDO)]


@pytest.mark.parametrize("form", [PSEUDO, PLAIN])
def test_a_configured_form_is_sent(form: ChecksumForm) -> None:
    by = config(checksum=form)
    assert sent(translator(by), by) == [encoded(form)]


def test_a_removed_router_says_goodbye_in_its_peers_form() -> None:
    of = translator(V3)
    of.receive(advert_from(PEER4, PLAIN))
    of.configure(node())
    assert sent(of, V3) == [encoded(PLAIN)]
    of.configure(node())
    assert sent(of, V3) == [encoded(PSEUDO)]


# --- sending ------------------------------------------------------------------------------------


def test_multicast_goes_to_the_group_of_the_family() -> None:
    of = translator(V3, V6)
    (out,) = of.encode(SendAdvert(V3, OWN4, ADVERT))
    assert (out.family, out.index, out.source) == (Family.IPV4, 2, OWN4)
    assert out.destination == GROUP_IPV4
    (out,) = of.encode(SendAdvert(V6, OWN6, replace(ADVERT, addresses=VIPS6)))
    assert (out.family, out.destination) == (Family.IPV6, GROUP_IPV6)


def test_the_secret_is_sent() -> None:
    (out,) = translator(V2_PASS).encode(SendAdvert(V2_PASS, PEER4, replace(ADVERT, version=2)))
    assert out.arrive(2).data == packet("G2")


def test_nothing_is_sent_on_a_missing_link() -> None:
    by = config(interface="eth7")
    assert translator(by).encode(SendAdvert(by, OWN4, ADVERT)) == ()


def test_unicast_sums_each_peers_own_address_and_form() -> None:
    peers = (PEER4, parse_address("192.0.2.12"))
    by = config(unicast_peers=peers)
    of = translator(by)
    assert sent(of, by) == [encoded(PSEUDO, peer) for peer in peers]
    assert verdict(of, advert_from(PEER4, PLAIN, to=OWN4)) == by.name
    assert verdict(of, advert_from(peers[1], PSEUDO, to=OWN4)) == by.name
    assert sent(of, by) == [encoded(PLAIN, peers[0]), encoded(PSEUDO, peers[1])]


@pytest.mark.parametrize("family", Family)
def test_what_one_sends_the_other_hears(family: Family) -> None:
    by, source = (V3, PEER4) if family is Family.IPV4 else (V6, PEER6)
    advert = replace(ADVERT, addresses=by.advertised)
    (out,) = translator(by).encode(SendAdvert(by, source, advert))
    heard = translator(V3, V6).receive(out.arrive(2))
    assert heard == AdvertHeard(by.name, source, advert, ())


# --- announcements ------------------------------------------------------------------------------

MAC = bytes.fromhex("00005e000133")


def test_one_frame_per_vip_whose_link_exists() -> None:
    vips = (
        *V3.vips,
        Vip(VIPS6[0], 64, "eth1"),
        Vip(VIPS6[1], 64, "eth7"),
        Vip(VIPS6[1], 64, "lo"),
        Vip(VIPS6[1], 64, "tun0"),
    )
    of = translator(config(vips=vips))
    of.set_host(
        (
            LINKS[0],
            replace(ETH0, mac=MAC),
            Link(3, "eth1", True, bytes.fromhex("00005e000233")),
            Link(4, "tun0", True, b""),
        ),
        (),
    )
    of.set_forwarding(True)
    first = of.announcements(Announce(V3.name, vips))
    assert [(index, frame.hex()) for index, frame in first] == [
        (2, GARP_HEX + "00" * 18),
        (3, NA_HEX),
    ]
    again = of.announcements(Announce(V3.name, vips))
    assert all(a[1] is b[1] for a, b in zip(first, again, strict=True))


def test_a_new_mac_is_announced() -> None:
    of = translator(V3)
    action = Announce(V3.name, V3.vips)
    assert announce.arp_claim(of.announcements(action)[0][1]) == (ETH0.mac, VIP4)
    of.observe(LinkSeen(replace(ETH0, mac=MAC)))
    assert announce.arp_claim(of.announcements(action)[0][1]) == (MAC, VIP4)


def test_a_host_is_no_router() -> None:
    of = translator(V6)
    action = Announce(V6.name, V6.vips)
    for forwarding in (False, True, False):
        of.set_forwarding(forwarding)
        flags = [frame[58] for _, frame in of.announcements(action)]
        assert flags == [0xA0 if forwarding else 0x20] * 2


def test_rivals_speak_for_our_vips_with_foreign_macs() -> None:
    of = translator(V3, V6)
    for address in (VIP4, *VIPS6):
        assert of.rival(2, MAC, address) == RivalAnnounced(2, address, MAC)
        assert of.rival(2, ETH0.mac, address) is None
        assert of.rival(3, MAC, address) is None
    assert of.rival(2, MAC, PEER4) is None


def test_what_was_wrong_with_a_datagram_reaches_the_note() -> None:
    """D15: a keepalived trailer is a wrong length, and the log names the likely cause."""
    frame = next(each.frame for each in vectors() if each.id == "trail28")
    rejected = translator(config()).receive(datagram(frame[14:]))
    assert isinstance(rejected, AdvertRejected)
    assert "auth_hmac" in str(fields_of(rejected)["detail"])


# --- cost -----------------------------------------------------------------------------------------


def test_the_cost_of_a_link_event_grows_no_faster_than_the_number_of_vlans() -> None:
    """Ten times the VLANs may cost forty times, never the hundred of a quadratic walk."""

    def cost(count: int) -> float:
        mac = bytes.fromhex("020000000001")
        links = [Link(at + 2, f"vlan{at}", True, mac) for at in range(count)]
        own = [HostAddress(at + 2, bytes((10, at >> 8, at & 255, 2)), 24) for at in range(count)]
        made = Translator()
        made.configure(node(*(config(name=link.name, interface=link.name) for link in links)))
        made.set_host(links, own)
        heard = advert_from(PEER4)
        best = 1e9
        for turn in range(3):
            made.observe(LinkSeen(replace(links[0], mtu=1400 + turn)))
            begin = perf_counter()
            made.receive(heard)
            best = min(best, perf_counter() - begin)
        return best

    assert cost(1000) < 40 * cost(100)
