"""What the words of ``status`` mean, in sentences: the one table behind ``vipd explain``.

Every reason, discard reason, remark and note has an entry; a test demands it, here and in
docs/operating.md, whose tables say the same to a reader who has no daemon at hand.
"""

from __future__ import annotations

from typing import NamedTuple

from vipd.members import ChannelDiscard
from vipd.model import DiscardReason, NoteKind, Reason, Remark


class Text(NamedTuple):
    """What it means; what to do about it, empty where there is nothing to do."""

    meaning: str
    cure: str = ""


REASONS: dict[Reason, Text] = {
    Reason.STARTUP: Text("The daemon or this instance started; it listens before it acts."),
    Reason.ADDRESS_OWNER: Text("The priority is 255: this host owns the addresses, and leads."),
    Reason.MASTER_SILENT: Text(
        "No master was heard for three advert intervals and the skew time.",
        "If the other host lives, look for what stops its adverts: vipd watch on both hosts.",
    ),
    Reason.MASTER_LEFT: Text("The last master said goodbye (priority 0)."),
    Reason.LOWER_PRIORITY_MASTER: Text("The master had a lower priority than this host."),
    Reason.HIGHER_PRIORITY_HEARD: Text("A master with a higher priority was heard."),
    Reason.TIE_LOST: Text(
        "A master with the same priority and a higher address was heard.",
        "Give the hosts different priorities, so that the better one is your choice.",
    ),
    Reason.MASTER_HEARD: Text("Another master was heard just before this host took over."),
    Reason.LEASE_LOST: Text("The lease was refused or lost."),
    Reason.OVERTAKEN_WHILE_STALLED: Text(
        "This process was not scheduled for so long that another host took over meanwhile.",
        "Look for CPU or disk starvation, a paused virtual machine or a snapshot at that time.",
    ),
    Reason.MAINTENANCE: Text(
        "This node is in maintenance: it gives every mastership away and takes none.",
        "`vipd maintenance off` ends it; see `vipd status` for whether it ends by itself.",
    ),
    Reason.SWITCHOVER: Text(
        "This node gave its mastership away by `vipd switchover`, and leaves it to the other, "
        "whatever `preempt` says.",
        "`vipd switchover NAME --auto` lets priority decide again.",
    ),
    Reason.STOPPED: Text("The daemon was asked to stop."),
    Reason.REMOVED: Text("A reload took this instance away, or made it another virtual router."),
    Reason.RECOVERED: Text("The last fault is gone; it listens before it acts."),
    Reason.INTERFACE_MISSING: Text(
        "An interface of the instance does not exist.",
        "Create it, or correct `interface`; the instance goes on by itself when it appears.",
    ),
    Reason.INTERFACE_DOWN: Text(
        "An interface of the instance is down or has no carrier.",
        "Check the cable, the switch port and `ip link`; it goes on by itself when it is up.",
    ),
    Reason.NO_SOURCE_ADDRESS: Text(
        "The interface has no address that adverts can be sent from.",
        "Give it an address that is no VIP (IPv6: a link-local one), or correct `source`.",
    ),
    Reason.OWNED_ADDRESS_MISSING: Text(
        "The priority is 255, but the host does not have the address that it should own.",
        "Add the address to the host, or choose a priority from 1 to 254.",
    ),
    Reason.FOREIGN_ADDRESS: Text(
        "A VIP is on this host, and it is not vipd that put it there.",
        "Stop the program that adds it (keepalived, networkd, a script), then remove the address.",
    ),
    Reason.ADDRESS_VANISHES: Text(
        "A VIP vanished again and again after it was added: somebody removes it.",
        "Find who: `ip monitor address`; often networkd, NetworkManager or a DHCP client. "
        "vipd tries again after 1 s, then after twice as long each time, at most 60 s.",
    ),
    Reason.CLAIM_REFUSED: Text(
        "The kernel refused to add a VIP.",
        "The errno is in the detail. vipd tries again after 1 s, then after twice as long each "
        "time, at most 60 s.",
    ),
    Reason.SEND_REFUSED: Text(
        "The kernel refused three adverts in a row.",
        "Look for firewall rules on output and for missing routes; the errno is in the detail.",
    ),
    Reason.CANNOT_LISTEN: Text(
        "The kernel refused the socket that hears the adverts of the others; a master that hears "
        "nobody would never yield.",
        "The errno is in the detail; often too many multicast groups or sockets "
        "(net.ipv4.igmp_max_memberships, net.core.optmem_max). vipd tries again by itself.",
    ),
    Reason.HANDED_OVER: Text(
        "The last master gave its mastership to this node by name, or its supervisor did after "
        "its engine had died."
    ),
    Reason.PREEMPTED: Text("A better node asked for the mastership, and this node gave it."),
    Reason.HANDOVER_FAILED: Text(
        "This node gave its mastership away, nobody took it, so it is master again.",
        "`vipd status` says why each other node did not: lost, in fault, in maintenance, or not "
        "reached on the channel.",
    ),
    Reason.ADVERTS_LOST: Text(
        "Another node hears more of the network of the VIPs than this one, and got the mastership.",
        "Look at this host's interface, its switch port and VLAN: `vipd watch` on both hosts.",
    ),
    Reason.CHECK_PENDING: Text(
        "A check has not given its first verdict yet, and this node must not be master before.",
        "It ends by itself with the first run. `vipd status` shows the check and its timeout; "
        "`initial: healthy` would not wait.",
    ),
    Reason.CHECK_FAILED: Text(
        "A check without a weight has failed: what it looks after is not working on this host.",
        "Mend the service; `vipd status` shows what the check says. It goes on by itself after "
        "`rise` good runs.",
    ),
    Reason.TRACKED_INTERFACE_DOWN: Text(
        "An interface that is tracked without a weight is down or has no carrier.",
        "Check the cable, the switch port and `ip link`; it goes on by itself when it is up.",
    ),
}

DISCARDS: dict[DiscardReason, Text] = {
    DiscardReason.IP_HEADER: Text("the IP header is damaged"),
    DiscardReason.PROTOCOL: Text("the protocol is not 112"),
    DiscardReason.FRAGMENT: Text("a fragment; adverts are never fragmented"),
    DiscardReason.TTL: Text(
        "the TTL or hop limit is not 255, so it came through a router",
        "Nobody outside this segment may send adverts here; look for who does.",
    ),
    DiscardReason.DESTINATION: Text(
        "it was not for us, or in unicast mode its sender is no configured peer",
        "Compare `unicast_peers` of all hosts; one side may still use multicast.",
    ),
    DiscardReason.BAD_SOURCE: Text("no host may send from its source address"),
    DiscardReason.OWN_SOURCE: Text(
        "its source is an address of this host",
        "A loop in the network, or another host with our address.",
    ),
    DiscardReason.VERSION: Text(
        "another VRRP version", "Set the same `version` on all routers of the VRID."
    ),
    DiscardReason.TYPE: Text("not an advertisement"),
    DiscardReason.LENGTH: Text(
        "too short, or bytes follow the last address",
        "28 bytes too many are keepalived's auth_hmac: switch it off there.",
    ),
    DiscardReason.ADDR_COUNT_ZERO: Text("it lists no address"),
    DiscardReason.CHECKSUM: Text(
        "the checksum is wrong, or of the form that `checksum` excludes",
        "`vipd watch` shows the form of each sender; checksum: auto takes both.",
    ),
    DiscardReason.VRID: Text("no instance has this VRID; other virtual routers are normal"),
    DiscardReason.INTERVAL_ZERO: Text("its advert interval is 0"),
    DiscardReason.FIRST_ADDRESS: Text(
        "the first IPv6 address is not link-local, and `strict` is on"
    ),
    DiscardReason.AUTH_TYPE: Text(
        "with a password where none is configured, or without one",
        "Set the same `auth` on all routers of the VRID.",
    ),
    DiscardReason.AUTH_FAILURE: Text(
        "the wrong password", "Set the same secret on all routers of the VRID."
    ),
    DiscardReason.ADDRESS_LIST: Text(
        "version 2, and its addresses are not the configured ones",
        "Advertise the same VIPs on all routers of the VRID; two masters are possible until then.",
    ),
    DiscardReason.INTERVAL: Text(
        "version 2, and its advert interval is not the configured one",
        "Set the same `advert_interval` on all routers of the VRID; two masters are possible "
        "until then.",
    ),
}
"""Each completes "N adverts were discarded: ..."."""

CHANNEL_DISCARDS: dict[ChannelDiscard, Text] = {
    ChannelDiscard.LENGTH: Text("too short or too long for a message"),
    ChannelDiscard.NOT_VIPD: Text(
        "not of vipd", "Another program sends to `cluster.port`; look who, with tcpdump."
    ),
    ChannelDiscard.WRONG_KEY: Text(
        "signed with a key that this host does not have, or altered on the way",
        "Compare the key file of all hosts (`sha256sum`); after a change `vipd reload` on each.",
    ),
    ChannelDiscard.WRONG_CLUSTER: Text(
        "of another cluster with the same key",
        "Set the same `cluster.name` on all nodes; give each cluster a key of its own.",
    ),
    ChannelDiscard.VERSION: Text(
        "of a wire version that this release does not speak",
        "Releases speak two versions: upgrade the older host.",
    ),
    ChannelDiscard.HEADER: Text("with a header that makes no sense"),
    ChannelDiscard.SEQUENCE: Text("with a sequence number that its kind cannot have"),
    ChannelDiscard.OWN: Text(
        "in this node's own name",
        "A loop in the network, or another host with the name of this one.",
    ),
    ChannelDiscard.UNKNOWN_SENDER: Text(
        "of a node that `cluster` does not list", "Set the same `cluster.nodes` on all nodes."
    ),
    ChannelDiscard.FOREIGN_ADDRESS: Text(
        "from an address that is not listed for its sender",
        "Compare `cluster.nodes` with the addresses of that host; address translation between "
        "nodes is not supported.",
    ),
    ChannelDiscard.DUPLICATE_NODE: Text(
        "of a second host with the same node name",
        "Stop the copy of the machine, or give it a name of its own (`node:`).",
    ),
    ChannelDiscard.OLD_INCARNATION: Text(
        "of an earlier life of its sender",
        "A few after a restart are normal; if it goes on, its counter in state_dir was set back, "
        "or somebody plays recordings.",
    ),
    ChannelDiscard.REPLAY: Text(
        "a repetition, or older than a thousand others",
        "If it goes on, the network repeats datagrams, or somebody does.",
    ),
    ChannelDiscard.COPY: Text("known already, by another path: normal"),
    ChannelDiscard.BODY: Text("with a content that makes no sense"),
}
"""Each completes "N messages were discarded: ..."."""

STALE_MESSAGES = Text(
    "about a mastership or a moment that is over: normal around a handover, and without effect"
)
"""Counted beside the discards, under ``stale``."""

REMARKS: dict[Remark, Text] = {
    Remark.INTERVAL_DIFFERS: Text(
        "another advert interval than ours",
        "Harmless in version 3 (a backup follows the master's), but hardly meant.",
    ),
    Remark.ADDRESS_LIST_DIFFERS: Text(
        "other addresses than ours",
        "Set the same advertised VIPs on all routers, or another VRID if it is another router.",
    ),
    Remark.SOURCE_OFF_SUBNET: Text(
        "a source outside the interface's subnets",
        "Check the sender's address; two networks may share this segment.",
    ),
    Remark.SOURCE_IS_VIP: Text("a VIP as its source; only the address owner should do that"),
    Remark.SOURCE_NOT_LINK_LOCAL: Text("an IPv6 source that is not link-local"),
    Remark.FIRST_ADDRESS_NOT_LINK_LOCAL: Text("a first IPv6 address that is not link-local"),
    Remark.CHECKSUM_FORM_PLAIN: Text(
        "a checksum without pseudo header (RFC 9568); this host answers in the same form"
    ),
    Remark.SECOND_OWNER: Text(
        "priority 255 like ours: two hosts say that they own the addresses",
        "Leave 255 to the host that has the addresses, or to none.",
    ),
}
"""Each completes "N accepted adverts had ..."."""

NOTES: dict[NoteKind, str] = {
    NoteKind.TRANSITION: "{from} -> {to}: {reason} {detail}",
    NoteKind.ADVERT_DISCARDED: "discarded an advert from {source}: {reason}",
    NoteKind.ADVERT_REMARKED: "odd advert from {source}: {remark}",
    NoteKind.DUPLICATE_ADDRESS: "another host has our source address {source}",
    NoteKind.CLAIMED: "the kernel has all {vips} VIPs",
    NoteKind.RELEASED: "the kernel has none of the {vips} VIPs any more",
    NoteKind.RELEASE_REFUSED: "the kernel refused to remove {vip}: errno {errno} {error}",
    NoteKind.CLAIM_REFUSED: "the VIPs could not be held: {detail}{vip} {error}",
    NoteKind.ADDRESS_RESTORED: "somebody removed {vips}; put back",
    NoteKind.FOREIGN_ADDRESS_REMOVED: "removed {vip}, which vipd had not added",
    NoteKind.FOREIGN_ADDRESS_KEPT: "left alone, it belongs to another program: {vip}",
    NoteKind.STRAY_ADDRESS_REMOVED: "removed leftovers of an earlier run: {addresses}",
    NoteKind.RIVAL_ANNOUNCED: "{mac} said that it has our {address}; announced again",
    NoteKind.SEND_FAILED: "the kernel refused an advert: errno {errno} {error}",
    NoteKind.SOURCE_CHANGED: "adverts now come from {new}, before from {old}",
    NoteKind.LOOP_STALLED: "the process was late by {late_ms} ms",
    NoteKind.CONFIGURED: "configuration {generation} taken over",
    NoteKind.ROLE: "is {state} now, and the kernel agrees: {reason} {detail}",
    NoteKind.PRIORITY_CHANGED: "priority {was} -> {priority}: {because}",
    NoteKind.HEALTH_STALE: "no report of any check for {silent_ms} ms; the last verdicts count on",
    NoteKind.HEALTH_FRESH: "reports of the checks come again, after {silent_ms} ms",
    NoteKind.MEMBER_ALIVE: "{node} is heard on the channel: {software}",
    NoteKind.MEMBER_LOST: "{node} is lost: not heard for {silent_ms} ms",
    NoteKind.MEMBER_LEFT: "{node} has left: {because}",
    NoteKind.MESSAGE_DISCARDED: (
        "discarded a message of the channel from {source} {sender} ({reason}) {detail}"
    ),
    NoteKind.CHANNEL_DEAF: (
        "the channel cannot use {address}, UDP port {port}: errno {errno} {error}; tried again"
    ),
    NoteKind.CHANNEL_OPEN: "the channel uses {address}, UDP port {port}, now",
    NoteKind.HANDOVER: "handover of term {term}: {step} {node} {detail}",
    NoteKind.PIN: "put on {node} by an operator, version {version}: {because}",
}
"""What the core said, for history and events; the names in braces are the note's fields, missing
ones are left out."""

HANDOVERS: dict[str, str] = {
    "offered": "term {term} ends here: the VIPs are gone, {node} is to take over",
    "taken": "{node} has taken over from term {term}",
    "refused": "handover of term {term} with {node}: refused, {detail}",
    "declined": "handover of term {term} by {node}: not taken here, {detail}",
    "failed": "nobody took over from term {term}: {detail}",
}
"""Steps of a handover; another step is told as ``NoteKind.HANDOVER`` says."""

PIN_ENDED = "no node is preferred by an operator any more, version {version}: {because}"
"""A pin that names nobody."""

EVENTS: dict[str, str] = {
    "check": "check {subject}: {was} -> {verdict}: {detail}",
    "hook": "hook {occasion} of {subject} {result}: {detail}",
    "command": "{text} (by {by})",
    "hold-ended": "it may take over from a live master again: {cause}",
    "maintenance-ended": "maintenance has ended: {cause}",
    "alarm": "alarm {name} {change}: {detail}",
    "engine": "engine {text}: {cause}",
    "configuration": "configuration {generation}: {text}",
    "daemon": "vipd {text}",
    "journal": "journal: {text}",
}
"""The other entries of the journal, by their kind; beside its fields: ``subject``, ``cause``."""
