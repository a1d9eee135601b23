"""What the daemon does to the host's addresses, and what it does when others touch the VIPs."""

from __future__ import annotations

import pytest

from tests.daemon.rig import (
    MS,
    PATIENCE_S,
    TAG,
    VIP,
    Daemon,
    Recorder,
    Wire,
    add_address,
    pair,
    prefix_of,
    remove_address,
    router,
    single,
    sleep_ms,
)
from vipd.lab.hosts import INTERFACE, Host, now_ns, wait_for
from vipd.lab.netns import Lab

pytestmark = pytest.mark.netns

FOREIGN_TAG = 18  # keepalived's


def routes(host: Host) -> str:
    return host.run(["ip", "route", "show"]).stdout


def promote_secondaries(host: Host) -> str:
    key = f"net.ipv4.conf.{INTERFACE}.promote_secondaries"
    return host.run(["sysctl", "-n", key]).stdout.strip()


def add_default_route(host: Host) -> None:
    host.run(["ip", "route", "add", "default", "via", "192.0.2.200"])


# --- prefixes ---------------------------------------------------------------------------------


def test_vip_in_the_hosts_subnet_is_32() -> None:
    with Lab(["lb1"]) as lab:
        host = lab["lb1"]
        host.sysctl(f"ipv4/conf/{INTERFACE}/promote_secondaries", "0")
        add_default_route(host)
        before = routes(host)
        vips = (VIP, "192.0.2.101", "2001:db8::100", "2001:db8::101")
        daemon = Daemon(host, router(150, [f"{vip}/{64 if ':' in vip else 24}" for vip in vips]))
        daemon.start()
        daemon.wait_ready()
        daemon.wait_holds()
        assert [prefix_of(host, vip) for vip in vips] == [32, 32, 64, 64]
        assert {entry.tag for entry in host.addresses() if entry.address in vips} == {TAG}
        assert routes(host) == before
        daemon.stop()
        assert daemon.wait() == 0
        assert not daemon.holds_any()
        assert routes(host) == before


def test_vips_alone_in_their_subnet() -> None:
    """They bring the connected route, and the end of the first does not end the others."""
    with Lab(["lb1"]) as lab:
        host = lab["lb1"]
        host.sysctl(f"ipv4/conf/{INTERFACE}/promote_secondaries", "0")
        vips = tuple(f"198.51.100.{number}/24" for number in (100, 101, 102))
        daemon = Daemon(host, router(150, vips, interval_ms=100))
        daemon.start()
        daemon.wait_ready()
        daemon.wait_holds()
        assert prefix_of(host, "198.51.100.100") == 24
        assert "198.51.100.0/24 dev eth0" in routes(host)
        assert promote_secondaries(host) == "1"
        kernel, begin = Recorder(host), now_ns()
        daemon.change(vips=list(vips[1:]))  # the first is the primary of the subnet
        daemon.ask("/reload", "POST")
        wait_for(lambda: not host.holds("198.51.100.100"), PATIENCE_S, "still there")
        sleep_ms(300)
        assert daemon.host.holds("198.51.100.101")
        assert daemon.host.holds("198.51.100.102")
        gone = [e for e in kernel.addresses(since_ns=begin) if not e.added]
        assert {event.address for event in gone} == {"198.51.100.100"}


def test_host_address_that_became_secondary_survives() -> None:
    """Removed and added again while a VIP holds the subnet, it is secondary to the VIP."""
    with Lab(["lb1"]) as lab:
        host = lab["lb1"]
        host.sysctl(f"ipv4/conf/{INTERFACE}/promote_secondaries", "0")
        add_address(host, "198.51.100.11", 24)  # the source stays: not the subject here
        daemon = Daemon(host, router(150, ("198.51.100.100/24", "198.51.100.101/24")))
        remove_address(host, "198.51.100.11", 24)
        daemon.start()
        daemon.wait_ready()
        daemon.wait_holds()
        add_address(host, "198.51.100.11", 24)
        host.run(["ip", "route", "add", "default", "via", "198.51.100.200"])
        sleep_ms(1200)  # a renewal or two
        assert daemon.holds()
        daemon.stop()
        assert daemon.wait() == 0
        assert not daemon.holds_any()
        assert host.holds("198.51.100.11")
        assert "default via 198.51.100.200" in routes(host)


def test_renewed_within_its_lifetime() -> None:
    """The kernel's own count never comes near its end, and every renewal keeps the tag."""
    with single(vips=(f"{VIP}/24", "2001:db8::100/64")) as (_lab, daemon):
        kernel = Recorder(daemon.host)
        sleep_ms(3200)
        for address in (VIP, "2001:db8::100"):
            events = kernel.addresses(address)
            assert len(events) >= 3
            assert all(event.added and event.tag == TAG for event in events)


# --- somebody else's hands --------------------------------------------------------------------


def test_deleted_vip_is_put_back() -> None:
    with pair(vips=(f"{VIP}/24", "192.0.2.101/24", "2001:db8::100/64")) as (lab, one, two):
        wire, kernel = Wire(lab), Recorder(one.host)
        for address, prefix in ((VIP, 32), ("2001:db8::100", 64)):
            sleep_ms(200)
            begin = now_ns()
            remove_address(one.host, address, prefix)
            wait_for(lambda a=address: one.host.holds(a), PATIENCE_S, "not put back")
            events = kernel.addresses(address, begin)
            gone = next(event.t_ns for event in events if not event.added)
            back = next(event.t_ns for event in events if event.added)
            assert back - gone < 50 * MS
            wait_for(
                lambda a=address, at=gone: len(wire.announcements(a, "lb1", at)) > 0, 5, "no GARP"
            )
            # the others were not touched
            assert [e for e in kernel.addresses("192.0.2.101", begin) if not e.added] == []
        assert one.status()["counters"]["web"]["addresses_restored"] == 2
        assert len(one.events("address-restored")) == 2
        assert two.state() == "BACKUP"


def test_vip_that_keeps_vanishing_is_given_up() -> None:
    with pair() as (lab, one, two):
        wire, begin = Wire(lab), now_ns()

        def gives_up() -> bool:
            one.host.run(["ip", "addr", "del", f"{VIP}/32", "dev", INTERFACE], check=False)
            return any(advert.priority == 0 for advert in wire.adverts("lb1", begin))

        wait_for(gives_up, PATIENCE_S, "never given up")
        faults: list[dict[str, object]] = []

        def told() -> bool:
            faults[:] = [event for event in one.events("transition") if event["to"] == "FAULT"]
            return bool(faults)

        wait_for(told, PATIENCE_S, "no fault")
        fault = faults[0]
        assert fault["reason"] == "vip-keeps-vanishing"
        assert VIP in str(fault["detail"])
        two.wait_holds()
        assert not one.holds_any()
        # the trouble is over: back after the back-off
        one.wait_holds()
        two.wait_free()


def test_untagged_vip_at_start_is_removed() -> None:
    with Lab(["lb1", "lb2"]) as lab:
        two = Daemon(lab["lb2"], router(200))
        two.start()
        two.wait_ready()
        two.wait_holds()
        add_address(lab["lb1"], VIP, 24)
        one = Daemon(lab["lb1"], router(100))
        one.start()
        one.wait_ready()
        one.wait_free()
        assert one.wait_event("foreign-address-removed")["level"] == "warning"
        assert one.state() == "BACKUP"
        # put back by somebody: that is a fight, and the operator is told with whom
        add_address(lab["lb1"], VIP, 24)
        one.wait_state("FAULT")
        assert one.instance()["reason"] == "vip-owned-by-another-program"
        assert VIP in one.instance()["detail"]
        remove_address(lab["lb1"], VIP, 24)
        one.wait_state("BACKUP")
        assert two.holds()


def test_vip_of_another_daemon_is_left_alone() -> None:
    with Lab(["lb1"]) as lab:
        add_address(lab["lb1"], VIP, 32, proto=FOREIGN_TAG)
        one = Daemon(lab["lb1"], router(100, interval_ms=100))
        wire = Wire(lab)
        one.start()
        one.wait_event("transition")
        one.wait_state("FAULT")
        assert f"address protocol {FOREIGN_TAG}" in one.instance()["detail"]
        sleep_ms(700)
        assert one.host.holds(VIP)
        assert wire.adverts("lb1") == []
        remove_address(lab["lb1"], VIP, 32)
        one.wait_state("MASTER")
        one.wait_holds()


def test_owner_leaves_the_hosts_address_alone() -> None:
    """Priority 255: master at once; the address is never renewed, given a lifetime or removed."""
    with Lab(["lb1"]) as lab:
        host = lab["lb1"]
        add_address(host, VIP, 24)
        kernel, wire = Recorder(host), Wire(lab)
        owner = Daemon(host, router(255))
        owner.start()
        owner.wait_ready()
        started = owner.wait_event("engine-started")
        assert started
        first = owner.wait_state("MASTER")
        advert = wire.wait_advert("lb1", 0)
        assert advert.priority == 255
        assert advert.t_ns < first
        wait_for(lambda: len(wire.announcements(VIP)) > 0, PATIENCE_S, "not announced")
        sleep_ms(1500)
        owner.stop()
        assert owner.wait() == 0
        wire.wait_advert("lb1", 0, priority=0)
        assert kernel.addresses() == []
        (entry,) = [entry for entry in host.addresses() if entry.address == VIP]
        assert entry.lifetime_s == 0xFFFFFFFF
