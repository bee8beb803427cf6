"""What the server says when it says no, and what of it may be repeated."""

import pytest
from hiredis import ReplyError

from proxy.store.redis.errors import explain, is_demotion, is_refusal


@pytest.mark.parametrize(
    ("text", "explained"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM: the server is out of memory (maxmemory)"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS: wrong user or password"),
        ("ERR AUTH <password> called without any", "ERR: a password is given, and the server asks for none"),
        ("NEWS from key:123", "NEWS: an error that we have no words for"),
        ("", "ERR: an error that we have no words for"),
        ("\xffEYE", "ERR: an error that we have no words for"),
        ("ERR unknown command 'SET', with args beginning with: 'key:123'", "ERR: the server does not know a command"),
    ],
)
def test_an_error_is_explained_without_what_was_sent(text: str, explained: str) -> None:
    assert explain(ReplyError(text)).startswith(explained)
    assert "key:123" not in explain(ReplyError(text))


def test_who_is_not_let_in_need_not_wait_and_who_meets_a_replica_looks_elsewhere() -> None:
    assert is_refusal(explain(ReplyError("NOPERM this user has no permissions")))
    assert not is_refusal(explain(ReplyError("LOADING dataset")))
    assert is_demotion(ReplyError("READONLY You can't write against a read only replica."))
    assert not is_demotion(ReplyError("OOM"))
