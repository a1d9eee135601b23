"""What happens to the link under a router, and to the address it speaks from."""

from __future__ import annotations

import pytest

from tests.daemon.rig import (
    MS,
    PATIENCE_S,
    VIP,
    Daemon,
    Wire,
    add_address,
    index_of,
    netlink_of,
    pair,
    remove_address,
    router,
    single,
    sleep_ms,
)
from vipd.lab.hosts import INTERFACE, Host, now_ns, wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.netns


def set_link(host: Host, name: str = INTERFACE, **attributes: object) -> None:
    with netlink_of(host) as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname=name)[0], **attributes)


def plug_anew(lab: Lab, name: str) -> None:
    """The interface is deleted (its switch port with it) and made again, with its addresses."""
    set_link_gone(lab[name])
    lab._connect(lab[name], lab._bridge_of[name])


def set_link_gone(host: Host) -> None:
    with netlink_of(host) as netlink:
        netlink.link("del", index=netlink.link_lookup(ifname=INTERFACE)[0])


def test_down_and_up() -> None:
    with pair() as (_lab, one, two):
        set_link(one.host, state="down")
        one.wait_state("FAULT")
        assert one.instance()["reason"] == "interface-down"
        assert not one.holds_any()
        two.wait_holds()
        set_link(one.host, state="up")
        # IPv4 addresses survived, so the better one comes back
        one.wait_holds()
        two.wait_free()
        assert one.state() == "MASTER"


def test_carrier_lost() -> None:
    with pair() as (lab, one, two):
        lab.link_down("lb1")
        one.wait_state("FAULT")
        one.wait_free()
        two.wait_holds()
        lab.link_up("lb1")
        one.wait_holds()
        two.wait_free()


def test_deleted_and_made_again() -> None:
    """Another index: sockets and group memberships must follow."""
    with pair() as (lab, one, two):
        old = index_of(one.host)
        set_link_gone(one.host)
        one.wait_state("FAULT")
        assert one.instance()["reason"] == "interface-missing"
        two.wait_holds()
        lab._connect(one.host, lab._bridge_of["lb1"])
        assert index_of(one.host) != old
        one.wait_holds()
        two.wait_free()  # hears lb1
        # and lb1 hears lb2: with a lower priority it follows
        one.change(priority=50)
        assert one.ask("/reload", "POST")[0] == 200
        two.wait_holds()
        one.wait_free()
        one.wait_state("BACKUP")


def test_renamed_away_and_back() -> None:
    with pair() as (_lab, one, two):
        set_link(one.host, ifname="away0")
        one.wait_state("FAULT")
        assert one.instance()["reason"] == "interface-missing"
        one.wait_free()
        two.wait_holds()
        set_link(one.host, "away0", ifname=INTERFACE)
        one.wait_holds()
        two.wait_free()


def test_mac_changed() -> None:
    """The VIP has another MAC now: announced at once, with the new one."""
    with single(interval_ms=200, vips=(f"{VIP}/24", "2001:db8::100/64")) as (lab, one):
        wire = Wire(lab)
        sleep_ms(1200)  # the burst after the claim is over
        changed, mac = now_ns(), "02:56:49:00:aa:01"
        set_link(one.host, address=mac)
        for address in (VIP, "2001:db8::100"):
            wait_for(
                lambda a=address: any(
                    seen.mac == mac for seen in wire.announcements(a, "lb1", changed)
                ),
                PATIENCE_S,
                "not announced",
            )
        after = now_ns()
        sleep_ms(300)
        assert all(seen.mac == mac for seen in wire.announcements(since_ns=after))
        assert one.state() == "MASTER"


def test_source_lost_and_found() -> None:
    with pair() as (lab, one, two):
        wire = Wire(lab)
        begin = now_ns()
        remove_address(one.host, one.host.ipv4, 24)
        one.wait_state("FAULT")
        assert one.instance()["reason"] == "no-source-address"
        assert not one.holds_any()
        two.wait_holds()
        # without an address nothing can be said, least of all from a VIP
        assert all(a.source == one.host.ipv4 for a in wire.adverts("lb1", begin))
        add_address(one.host, one.host.ipv4, 24)
        one.wait_holds()
        two.wait_free()
        add_address(one.host, "192.0.2.2", 24)  # lower
        set_link(one.host, mtu=1400)  # a reason to look at everything anew
        later = now_ns()
        wire.wait_advert("lb1", later + 300 * MS)
        assert {a.source for a in wire.adverts("lb1", later)} == {one.host.ipv4}


def test_tentative_link_local_at_start() -> None:
    """The source of an IPv6 router is not usable for its first second: then it starts."""
    with Lab(["lb1"]) as lab:
        host = lab["lb1"]
        wire = Wire(lab)
        remove_address(host, host.link_local, 64)
        host.sysctl(f"ipv6/conf/{INTERFACE}/dad_transmits", "6")  # 6 s
        daemon = Daemon(host, router(150, ("fe80::100/64", "2001:db8::100/64"), interval_ms=100))
        add_address(host, host.link_local, 64)
        daemon.start()
        daemon.wait_event("transition")
        daemon.wait_state("FAULT")
        assert daemon.instance()["reason"] == "no-source-address"
        assert wire.adverts("lb1") == []
        daemon.wait_state("MASTER")
        daemon.wait_holds()
        assert {advert.source for advert in wire.adverts("lb1")} == {host.link_local}


def test_interface_appears_after_the_start() -> None:
    with Lab(["lb1"]) as lab:
        host = lab["lb1"]
        set_link_gone(host)
        daemon = Daemon(host, router(150, interval_ms=100))
        daemon.start()
        daemon.wait_event("transition")
        daemon.wait_state("FAULT")
        assert daemon.instance()["reason"] == "interface-missing"
        assert INTERFACE in daemon.instance()["detail"]
        lab._connect(host, lab._bridge_of["lb1"])
        daemon.wait_holds()
        assert daemon.state() == "MASTER"


def test_flapping_ends_where_it_should() -> None:
    with pair() as (lab, one, two):
        for number, pause_ms in enumerate((3, 20, 50, 120) * 5):
            set_link(one.host, state="up" if number % 2 else "down")
            sleep_ms(pause_ms)
        for number, pause_ms in enumerate((3, 20, 50, 120) * 3):
            (lab.link_up if number % 2 else lab.link_down)("lb1")
            sleep_ms(pause_ms)
        one.wait_holds()
        two.wait_free()
        one.wait_state("MASTER")
        assert one.status()["engine"]["restarts"] == 0
