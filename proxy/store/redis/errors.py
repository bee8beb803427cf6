"""The server's error replies, in words that carry no key and no secret: its own words may (`unknown command` lists the
arguments)."""

from hiredis import ReplyError

_WORDS = {
    "ERR ACL failure in script": "the user may not run a command of our scripts",
    "ERR AUTH": "a password is given, and the server asks for none",
    "ERR DB index": "there is no database of this number",
    "ERR This instance has cluster support disabled": "the server is no part of a cluster",
    "ERR max number of clients": "the server has too many clients",
    "ERR WAITAOF cannot be used": "the server keeps no append-only file",
    "ERR unknown command": "the server does not know a command that is needed",
    "ASK": "the key is moving to another node of the cluster",
    "BUSY": "the server is held up by a script",
    "CLUSTERDOWN": "the cluster is down",
    "DENIED": "the server is in protected mode",
    "LOADING": "the server is still loading its data",
    "MASTERDOWN": "the server is a replica that has lost its primary",
    "MISCONF": "the server cannot save its data to disk and takes no writes",
    "MOVED": "the server is part of a cluster",
    "NOAUTH": "a password is needed",
    "NOPERM": "the user may not run a command, or not on our keys",
    "NOREPLICAS": "the server has too few replicas to take writes",
    "OOM": "the server is out of memory (maxmemory)",
    "READONLY": "the server is a replica",
    "TRYAGAIN": "the key is moving to another node of the cluster",
    "WRONGPASS": "wrong user or password",
    "WRONGTYPE": "something that is no record lies under the key",
}
_REFUSALS = ("DENIED:", "ERR:", "NOAUTH:", "NOPERM:", "WRONGPASS:")
_TURNED_AWAY = ("ASK ", "CLUSTERDOWN", "LOADING", "MOVED ", "TRYAGAIN")
_DEMOTED = ("READONLY", "MASTERDOWN", "NOAUTH")


def explain(error: ReplyError) -> str:
    """The error's code and what it means; for errors that we do not know, the code alone."""
    text = str(error)
    code = text.partition(" ")[0]
    code = code if code.isascii() and code.isalpha() and code.isupper() else "ERR"
    for start, words in _WORDS.items():
        if text.startswith(start):
            return f"{code}: {words}"
    return f"{code}: an error that we have no words for"


def is_refusal(why: str) -> bool:
    """Whether an explained error says that the server is there and does not let us in; waiting will not help."""
    return why.startswith(_REFUSALS)


def turns_away(error: ReplyError) -> bool:
    """Whether the command was not carried out, and will be by another node, or by this one in a moment."""
    return str(error).startswith(_TURNED_AWAY)


def is_demotion(error: ReplyError) -> bool:
    """Whether a new connection may lead to a better server (a failover behind one name) or be let in again."""
    return str(error).startswith(_DEMOTED)
