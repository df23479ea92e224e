"""The firewall's static text: one table, and sets and maps that networks and endpoints fill.

The text never changes while dovetail runs. A network or an endpoint adds elements (`isolation`,
`masquerade`, `portmap`), so neither adding one nor a packet's way gets slower with their number.
nftables 1.0.6 and Linux 5.6 (intervals in concatenations) take it.
"""

from __future__ import annotations

__all__ = ["RULESET"]

RULESET = """\
add table inet dovetail
delete table inet dovetail
table inet dovetail {
    # The bridges of all networks, and each with itself, to tell traffic within one.
    set bridges { type ifname; }
    set same_bridge { type ifname . ifname; }
    # Bridges whose endpoints may not reach each other; that nothing enters or leaves;
    # that others enter by published ports only.
    set isolated { type ifname; }
    set internal { type ifname; }
    set protected { type ifname; }

    # Subnets of all networks, those that take the host's address outside, and each with itself.
    set subnets4 { type ipv4_addr; flags interval; }
    set subnets6 { type ipv6_addr; flags interval; }
    set masquerade4 { type ipv4_addr; flags interval; }
    set masquerade6 { type ipv6_addr; flags interval; }
    set hairpin4 { type ipv4_addr . ipv4_addr; flags interval; }
    set hairpin6 { type ipv6_addr . ipv6_addr; flags interval; }

    # Published ports: on every address of the host, and on one.
    map publish4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map publish6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
    map publish4_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
    map publish6_at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }

    # route_localnet on the bridges lets 127.0.0.1 lead to published ports. It would also let others
    # reach what listens on 127.0.0.1, or speak with its voice: such packets come by lo only.
    chain guard {
        type filter hook prerouting priority raw; policy accept;
        iifname != "lo" ip daddr 127.0.0.0/8 drop
        iifname != "lo" ip saddr 127.0.0.0/8 drop
    }

    chain forward {
        type filter hook forward priority filter; policy accept;
        iifname != @bridges oifname != @bridges accept
        ct state established,related accept
        iifname . oifname @same_bridge goto within
        iifname @internal drop
        oifname @internal drop
        ct status dnat accept
        oifname @protected drop
    }

    chain within {
        ct status dnat accept
        iifname @isolated drop
    }

    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local goto publish
    }

    chain output {
        type nat hook output priority -100; policy accept;
        fib daddr type local goto publish
    }

    # The kernel does not route ::1 off the loopback interface, whatever is asked of it.
    chain publish {
        meta l4proto != { tcp, udp, sctp } return
        ip6 daddr ::1 return
        dnat ip to ip daddr . meta l4proto . th dport map @publish4_at
        dnat ip to meta l4proto . th dport map @publish4
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6_at
        dnat ip6 to meta l4proto . th dport map @publish6
    }

    # Multicast within a bridge comes here too where bridge-nf-call-iptables is on.
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip daddr { 224.0.0.0/4, 255.255.255.255 } return
        ip6 daddr ff00::/8 return
        ip saddr @masquerade4 ip daddr != @subnets4 masquerade
        ip6 saddr @masquerade6 ip6 daddr != @subnets6 masquerade
        ct status dnat ip saddr . ip daddr @hairpin4 masquerade
        ct status dnat ip6 saddr . ip6 daddr @hairpin6 masquerade
        ip saddr 127.0.0.0/8 oifname @bridges masquerade
    }
}
"""
