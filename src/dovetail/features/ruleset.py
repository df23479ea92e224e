"""The firewall's static text: one table, and sets and maps that networks and endpoints fill.

The text never changes while dovetail runs. A network or an endpoint adds elements (`isolation`,
`masquerade`, `portmap`), so neither adding one nor a packet's way gets slower with their number. What
each set and rule is for stands in its comment, which ``nft list table inet dovetail`` shows too.
nftables 1.0 and Linux 5.10 (comments of tables, intervals in concatenations) take it.

The only other part is chain ``user``, which holds what the user wrote (`user_rules`). The table's own comment is
a digest of the text and one of the user's part, so that a dovetail that finds the table of another version or of
other rules knows it, and replaces it in one transaction together with all elements.
"""

from __future__ import annotations

import hashlib

__all__ = ["RULESET", "ruleset"]

_TEXT = """\
add table inet dovetail
delete table inet dovetail
table inet dovetail {
    comment "@MARK@"

    set bridges { type ifname; comment "bridges of networks, and links of endpoints without one (dvh…)"; }
    set same_bridge { type ifname . ifname; comment "each with itself, to tell what stays within"; }
    set same_network4 { type ipv4_addr . ipv4_addr; flags interval; comment "of networks without one, each subnet with each"; }
    set same_network6 { type ipv6_addr . ipv6_addr; flags interval; comment "the same for IPv6"; }
    set enclosed { type ifname; comment "those that dovetail made: nothing is behind them but endpoints"; }
    set isolated { type ifname; comment "those whose endpoints may not reach each other"; }
    set apart { type ifname; comment "those that may not reach each other"; }
    set internal { type ifname; comment "those that nothing enters or leaves"; }
    set protected4 { type ifname; comment "those that others enter by published ports of the host only"; }
    set protected6 { type ifname; comment "the same for IPv6"; }
    set routed4 { type ifname; comment "those that others enter without translation"; }
    set routed6 { type ifname; comment "the same for IPv6"; }
    set trusted { type ifname . ifname; comment "links that enter a bridge without translation too"; }
    set opened4 { type ipv4_addr . inet_proto . inet_service; comment "published ports of endpoints there"; }
    set opened6 { type ipv6_addr . inet_proto . inet_service; comment "the same for IPv6"; }

    set subnets4 { type ipv4_addr; flags interval; comment "subnets of networks"; }
    set subnets6 { type ipv6_addr; flags interval; comment "the same for IPv6"; }
    set masquerade4 { type ipv4_addr; flags interval; comment "those that take the host's address outside"; }
    set masquerade6 { type ipv6_addr; flags interval; comment "the same for IPv6"; }
    map source4 { type ipv4_addr : ipv4_addr; flags interval; comment "those that take another address of the host"; }
    map source6 { type ipv6_addr : ipv6_addr; flags interval; comment "the same for IPv6"; }
    set hairpin4 { type ipv4_addr . ipv4_addr; flags interval; comment "each that has ports of the host, with itself"; }
    set hairpin6 { type ipv6_addr . ipv6_addr; flags interval; comment "the same for IPv6"; }

    set leaving4 { type ipv4_addr; comment "addresses that take the host's when they leave their subnet"; }
    set leaving6 { type ipv6_addr; comment "the same for IPv6"; }
    set neighbours4 { type ipv4_addr . ipv4_addr; flags interval; comment "each of them with its subnet"; }
    set neighbours6 { type ipv6_addr . ipv6_addr; flags interval; comment "the same for IPv6"; }
    set reached4 { type ipv4_addr . ipv4_addr; flags interval; comment "addresses with ports of the host, and sources that must see the host answer"; }
    set reached6 { type ipv6_addr . ipv6_addr; flags interval; comment "the same for IPv6"; }

    map publish4 { type inet_proto . inet_service : ipv4_addr . inet_service; comment "of every address of the host"; }
    map publish6 { type inet_proto . inet_service : ipv6_addr . inet_service; comment "the same for IPv6"; }
    map publish4_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; comment "of one address"; }
    map publish6_at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; comment "the same for IPv6"; }

    # route_localnet on the bridges lets 127.0.0.1 lead to published ports. It would also let others
    # reach what listens on 127.0.0.1, or speak with its voice: such packets come by lo only.
    chain guard {
        type filter hook prerouting priority raw; policy accept;
        iifname != "lo" ip daddr 127.0.0.0/8 drop comment "nobody else reaches the host's loopback"
        iifname != "lo" ip saddr 127.0.0.0/8 drop comment "nobody else speaks with its voice"
        iifname "dvh*" fib saddr . iif oif missing drop comment "nor an endpoint with an address that is not behind its link"
    }

    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname != @bridges oifname != @bridges accept comment "not ours"
        jump user comment "the user's own rules come first"
        ct state established,related accept comment "answers"
        iifname . oifname @same_bridge goto within comment "from a bridge to itself"
        iifname "dvh*" ip saddr . ip daddr @same_network4 goto within comment "within a network without one"
        iifname "dvh*" ip6 saddr . ip6 daddr @same_network6 goto within comment "the same for IPv6"
        iifname @apart oifname @apart drop comment "from one that is kept apart to another"
        iifname @internal drop comment "nothing leaves an internal network"
        oifname @internal drop comment "nothing enters one"
        ct status dnat accept comment "published ports of the host"
        iifname . oifname @trusted jump opened comment "from a trusted link, by the endpoint's own address"
        meta nfproto ipv4 oifname @protected4 drop comment "nothing else enters a protected network"
        meta nfproto ipv6 oifname @protected6 drop comment "the same for IPv6"
        meta nfproto ipv4 oifname @routed4 goto routed comment "by the endpoint's own address"
        meta nfproto ipv6 oifname @routed6 goto routed comment "the same for IPv6"
    }

    # Filled from the user's files: see chain forward for where it stands.
    chain user {
@USER@
    }

    # What a bridge carries comes here only where bridge-nf-call-iptables is on.
    chain within {
        ct status dnat accept comment "neighbours reach published ports"
        iifname @isolated drop comment "and nothing else, where they are kept apart"
    }

    chain opened {
        ip daddr . meta l4proto . th dport @opened4 accept comment "a published port"
        ip6 daddr . meta l4proto . th dport @opened6 accept comment "the same for IPv6"
    }

    chain routed {
        meta l4proto { icmp, ipv6-icmp } accept comment "echo requests, and what routing needs"
        jump opened comment "published ports"
        drop comment "nothing else"
    }

    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local goto publish comment "asked from outside or from an endpoint"
    }

    chain output {
        type nat hook output priority -100; policy accept;
        fib daddr type local goto publish comment "asked from the host"
    }

    chain publish {
        meta l4proto != { tcp, udp, sctp } return comment "nothing else has ports"
        ip6 daddr ::1 return comment "the kernel does not route it off the loopback interface"
        ip6 saddr fe80::/10 return comment "nor a link-local address off its link"
        dnat ip to ip daddr . meta l4proto . th dport map @publish4_at comment "a port of this address"
        dnat ip to meta l4proto . th dport map @publish4 comment "a port of every address"
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6_at comment "the same for IPv6"
        dnat ip6 to meta l4proto . th dport map @publish6 comment "the same for IPv6"
    }

    # What a bridge carries, multicast too, comes here where bridge-nf-call-iptables is on.
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip daddr { 224.0.0.0/4, 255.255.255.255 } return comment "multicast and broadcast stay as they are"
        ip6 daddr ff00::/8 return comment "the same for IPv6"
        ct status dnat ip saddr . ip daddr @hairpin4 masquerade comment "the answer must come back by the host"
        ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade comment "the same for IPv6"
        ip saddr 127.0.0.0/8 oifname @bridges masquerade comment "the host asked from its loopback"
        ct status dnat ip daddr . ip saddr @reached4 masquerade comment "the same, of single addresses"
        ct status dnat ip6 daddr . ip6 saddr @reached6 masquerade comment "the same for IPv6"
        ip saddr @leaving4 ip saddr . ip daddr != @neighbours4 masquerade comment "a single address leaves its subnet"
        ip6 saddr @leaving6 ip6 saddr . ip6 daddr != @neighbours6 masquerade comment "the same for IPv6"
        oifname @enclosed return comment "it has not left our networks"
        ip saddr @masquerade4 ip daddr != @subnets4 masquerade comment "it leaves"
        ip6 saddr @masquerade6 ip6 daddr != @subnets6 masquerade comment "the same for IPv6"
        ip daddr != @subnets4 snat ip to ip saddr map @source4 comment "it leaves with an address of its own"
        ip6 daddr != @subnets6 snat ip6 to ip6 saddr map @source6 comment "the same for IPv6"
    }
}
"""


def ruleset(user_rules: str = "") -> str:
    """Give the text with `user_rules`, lines of nftables, as chain ``user``."""
    digests = " ".join(hashlib.sha256(part.encode()).hexdigest()[:16] for part in (_TEXT, user_rules))
    return _TEXT.replace("@MARK@", digests).replace("@USER@", user_rules.rstrip("\n"))


RULESET = ruleset()
