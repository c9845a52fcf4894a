"""Which addresses are on the public internet, by IANA's registries of special-purpose addresses.

The lists stand here in full because ``ipaddress`` answers differently from one version of Python to the next, and
counts multicast, 6to4 and NAT64 as global. https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

SPECIAL_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by the customers of a carrier
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local; clouds tell their secrets at 169.254.169.254
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; Oracle's cloud tells its secrets at 192.0.0.192
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT relays
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)

GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
"""All that IANA gives out. Loopback, IPv4-mapped, NAT64, link-local, unique local and multicast are outside."""

SPECIAL_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, with Teredo: an IPv4 address in disguise
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: str) -> bool:
    """Whether an address, as a resolver gives it, is one of a machine on the public internet.

    One with an IPv4 address inside is not, whichever that is: what it leads to is for a gateway to say.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    match parsed:
        case IPv4Address():
            return not any(parsed in network for network in SPECIAL_V4)
        case IPv6Address(scope_id=None):
            return parsed in GLOBAL_UNICAST_V6 and not any(parsed in network for network in SPECIAL_V6)
    return False
