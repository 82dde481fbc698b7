"""What settings are made of."""

from __future__ import annotations

import ipaddress

import pytest

from newswire.serving.option_types import networks, with_mapped


@pytest.mark.parametrize(
    ("text", "client", "inside"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:11.1.2.3", False),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.2", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("none", "::ffff:127.0.0.1", False),
    ],
)
def test_an_ipv4_network_is_one_on_a_socket_of_both_families(text: str, client: str, inside: bool) -> None:
    """There its clients have mapped addresses."""
    found = with_mapped(networks().read(text))
    assert any(ipaddress.ip_address(client) in ipaddress.ip_network(each) for each in found) is inside


def test_all_is_all() -> None:
    """Whatever stands beside it: uvicorn knows the star alone."""
    assert with_mapped(networks().read("10.0.0.1, *")) == ["*"]
