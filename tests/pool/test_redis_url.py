"""URLs of Redis: what they mean, what is refused, and that passwords never show."""

import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.pool.redis_url import TLSOptions, parse_redis_url, safe_url
from tests.untimed import untimed


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://localhost/", "redis://localhost:6379/0"),
        ("redis://:@localhost:7000/2", "redis://localhost:7000/2"),
        ("redis://:s3cret@10.0.0.1:7000", "redis://:***@10.0.0.1:7000/0"),
        ("redis://al%40ce:s3cret@[::1]", "redis://al%40ce:***@[::1]:6379/0"),
        ("redis://nopass:@localhost", "redis://nopass:***@localhost:6379/0"),
        ("rediss://u:s3cret@cache.example:6380/1?ssl_check_hostname=false", "rediss://u:***@cache.example:6380/1"),
        ("unix:///run/my%20redis.sock", "unix:///run/my%20redis.sock?db=0"),
        ("unix://u:s3cret@/run/redis.sock?db=3", "unix://u:***@/run/redis.sock?db=3"),
        ("redis+sentinel://a/dreams", "redis+sentinel://a:26379/dreams/0"),
        (
            "rediss+sentinel://:s3cret@a,b:7,[::1]:8/my%2Fdreams/4?sentinel_username=u&sentinel_password=s3cret",
            "rediss+sentinel://:***@a:26379,b:7,[::1]:8/my%2Fdreams/4",
        ),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert safe_url(url) == shown
    assert str(parse_redis_url(url)) == shown
    assert "s3cret" not in repr(parse_redis_url(url))


def test_sentinels_have_credentials_of_their_own() -> None:
    url = parse_redis_url("redis+sentinel://u:p@a:1,b/dreams/4?sentinel_username=su&sentinel_password=s%26p%2B+")
    assert (url.hosts, url.master, url.db) == ((("a", 1), ("b", 26379)), "dreams", 4)
    assert (url.username, url.password) == ("u", "p")
    assert (url.sentinel_username, url.sentinel_password) == ("su", "s&p++")


def test_tls_verifies_unless_told_otherwise(tmp_path: Path) -> None:
    authority = tmp_path / "my authority.pem"
    authority.touch()
    assert parse_redis_url("redis://h").tls is None
    assert parse_redis_url("rediss://h").tls == TLSOptions(ssl_cert_reqs="required", ssl_check_hostname=True)
    loose = parse_redis_url(f"rediss://h?ssl_ca_certs={quote(str(authority))}&ssl_cert_reqs=none")
    assert loose.tls == TLSOptions(ssl_ca_certs=str(authority), ssl_cert_reqs="none")


@untimed
@given(st.text(min_size=1), st.text())
def test_any_user_name_and_password_can_be_written(username: str, password: str) -> None:
    login = f"{quote(username, safe='')}:{quote(password, safe='')}"
    url = parse_redis_url(f"redis://{login}@localhost")
    assert (url.username, url.password) == (username, password)
    assert parse_redis_url(str(url)).username == username


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "not the URL of a Redis"),
        ("localhost:6379", "not the URL of a Redis"),
        ("http://localhost", "begins with redis://, rediss://, unix://"),
        ("redis://local host", "not the URL of a Redis"),
        ("redis://:s3cr@et@localhost", "percent-encoded"),
        ("redis://:12/s3cret@localhost", "percent-encoded"),
        ("redis://:12?s3cret@localhost", "percent-encoded"),
        ("redis+sentinel://u:12/s3cret@localhost", "percent-encoded"),
        ("redis://:s3cret#@localhost", "percent-encoded"),
        ("redis://:s3cret%ff@localhost", "not UTF-8"),
        ("redis://s3cret@localhost", "user name and no password"),
        ("redis://", "no host"),
        ("redis:///1", "no host"),
        ("redis://u:s3cret@:6379", "no host"),
        ("redis://localhost:s3cret", "a port that is no number"),
        ("redis://localhost:0", "not in 1 to 65535"),
        ("redis://localhost:65536", "not in 1 to 65535"),
        ("redis://a,b:s3cret", "a port that is no number"),
        ("redis://localhost/s3cret", "database is no number"),
        ("redis://localhost/1/2", "database is no number"),
        ("redis://localhost?db=1", "there are none"),
        ("rediss://localhost?s3cret=1", "there may be ssl_ca_certs"),
        ("rediss://localhost?ssl_check_hostname", "there may be ssl_ca_certs"),
        ("rediss://localhost?ssl_check_hostname=true&ssl_check_hostname=false", "given twice"),
        ("rediss://localhost?ssl_check_hostname=s3cret", "ssl_check_hostname is not one of true, false"),
        ("rediss://localhost?ssl_cert_reqs=s3cret", "ssl_cert_reqs is not one of required, none"),
        ("rediss://localhost?ssl_ca_certs=/s3cret", "ssl_ca_certs is no file"),
        ("unix://localhost/run/redis.sock", "an absolute path"),
        ("unix://", "an absolute path"),
        ("unix:///run/redis.sock?db=s3cret", "database is no number"),
        ("redis+sentinel://:s3cret@a,b", "no name of a master"),
        ("redis+sentinel://:s3cret@a,/dreams", "no host"),
        ("redis+sentinel://a/dreams?ssl_check_hostname=false", "there may be sentinel_password"),
    ],
)
def test_a_wrong_url_is_refused_with_a_reason_that_repeats_nothing_of_it(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refusal:
        parse_redis_url(url)
    reason = "".join(traceback.format_exception_only(refusal.value))
    assert "s3cr" not in reason
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    assert safe_url(url) == "<a Redis URL that cannot be read>"
