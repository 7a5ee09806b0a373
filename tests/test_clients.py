"""Whose address a request counts for: the client's, behind trusted proxies too, and no forged one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.test import RequestFactory
from environs import Env
from environs.exceptions import EnvValidationError
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from importops import conf
from importops.clients import attempted_name, client_address, login_attempt
from tests.confs import with_conf


def address_of(peer: str, forwarded: str | None = None) -> str | None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer))


def test_nobody_is_trusted_unless_told_so() -> None:
    assert address_of("127.0.0.1", "203.0.113.9") == "127.0.0.1"
    assert address_of("", "203.0.113.9") is None


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        # What the client wrote itself stands in front of what the proxy added.
        ("127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "nonsense, 203.0.113.9", "203.0.113.9"),
        # A chain of trusted proxies is followed to its beginning.
        ("127.0.0.1", "203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9, 10.1.2.3, 10.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "nonsense, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        # A stranger's header is not looked at.
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
        # As proxies write them.
        ("127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("127.0.0.1", "[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::"),
        ("127.0.0.1", "2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("127.0.0.1", "fe80::1%eth0", "fe80::"),
        ("::ffff:127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", None, "2001:db8::"),
    ],
)
def test_the_header_is_read_from_its_end(
    settings: Settings, peer: str, forwarded: str | None, client: str
) -> None:
    with_conf(settings, trusted_proxies=("127.0.0.1", "10.0.0.0/8"))
    assert address_of(peer, forwarded) == client


def test_a_unix_socket_can_be_trusted(settings: Settings) -> None:
    with_conf(settings, trusted_proxies=("unix",))
    assert address_of("", "198.51.100.1, 203.0.113.9") == "203.0.113.9"
    assert address_of("", None) is None
    assert address_of("127.0.0.1", "203.0.113.9") == "127.0.0.1"


@given(st.text(max_size=60).map(lambda text: text.replace("\n", "").replace("\r", "")))
def test_no_header_forges_an_address_behind_a_trusted_proxy(forged: str) -> None:
    """Whatever a client sends, the proxy appends the address that it saw."""
    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.1")
    request.META["HTTP_X_FORWARDED_FOR"] = f"{forged}, 203.0.113.9"
    with pytest.MonkeyPatch.context() as patch:
        patched = replace(conf.conf(), trusted_proxies=("10.0.0.0/8",))
        patch.setattr("importops.clients.conf", lambda: patched)
        assert client_address(request) == "203.0.113.9"


def test_nonsense_among_the_proxies_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("IMPORTOPS_TRUSTED_PROXIES", "10.0.0.0/8,unix,proxy.example.com")
    env = Env(eager=False)
    conf.read(env, data_dir=settings.IMPORTOPS.data_dir)
    with pytest.raises(EnvValidationError, match="proxy.example.com"):
        env.seal()


def test_proxies_and_switches_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("IMPORTOPS_TRUSTED_PROXIES", "10.0.0.0/8,unix")
    monkeypatch.setenv("IMPORTOPS_RATE_LIMIT", "false")
    env = Env(eager=False)
    read = conf.read(env, data_dir=settings.IMPORTOPS.data_dir)
    env.seal()
    assert (read.trusted_proxies, read.rate_limit) == (("10.0.0.0/8", "unix"), False)


@pytest.mark.parametrize("written", ["Straße", "STRASSE", "ｓｔｒａｓｓｅ"])
def test_a_name_is_the_same_however_it_is_written(written: str) -> None:
    request = RequestFactory().post("/", {"username": written})
    assert attempted_name(request, {"username": written}) == "strasse"
    assert attempted_name(request) == "strasse"


@pytest.mark.parametrize("name", [None, "", "a\x00b", "\ud800", "ﷺ" * 255])
def test_any_name_fits_the_table(name: str | None) -> None:
    key = attempted_name(RequestFactory().post("/"), {"username": name})
    assert len(key) <= 255
    assert "\x00" not in key
    key.encode()


def test_the_throttle_is_not_shown_what_was_sent() -> None:
    request = RequestFactory().post(
        "/x?password=secret", {"password": "secret"}, headers={"User-Agent": "a\x00" * 300}
    )
    attempt = login_attempt(request)
    assert "secret" not in str([attempt.GET, attempt.POST, attempt.META])
    assert len(attempt.META["HTTP_USER_AGENT"]) == 255
    assert "\x00" not in attempt.META["HTTP_USER_AGENT"]
