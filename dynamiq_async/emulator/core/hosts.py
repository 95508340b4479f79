"""Which names and addresses are this machine, and which are public. No name is resolved."""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import lru_cache

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = ("localhost", "localdomain", "local", "internal", "lan", "home.arpa")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9A-Za-z._~-]+))(?::[0-9]*)?")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=64)
def name_of(host: str) -> str | None:
    """The name or address in a `Host` header, without brackets; None for anything else."""
    match = _HOST.fullmatch(host)
    return (match[1] or match[2]).lower() if match else None


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by name (RFC 6761, 6.3) or address."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def is_public(host: str) -> bool:
    """Whether `host`, a name or an address, may be on the public internet."""
    name = host.lower().removesuffix(".")
    if address := _address(name):
        return address.is_global and not address.is_multicast
    last = name.rpartition(".")[2]
    if "." not in name or _NUMBER.fullmatch(last):
        return False
    return not any(f".{name}".endswith(f".{suffix}") for suffix in _NOT_PUBLIC)


def _address(host: str) -> Address | None:
    """The address in `host`, in any form that resolvers accept. For an IPv4 address within an IPv6
    address it is the IPv4 address, because that is where the packets go."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:  # 127.1, 0x7f.1, 2130706433
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address
