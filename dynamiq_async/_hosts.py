"""How near a host is, judged by its name or address alone. No name is resolved."""

from __future__ import annotations

import enum
import ipaddress
import socket

_LOOPBACK_NAMES = frozenset(
    {"localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
)
_PRIVATE_SUFFIXES = (".internal", ".local", ".lan", ".home.arpa", ".localdomain")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(enum.IntEnum):
    """How near a host is. The greater one is the nearer one."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2


def reach_of(host: str) -> Reach:
    """How near `host` may be, by its name (RFC 6761, 6.3) or its address in any form that resolvers
    take."""
    name = host.lower().removesuffix(".")
    last = name.removesuffix(".localdomain").rpartition(".")[2]
    if last in _LOOPBACK_NAMES:
        return Reach.LOOPBACK
    address = _address(name)
    if address is None:
        inside = "." not in name or name.endswith(_PRIVATE_SUFFIXES) or last.isdecimal()
        return Reach.PRIVATE if inside else Reach.PUBLIC
    if address.is_loopback or address.is_unspecified:  # 0.0.0.0 leads here as well
        return Reach.LOOPBACK
    public = address.is_global and not address.is_multicast
    return Reach.PUBLIC if public else Reach.PRIVATE


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine. The unspecified address does not: it leads here on some
    systems only."""
    address = _address(host.lower().removesuffix("."))
    unspecified = address is not None and address.is_unspecified
    return reach_of(host) is Reach.LOOPBACK and not unspecified


def is_private(host: str) -> bool:
    """Whether `host` is this machine, or an address that is not public."""
    is_address = _address(host.lower().removesuffix(".")) is not None
    reach = reach_of(host)
    return reach is Reach.LOOPBACK or (is_address and reach is Reach.PRIVATE)


def _address(name: str) -> Address | None:
    """The address that `name` stands for. An IPv6 address that embeds an IPv4 address counts as the
    latter, since that is where the packets go."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))  # 127.1, 0x7f.1, 2130706433
        except (OSError, ValueError):
            return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or 1 < int(address) < 2**32:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
