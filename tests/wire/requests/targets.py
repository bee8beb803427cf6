"""Methods, targets and Host: to whom a request speaks."""

from tests.wire.row import GET, HOST, KEYED, POST, Forwarded, Group, Row, lines, refused, row

URI = "RFC 3986 §2: not a character of a URI"
RAW = "our rule: forwarded as it came"
CONTRADICTS = "our rule: Host and target must not contradict (RFC 9112 §3.2.2)"
HOST_RULE = "RFC 9112 §3.2: uri-host and port"


def _method(method: bytes, status: int = 405, rule: str = "RFC 9110 §9.1: not served") -> Row:
    name = f"method {method.decode('latin-1')[:24]}"
    return refused(name, lines(method + b" /pay HTTP/1.1", HOST, KEYED), status, rule)


def _target(target: bytes, rule: str = RAW, sent: bytes = b"", method: bytes = b"GET", host: bytes = HOST) -> Row:
    name = f"target {method.decode()} {target.decode()}"
    return row(name, lines(b"%b %b HTTP/1.1" % (method, target), host), rule, Forwarded(method, sent or target))


def _bad_target(target: bytes, rule: str = URI, name: str = "", method: bytes = b"GET", host: bytes = HOST) -> Row:
    name = f"target {name or target.decode('latin-1')}"
    return refused(name, lines(b"%b %b HTTP/1.1" % (method, target), host, KEYED), 400, rule)


def _host(line: bytes, rule: str = HOST_RULE) -> Row:
    return row(line.decode(), lines(GET, line), rule, Forwarded(b"GET"))


def _bad_host(*hosts: bytes, name: str = "", rule: str = HOST_RULE) -> Row:
    name = name or b", ".join(hosts).decode("latin-1")
    return refused(name, lines(POST, *hosts, KEYED, b"Content-Length: 2", body=b"ok"), 400, rule)


METHODS = Group(
    "Methods",
    [
        *(
            row(
                f"method {method.decode()}",
                lines(b"%b /pay HTTP/1.1" % method, HOST, b"Content-Length: 2", body=b"ok"),
                "RFC 9110 §9",
                Forwarded(method, body=b"ok"),
            )
            for method in (b"PUT", b"PATCH", b"PROPFIND", b"QUERY")
        ),
        refused("CONNECT, as it is", lines(b"CONNECT api.example.com:443 HTTP/1.1", HOST), 405, "our rule: no tunnel"),
        _method(b"CONNECT", rule="our rule: no tunnel"),
        _method(b"TRACE", rule="our rule; RFC 9110 §9.3.8"),
        _method(b"get", rule="RFC 9110 §9.1: case-sensitive"),
        _method(b"Post", rule="RFC 9110 §9.1: case-sensitive"),
        _method(b"BREW"),
        _method(b"M-SEARCH"),
        _method(b"SETUP"),
        _method(b"POST!", rule="RFC 9110 §9.1: a token, another method"),
        _method(b"X" * 9000, 414, "our limit: the request line"),
        _method(b"PO(ST", 400, "RFC 9110 §9.1: a token"),
        _method(b"PO:ST", 400, "RFC 9110 §9.1: a token"),
        _method(b"P\xc3\x96ST", 400, "RFC 9110 §9.1: a token"),
        _method(b"POST\x00", 400, "RFC 9110 §9.1: a token"),
    ],
)

TARGETS = Group(
    "Targets",
    [
        _target(b"/"),
        _target(b"//pay"),
        _target(b"/../pay/./x"),
        _target(b"/%2e%2e/%2Fpay%00%0d%0a"),
        _target(b"/%/%zz", "our leniency: forwarded as it came"),
        _target(b"/pay;a=b?x=1&y=/?z"),
        _target(b"/pay?"),
        _target(b"/pay?a[]=1", "our leniency: widely sent"),
        _target(b"*", "RFC 9112 §3.2.4", method=b"OPTIONS"),
        _target(b"/pay", "RFC 9112 §3.2.1", method=b"OPTIONS"),
        _bad_target(b"*", "RFC 9112 §3.2.4: OPTIONS only"),
        _bad_target(b"*", "RFC 9112 §3.2.4: OPTIONS only", "* of a POST", b"POST"),
        _bad_target(b"/pay#top", "RFC 9112 §3.2: no fragment"),
        *(_bad_target(b"/pay" + character) for character in (b'"', b"<", b">", b"^", b"{", b"|", b"}", b"\\")),
        _bad_target("/caf\xe9".encode(), name="in UTF-8"),
        _bad_target(b"/caf\xe9", name="in Latin-1"),
        _bad_target(b"/pay\x7f", name="with DEL"),
        _bad_target(b"/pay\x01", name="with a control"),
        _bad_target(b"pay", "RFC 9112 §3.2: none of the forms"),
        _bad_target(b"?x=1", "RFC 9112 §3.2: none of the forms"),
        _bad_target(b"api.example.com:80", "RFC 9112 §3.2.3: CONNECT only"),
        _target(b"http://api.example.com/pay?x", "RFC 9112 §3.2.2", b"/pay?x"),
        _target(b"HTTP://API.Example.COM/pay", "RFC 3986 §6.2.2.1: case", b"/pay"),
        _target(b"http://api.example.com:80/pay", "RFC 3986 §6.2.3: the default port", b"/pay"),
        _target(b"https://api.example.com:443/pay", "RFC 3986 §6.2.3: the default port", b"/pay"),
        _target(b"http://api.example.com", "RFC 9112 §3.2.1: an empty path is /", b"/"),
        _target(b"http://api.example.com?x=1", "RFC 9112 §3.2.1: an empty path is /", b"/?x=1"),
        _target(b"http://api.example.com", "RFC 9112 §3.2.4: is *", b"*", b"OPTIONS"),
        _bad_target(b"http://evil.example/pay", CONTRADICTS),
        _bad_target(b"http://api.example.com:8080/pay", CONTRADICTS),
        _bad_target(b"http://api.example.com:443/pay", CONTRADICTS),
        _bad_target(b"http://api.example.com./pay", CONTRADICTS),
        _bad_target(b"http://user@api.example.com/pay", "RFC 9110 §4.2.4: userinfo"),
        _bad_target(b"http://api.example.com@evil.example/pay", "RFC 9110 §4.2.4: userinfo"),
        _bad_target(b"http:///pay", "RFC 9110 §4.2.1: an empty host"),
        _bad_target(b"http:/pay", "RFC 9112 §3.2.2"),
        _bad_target(b"ftp://api.example.com/pay", "our rule: http and https"),
        _bad_target(b"javascript:alert(1)", "our rule: http and https"),
    ],
)

HOSTS = Group(
    "Host",
    [
        _host(b"Host: api.example.com:8080"),
        _host(b"Host: api.example.com:"),
        _host(b"hOST:\tAPI.example.com \t"),
        _host(b"Host: [2001:db8::1]:8080"),
        _host(b"Host: 192.0.2.1"),
        _bad_host(name="no Host", rule="RFC 9112 §3.2"),
        _bad_host(HOST, HOST, rule="RFC 9112 §3.2: more than one"),
        _bad_host(HOST, b"Host: evil.example", rule="RFC 9112 §3.2: more than one"),
        _bad_host(HOST, b"host: evil.example", rule="RFC 9112 §3.2: more than one"),
        _bad_host(b"Host:", rule="our rule: RFC 9110 §4.2.1, a URI of http has a host"),
        _bad_host(b"Host: :80"),
        _bad_host(b"Host: user@api.example.com"),
        _bad_host(b"Host: api.example.com/pay"),
        _bad_host(b"Host: api.example.com?x"),
        _bad_host(b"Host: api.example.com#x"),
        _bad_host(b"Host: http://api.example.com"),
        _bad_host(b"Host: api.example.com, evil.example"),
        _bad_host(b"Host: api.example.com evil.example"),
        _bad_host(b"Host: api.example.com\tx"),
        _bad_host(b"Host: api.example.com:http"),
        _bad_host(b"Host: api.example.com:-1"),
        _bad_host(b"Host: api.example.com:123456"),
        _bad_host(b"Host: api.example.com:80:80"),
        _bad_host(b"Host: [::1"),
        _bad_host(b"Host: [api.example.com]"),
        _bad_host(b"Host: caf\xe9.example"),
        _bad_host(b"Host: api.example.com\x00"),
        _bad_host(b"Host : api.example.com", rule="RFC 9112 §5.1"),
        _bad_host(b"Host: api\r\n .example.com", name="a folded Host", rule="RFC 9112 §5.2"),
    ],
)
