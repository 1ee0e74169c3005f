"""The broker's address: read strictly, and shown without its password whatever it is."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fl_core.broker.connection import connect
from fl_core.broker.doorbell.app import make_app
from fl_core.broker.url import check_url, public_url
from fl_core.errors import SpecError
from fl_core.program.redaction import redact

SECRETS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).map(lambda text: f"PASS{text}WORD")


@given(SECRETS, st.sampled_from(["me", "", "a%20b"]), st.sampled_from(["redis", "rediss"]))
def test_a_password_is_never_shown(secret: str, user: str, scheme: str) -> None:
    """In the user part or in the query, written as a URL needs it, no password survives ``public_url``."""
    written = quote(secret, safe="")
    for url in (
        f"{scheme}://{user}:{written}@host:6379/0",
        f"{scheme}://host:6379/0?password={written}",
        f"{scheme}://{user}@host/0?ssl_password={written}#{written}",
        f"unix:///var/run/redis.sock?password={written}",
    ):
        shown = public_url(url)
        assert "PASS" not in shown
        assert "WORD" not in shown
        assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("rediss://me:secret@host:6380/2?ssl_ca_certs=/ca.pem", "rediss://me@host:6380/2"),
        ("redis://:secret@host/0", "redis://host/0"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
    ],
)
def test_everything_but_the_secret_is_shown(url: str, shown: str) -> None:
    """Scheme, user, host, port and path stay, so that people recognise their broker."""
    assert public_url(url) == shown


@pytest.mark.parametrize(
    "url", ["", "host:6379", "http://host:6379", "amqp://host", "redis://host:port", "redis://host:99999"]
)
def test_what_is_no_redis_url_is_refused_with_the_form(url: str) -> None:
    """A wrong scheme or port is told at start, with an example of what to write."""
    with pytest.raises(SpecError, match=r"^broker = .* is not a .*URL.*; write redis://HOST:PORT/0"):
        check_url(url)


@pytest.mark.parametrize("url", ["http://me:s3cret@host/0", "redis://me:s3cret@host:port/0", "redis://me:s3/cret@host"])
def test_a_refused_url_does_not_show_its_password(url: str) -> None:
    """The sentence about a mistyped URL goes to logs and screens: the password is not in it."""
    with pytest.raises(SpecError) as caught:
        check_url(url)
    assert "s3" not in str(caught.value)
    assert "cret" not in str(caught.value)


def test_showing_a_url_never_fails() -> None:
    """``public_url`` is used in messages about wrong URLs: it must not raise on one."""
    assert "s3" not in public_url("redis://me:s3/cret@host:6379")
    assert public_url("redis://host:port/0")


RAW = """p@ss/w:rd#100%25?[x]&ü+ "'"""


@pytest.mark.parametrize(
    "secret", [RAW, "abc#def", "a/b", "a?b", "a@b", "a b", "a:b", "100%", "a%zz", "[x", "é", "<>", "a\nb"]
)
@pytest.mark.parametrize(
    "form", ["redis://:{}@127.0.0.1:6379/0", "rediss://me:{}@hub", "redis://:{}@[::1]:6379/3?db=1"]
)
def test_a_pasted_password_is_to_be_encoded(secret: str, form: str) -> None:
    """One sentence that says so and shows no part of the address; encoded, both clients read the password itself."""
    with pytest.raises(SpecError) as caught:
        check_url(form.format(secret))
    said = str(caught.value)
    assert said.startswith("broker: a user or a password in it holds a character")
    assert "percent-encode" in said
    assert not any(part in said for part in ("p@ss", "rd#1", "abc", "hub", "127"))
    url = form.format(quote(secret, safe=""))
    assert check_url(url) == url
    assert connect(url).connection_pool.connection_kwargs["password"] == secret
    with make_app(url).connection_for_write() as connection:
        assert connection.password == secret


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:6379/secret", "since its database is no number"),
        ("redis://:s3cret@", "since it names no host"),
        ("redis://host/0?secret=1", "an option behind its ? is not known"),
        ("rediss://host/0?ssl_cert_reqs=secret", "write one of required, optional, none"),
        ("redis:/:s3cret@host", "is not a Redis URL"),
        ("//:s3cret@host", "is not a Redis URL"),
        ("s3cret@host:6379", "is not a Redis URL"),
        ("redis://:s3cret@host:1x/0", "is not a URL"),
    ],
)
def test_what_one_of_the_clients_would_not_understand_is_refused(url: str, said: str) -> None:
    """Before either of them sees it, in one sentence without a secret."""
    with pytest.raises(SpecError, match=r"write ") as caught:
        check_url(url)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_options_are_for_both_clients() -> None:
    """kombu gets those that it knows; a password behind the ? is a password there too."""
    url = "redis://host:6380/0?password=p%40ss&username=me&db=4&socket_timeout=5"
    with make_app(url).connection_for_write() as connection:
        assert (connection.userid, connection.password, connection.virtual_host) == ("me", "p@ss", "4")
    with pytest.raises(SpecError, match="write rediss://"):
        connect("redis://host:6379/0?ssl_cert_reqs=required")


@example("PASSPASSWORD=WORD")
@given(SECRETS)
def test_a_known_password_is_found_wherever_it_stands(secret: str) -> None:
    """In a URL by its form; alone, as in an answer that repeats a command, since the address was read before."""
    check_url(f"redis://me:{quote(secret, safe='')}@host:6379/0")
    for text in (
        f"ERR unknown command 'AUTH', with args beginning with: '{secret}'",
        f"ValueError: {quote(secret, safe='')}",
    ):
        assert "PASS" not in redact(text).replace("PASSWORD", "")
    assert "PASS" not in redact(f"cannot reach s3://key:{quote(secret, safe='')}@bucket/x.")
    assert redact("redis://me@host:6379/0 and mail@example.org") == "redis://me@host:6379/0 and mail@example.org"
    assert redact("write redis://USER:PASSWORD@HOST:PORT/0") == "write redis://USER:PASSWORD@HOST:PORT/0"
