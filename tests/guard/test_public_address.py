"""Which addresses a server may connect to for a stranger: those on the public internet, and no other."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.guard.public_address import is_public
from tests.untimed import untimed


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "172.15.255.255", "172.32.0.0", "2606:4700:4700::1111", "2a00:1450::1"]
)
def test_addresses_on_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:93.184.215.14",
        "::ffff:0:93.184.215.14",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a9fe:a9fe",
        "100::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700:4700::1111%eth0",
        "fec0::1",
        "ff02::1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "127.1",
        "",
    ],
)
def test_all_others_are_not(address: str) -> None:
    assert not is_public(address)


@given(address=st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
@settings(untimed, max_examples=1000)
def test_nothing_is_public_that_python_knows_better_of(address: IPv4Address | IPv6Address) -> None:
    if is_public(str(address)):
        assert ip_address(str(address)).is_global
        assert not address.is_multicast
        assert not address.is_reserved
        embedded = (address.ipv4_mapped, address.sixtofour, address.teredo) if address.version == 6 else ()
        assert not any(embedded)
