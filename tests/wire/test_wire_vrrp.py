"""vrrp.py: the packets of checklist section 5, damage of every kind, keepalived's own packets."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.vrrp import VRRP, VRRPv3
from wire_samples import (
    GOOD,
    K6_MESSAGE,
    OWN4,
    OWN6,
    PEER4,
    PEER6,
    SECRET,
    V2,
    V2_PASS,
    V3,
    V6,
    VECTORS,
    VIP4,
    VIPS6,
    config,
    datagram,
    packet,
    read_pcap,
    receiver,
)

from vipd.errors import InvariantViolated, WireError
from vipd.model import (
    MILLISECOND_NS,
    SECOND_NS,
    Address,
    Advert,
    ChecksumForm,
    Datagram,
    DiscardReason,
    Family,
    InstanceConfig,
    Remark,
    parse_address,
)
from vipd.wire.checksum import internet_checksum
from vipd.wire.receiver import GROUP_IPV4, GROUP_IPV6, receiver_for, stranger
from vipd.wire.vrrp import decode, encode, ipv4_packet, peek

PSEUDO, PLAIN, AUTO = ChecksumForm.PSEUDO, ChecksumForm.PLAIN, ChecksumForm.AUTO


def advert(
    version: int = 3,
    priority: int = 150,
    interval_ns: int = SECOND_NS,
    addresses: tuple[Address, ...] = (VIP4,),
) -> Advert:
    return Advert(version, 51, priority, interval_ns, addresses)


def reason_of(data: Datagram, of: InstanceConfig) -> DiscardReason:
    with pytest.raises(WireError) as caught:
        decode(data, receiver(of))
    return caught.value.reason


# --- sending ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message", "source", "form", "secret"),
    [
        ("G1", advert(2), PEER4, PSEUDO, None),
        ("G2", advert(2), PEER4, PSEUDO, SECRET),
        ("G3", advert(), PEER4, PLAIN, None),
        ("G4", advert(), PEER4, PSEUDO, None),
        ("G4", advert(), PEER4, AUTO, None),
        ("G6", advert(priority=0), PEER4, PSEUDO, None),
        (
            "G7",
            advert(3, 254, 2500 * MILLISECOND_NS, (VIP4, parse_address("192.0.2.101"))),
            PEER4,
            PLAIN,
            None,
        ),
        ("G8", advert(2, 0), PEER4, PSEUDO, None),
        ("K2", advert(2, 100), OWN4, PSEUDO, None),
        ("K3", advert(3, 100), OWN4, PSEUDO, None),
    ],
)
def test_ipv4_packets_are_those_of_the_checklist(
    name: str, message: Advert, source: Address, form: ChecksumForm, secret: bytes | None
) -> None:
    payload = encode(message, source=source, destination=GROUP_IPV4, form=form, auth_secret=secret)
    assert ipv4_packet(source, GROUP_IPV4, payload).hex() == packet(name).hex()


def test_ipv6_messages_are_those_of_the_checklist() -> None:
    good = encode(advert(addresses=VIPS6), source=PEER6, destination=GROUP_IPV6)
    assert good == packet("G5")[40:]
    captured = encode(advert(3, 100, addresses=VIPS6), source=OWN6, destination=GROUP_IPV6)
    assert captured == K6_MESSAGE


def test_ipv6_has_no_plain_form() -> None:
    plain = encode(advert(addresses=VIPS6), source=PEER6, destination=GROUP_IPV6, form=PLAIN)
    assert plain == packet("G5")[40:]


@pytest.mark.parametrize(
    "wrong",
    [
        advert(addresses=()),
        advert(addresses=(VIP4,) * 256),
        advert(addresses=VIPS6),
        advert(interval_ns=0),
        advert(interval_ns=4096 * 10 * MILLISECOND_NS),
        advert(interval_ns=15 * MILLISECOND_NS),
        advert(2, interval_ns=500 * MILLISECOND_NS),
        advert(2, interval_ns=256 * SECOND_NS),
    ],
)
def test_what_does_not_fit_is_our_own_fault(wrong: Advert) -> None:
    with pytest.raises(InvariantViolated):
        encode(wrong, source=PEER4, destination=GROUP_IPV4)


lists4 = st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=255).map(tuple)
lists6 = st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=90).map(tuple)
centiseconds = st.integers(1, 4095).map(lambda cs: cs * 10 * MILLISECOND_NS)
priorities = st.integers(0, 255)


@given(priorities, centiseconds, lists4, st.sampled_from([PSEUDO, PLAIN]))
def test_round_trip_v3_ipv4(
    priority: int, interval_ns: int, addresses: tuple[Address, ...], form: ChecksumForm
) -> None:
    sent = advert(3, priority, interval_ns, addresses)
    payload = encode(sent, source=PEER4, destination=GROUP_IPV4, form=form)
    heard = decode(datagram(ipv4_packet(PEER4, GROUP_IPV4, payload)), receiver(V3))
    assert heard.advert == sent
    assert heard.source == PEER4
    assert heard.form in (form, AUTO)
    assert (Remark.INTERVAL_DIFFERS in heard.remarks) == (interval_ns != SECOND_NS)
    assert (Remark.ADDRESS_LIST_DIFFERS in heard.remarks) == (addresses != (VIP4,))


@given(priorities, centiseconds, lists6)
def test_round_trip_v3_ipv6(
    priority: int, interval_ns: int, addresses: tuple[Address, ...]
) -> None:
    sent = advert(3, priority, interval_ns, addresses)
    payload = encode(sent, source=PEER6, destination=GROUP_IPV6)
    data = Datagram(Family.IPV6, 2, payload, PEER6, GROUP_IPV6, 255)
    assert decode(data, receiver(V6)).advert == sent


@given(priorities, st.integers(1, 255), lists4, st.binary(min_size=8, max_size=8) | st.none())
def test_round_trip_v2(
    priority: int, seconds: int, addresses: tuple[Address, ...], secret: bytes | None
) -> None:
    sent = advert(2, priority, seconds * SECOND_NS, addresses)
    payload = encode(sent, source=PEER4, destination=GROUP_IPV4, auth_secret=secret)
    local = receiver_for(
        replace(
            config(version=2, auth_secret=secret),
            advert_interval_ns=seconds * SECOND_NS,
            vips=tuple(replace(V2.vips[0], address=address) for address in addresses),
        ),
        (OWN4,),
    )
    heard = decode(datagram(ipv4_packet(PEER4, GROUP_IPV4, payload)), local)
    assert heard.advert == sent
    assert heard.form is AUTO


# --- damage -------------------------------------------------------------------------------------

WHOLE = {"G1": V2, "G2": V2_PASS, "G3": V3, "G4": V3, "G5": V6}


def with_message(name: str, message: bytes) -> Datagram:
    """The packet with another VRRP part, in an IP header that fits it."""
    if name == "G5":
        return replace(datagram(packet(name)), data=message)
    return datagram(ipv4_packet(PEER4, GROUP_IPV4, message))


def message_of(name: str) -> bytes:
    return packet(name)[40:] if name == "G5" else packet(name)[20:]


@pytest.mark.parametrize("name", WHOLE)
def test_undamaged(name: str) -> None:
    heard = decode(with_message(name, message_of(name)), receiver(WHOLE[name]))
    assert heard.advert == advert(
        2 if name in ("G1", "G2") else 3, addresses=VIPS6 if name == "G5" else (VIP4,)
    )


@pytest.mark.parametrize("name", WHOLE)
def test_every_truncation_is_discarded(name: str) -> None:
    message = message_of(name)
    for length in range(len(message)):
        assert reason_of(with_message(name, message[:length]), WHOLE[name]) is DiscardReason.LENGTH
    if name != "G5":
        for length in range(len(packet(name))):
            cut = Datagram(Family.IPV4, 2, packet(name)[:length])
            assert reason_of(cut, WHOLE[name]) is DiscardReason.IP_HEADER


@pytest.mark.parametrize("name", WHOLE)
def test_every_single_bit_flip_is_discarded(name: str) -> None:
    message = message_of(name)
    for bit in range(len(message) * 8):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        reason_of(with_message(name, bytes(flipped)), WHOLE[name])


receivers = st.sampled_from([receiver(of) for of in WHOLE.values()]) | st.sampled_from(
    [stranger(family, ()) for family in Family]
)


@given(st.binary(max_size=200), receivers, st.sampled_from(Family))
def test_arbitrary_bytes_raise_nothing_else(data: bytes, local: object, family: Family) -> None:
    heard_or_refused(Datagram(family, 2, data, PEER6, GROUP_IPV6, 255), local)
    heard_or_refused(Datagram(family, 2, data), local)


@given(st.binary(max_size=60), receivers, st.integers(0, 10))
def test_arbitrary_messages_with_right_sums_raise_nothing_else(
    data: bytes, local: object, options: int
) -> None:
    """Past the checksum, where the deeper checks are."""
    message = data
    if len(data) >= 8:
        first = data[0] & 0xF0 if data[0] & 0x40 else 0x20 | data[0] & 0x10
        head = bytes((first | 1,)) + data[1:6]
        unsummed = head + b"\0\0" + data[8:]
        message = head + internet_checksum(unsummed).to_bytes(2, "big") + data[8:]
    header = bytearray(ipv4_packet(PEER4, GROUP_IPV4, bytes(options * 4) + message))
    header[0] = 0x45 + options
    header[10:12] = b"\0\0"
    header[10:12] = internet_checksum(bytes(header[: 20 + options * 4])).to_bytes(2, "big")
    heard_or_refused(Datagram(Family.IPV4, 2, bytes(header)), local)
    heard_or_refused(Datagram(Family.IPV6, 2, message, PEER6, GROUP_IPV6, 255), local)


def heard_or_refused(data: Datagram, local: object) -> None:
    peek(data)
    try:
        heard = decode(data, local)  # type: ignore[arg-type]
    except WireError:
        return
    assert heard.advert.vrid == 51


# --- single checks that the vectors do not reach --------------------------------------------------


@pytest.mark.parametrize("missing", ["source", "destination", "hop_limit"])
def test_ipv6_without_ancillary_data_is_discarded(missing: str) -> None:
    data = replace(datagram(packet("G5")), **{missing: None})
    assert reason_of(data, V6) is DiscardReason.IP_HEADER


def test_family_of_datagram_and_receiver_must_agree() -> None:
    assert reason_of(datagram(packet("G4")), V6) is DiscardReason.IP_HEADER
    assert reason_of(datagram(packet("G5")), V3) is DiscardReason.IP_HEADER


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("127.0.0.1", DiscardReason.BAD_SOURCE),
        ("0.1.2.3", DiscardReason.BAD_SOURCE),
        ("255.255.255.255", DiscardReason.BAD_SOURCE),
        ("192.0.2.255", DiscardReason.BAD_SOURCE),
        ("192.0.2.10", DiscardReason.OWN_SOURCE),
        ("::", DiscardReason.BAD_SOURCE),
        ("::1", DiscardReason.BAD_SOURCE),
        ("ff02::12", DiscardReason.BAD_SOURCE),
        ("fe80::10", DiscardReason.OWN_SOURCE),
    ],
)
def test_sources_that_no_peer_has(source: str, reason: DiscardReason) -> None:
    address = parse_address(source)
    if len(address) == 4:
        payload = encode(advert(), source=address, destination=GROUP_IPV4)
        assert reason_of(datagram(ipv4_packet(address, GROUP_IPV4, payload)), V3) is reason
    else:
        payload = encode(advert(addresses=VIPS6), source=address, destination=GROUP_IPV6)
        data = Datagram(Family.IPV6, 2, payload, address, GROUP_IPV6, 255)
        assert reason_of(data, V6) is reason


def test_the_order_of_addresses_does_not_matter() -> None:
    two = config(vips=tuple(replace(V3.vips[0], address=bytes((10, 0, 0, n))) for n in (1, 2)))
    swapped = advert(addresses=two.advertised[::-1])
    payload = encode(swapped, source=PEER4, destination=GROUP_IPV4)
    heard = decode(datagram(ipv4_packet(PEER4, GROUP_IPV4, payload)), receiver(two))
    assert heard.remarks == ()
    assert heard.advert == swapped


def test_a_second_owner_is_remarked() -> None:
    owner = receiver(config(priority=255))
    for priority, remarks in ((255, (Remark.SECOND_OWNER,)), (254, ())):
        payload = encode(advert(priority=priority), source=PEER4, destination=GROUP_IPV4)
        assert decode(datagram(ipv4_packet(PEER4, GROUP_IPV4, payload)), owner).remarks == remarks


@pytest.mark.parametrize(("form", "good", "bad"), [(PSEUDO, "G4", "G3"), (PLAIN, "G3", "G4")])
def test_a_configured_checksum_form_refuses_the_other(
    form: ChecksumForm, good: str, bad: str
) -> None:
    local = config(checksum=form)
    heard = decode(datagram(packet(good)), receiver(local))
    assert (heard.form, heard.remarks) == (form, ())
    assert reason_of(datagram(packet(bad)), local) is DiscardReason.CHECKSUM


def test_a_stranger_accepts_not_even_vrid_0() -> None:
    payload = encode(replace(advert(), vrid=0), source=PEER4, destination=GROUP_IPV4)
    with pytest.raises(WireError) as caught:
        decode(datagram(ipv4_packet(PEER4, GROUP_IPV4, payload)), stranger(Family.IPV4, ()))
    assert caught.value.reason is DiscardReason.VRID


def test_a_known_form_counts_on_auto_only_and_per_source() -> None:
    for known, name in ((PSEUDO, "G3"), (PLAIN, "G4")):
        with pytest.raises(WireError):
            decode(datagram(packet(name)), receiver(V3), {PEER4: known})
        decode(datagram(packet(name)), receiver(V3), {OWN4: known})
    decode(datagram(packet("G3")), receiver(config(checksum=PLAIN)), {PEER4: PSEUDO})


def test_a_sum_that_is_right_both_ways_teaches_no_form() -> None:
    # 0xffff - (0xe000 + 0x0012 + 112 + 12): the pseudo header then adds nothing.
    source = struct.pack("!HH", 0x0A00, 0xFFFF - 0xE000 - 0x12 - 112 - 12 - 0x0A00)
    payload = encode(advert(), source=source, destination=GROUP_IPV4, form=PLAIN)
    assert payload == encode(advert(), source=source, destination=GROUP_IPV4, form=PSEUDO)
    data = datagram(ipv4_packet(source, GROUP_IPV4, payload))
    for of in (V3, config(checksum=PSEUDO), config(checksum=PLAIN)):
        assert decode(data, receiver(of)).form is AUTO


class TestUnicast:
    LOCAL = config(unicast_peers=(PEER4,))

    def packet(self, source: Address, destination: Address, ttl: int = 255) -> Datagram:
        payload = encode(advert(), source=source, destination=destination)
        data = bytearray(ipv4_packet(source, destination, payload))
        data[8:12] = bytes((ttl, 112, 0, 0))
        data[10:12] = internet_checksum(bytes(data[:20])).to_bytes(2, "big")
        return datagram(bytes(data))

    def test_from_a_peer_to_us(self) -> None:
        assert decode(self.packet(PEER4, OWN4), receiver(self.LOCAL)).form is PSEUDO

    def test_a_routed_peer_is_no_oddity(self) -> None:
        far = parse_address("198.51.100.7")
        local = receiver(config(unicast_peers=(far,)))
        assert decode(self.packet(far, OWN4), local).remarks == ()

    def test_the_group_is_not_for_us(self) -> None:
        assert reason_of(self.packet(PEER4, GROUP_IPV4), self.LOCAL) is DiscardReason.DESTINATION

    def test_nor_is_a_vip(self) -> None:
        assert reason_of(self.packet(PEER4, VIP4), self.LOCAL) is DiscardReason.DESTINATION

    def test_only_peers_may_send(self) -> None:
        other = parse_address("192.0.2.12")
        assert reason_of(self.packet(other, OWN4), self.LOCAL) is DiscardReason.DESTINATION

    def test_ttl_must_be_255_too(self) -> None:
        assert reason_of(self.packet(PEER4, OWN4, ttl=254), self.LOCAL) is DiscardReason.TTL

    def test_ipv6_peers_need_no_link_local_source(self) -> None:
        peer, own = parse_address("2001:db8::11"), parse_address("2001:db8::10")
        local = config(Family.IPV6, unicast_peers=(peer,), strict=True)
        payload = encode(advert(addresses=VIPS6), source=peer, destination=own)
        data = Datagram(Family.IPV6, 2, payload, peer, own, 255)
        assert decode(data, receiver_for(local, (own,))).remarks == ()


# --- other programs' packets ----------------------------------------------------------------------


def vrrp_datagrams(name: str) -> list[Datagram]:
    frames = read_pcap(VECTORS / name)
    cut = (frame[14:] for frame in frames if frame[12:14] in (b"\x08\x00", b"\x86\xdd"))
    return [datagram(ip) for ip in cut if (ip[9] if ip[0] >> 4 == 4 else ip[6]) == 112]


@pytest.mark.parametrize(
    ("name", "local", "count"),
    [
        ("cap_v2pass.pcap", config(version=2, auth_secret=b"s3cr3t\0\0"), 5),
        ("cap_v2prio0.pcap", V2, 11),
        ("cap_v2silent.pcap", V2, 8),
        ("cap_v3learn.pcap", V3, 11),
        ("cap_v3prio0.pcap", V3, 11),
        ("cap_v6prio0.pcap", V6, 11),
        ("m_eq-hi.pcap", V3, 5),
        ("m_eq-lo.pcap", V3, 9),
        ("m_eq-same.pcap", V3, 8),
        ("m_prio0.pcap", V3, 9),
        ("m_prio150.pcap", V3, 5),
        ("m_prio99.pcap", V3, 9),
    ],
)
def test_what_keepalived_sent_is_accepted_and_sent_alike(
    name: str, local: InstanceConfig, count: int
) -> None:
    listener = receiver_for(local, (parse_address("192.0.2.77"), parse_address("fe80::77")))
    captured = vrrp_datagrams("pcap_keepalived/" + name)
    assert len(captured) == count
    for data in captured:
        heard = decode(data, listener)
        assert set(heard.remarks) <= {Remark.INTERVAL_DIFFERS}
        again = encode(
            heard.advert,
            source=heard.source,
            destination=data.destination or data.data[16:20],
            form=heard.form,
            auth_secret=local.auth_secret,
        )
        total = int.from_bytes(data.data[2:4], "big")  # without the frame's padding
        assert again == (data.data if local.family is Family.IPV6 else data.data[20:total])


def test_what_scapy_reads_from_our_packets() -> None:
    """Scapy judges form A, v2 and IPv6 (it takes form B for wrong)."""
    payload = encode(advert(), source=PEER4, destination=GROUP_IPV4)
    ip = IP(ipv4_packet(PEER4, GROUP_IPV4, payload))
    assert (ip.ttl, ip.proto, ip.tos, ip.len) == (255, 112, 0xC0, 32)
    assert (ip[VRRPv3].vrid, ip[VRRPv3].priority, ip[VRRPv3].adv) == (51, 150, 100)
    assert ip[VRRPv3].addrlist == ["192.0.2.100"]


def scapy_ipv4(layer: object) -> bytes:
    return bytes(IP(src="192.0.2.11", dst="224.0.0.18", ttl=255, tos=0xC0, id=1) / layer)


def test_scapy_builds_the_same_bytes() -> None:
    v3 = VRRPv3(vrid=51, priority=150, adv=100, addrlist=["192.0.2.100"])
    payload = encode(advert(), source=PEER4, destination=GROUP_IPV4)
    assert scapy_ipv4(v3) == ipv4_packet(PEER4, GROUP_IPV4, payload)
    v2 = VRRP(vrid=51, priority=150, addrlist=["192.0.2.100"], authtype=0, adv=1)
    payload = encode(advert(2), source=PEER4, destination=GROUP_IPV4)
    assert scapy_ipv4(v2) == ipv4_packet(PEER4, GROUP_IPV4, payload)
    v6 = IPv6(src="fe80::11", dst="ff02::12", hlim=255) / VRRPv3(
        vrid=51, priority=150, adv=100, addrlist=["fe80::100", "2001:db8::100"]
    )
    payload = encode(advert(addresses=VIPS6), source=PEER6, destination=GROUP_IPV6)
    assert bytes(v6)[40:] == payload


def test_good_pcap_holds_the_checklist_packets() -> None:
    known = {packet(name) for name in GOOD}
    for frame in read_pcap(VECTORS / "good.pcap"):
        if frame[12:14] == b"\x08\x00":
            total = int.from_bytes(frame[16:18], "big")
            assert frame[14 : 14 + total] in known
