"""Every setting: its type, its default, its unit and why. One frozen model; the docstrings are also the comments of
`example.toml`.

Durations are in seconds and sizes in bytes here; people write them as `24h` and `1MiB` (`units.py`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeGuard, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo

from config.templates import PathPattern, PathPrefix, PathTemplate, ResponsePath
from config.units import DAY, KIB, MIB, MINUTE, Duration, DurationOrNone, Size, written_seconds, written_size
from config.urls import (
    Address,
    JwksLocation,
    ListenAddress,
    ServerName,
    StoreUrl,
    TcpAddress,
    UpstreamHost,
    UpstreamUrl,
)
from config.values import (
    Algorithm,
    Code,
    Count,
    CountOrNone,
    DroppedField,
    Durability,
    File,
    HashSecret,
    KeyChars,
    List,
    MarkerField,
    Method,
    Mode,
    Network,
    NonEmptyList,
    ReleaseStatus,
    RingFile,
    RingKeys,
    ScopeHeaders,
    ScopeParts,
    Text,
    Token,
    UnknownKeyStatus,
    from_json,
)

RequestLine = Annotated[Size, Field(ge=256, le=32 * KIB)]  # a record gives the URL 64 KiB: its line and its host
Head = Annotated[Size, Field(ge=256, le=MIB)]
ResponseHead = Annotated[Size, Field(ge=256, le=64 * KIB)]  # a record gives a field's name 64 KiB
KeyLength = Annotated[Count, Field(le=1024)]
Name = Annotated[Text, Field(min_length=1)]
_WRITTEN: Mapping[str, Callable[[Any], object]] = {
    "retention": written_seconds,
    "body": written_size,
    "record": written_size,
}
OnReuse = Literal["conflict", "replay"]
OnConcurrent = Literal["conflict", "wait"]
OnMismatch = Literal["conflict", "reject"]


class Section(BaseModel):
    """Frozen, and without unknown names: a setting with a typing error would silently not be set."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, serialize_by_alias=True)


class Upstream(Section):
    """The API that is fronted."""

    url: UpstreamUrl
    """The API, as http://HOST:PORT or https://HOST:PORT, without a path: paths are forwarded as they come; or
    unix:PATH: plain HTTP by a unix socket, with localhost as its name. Required."""
    timeout: Duration = MINUTE
    """How long a guarded exchange may take, from its first byte to the last of the response; after that its outcome is
    unknown. For what passes through: until the response's head, and between two pieces of its body, so that downloads
    and event streams are not cut. Longer than the slowest payment takes."""
    connect_timeout: Duration = 5.0
    """How long a connection may take to come about, TLS included. Nothing was sent by then: the key is free again."""
    max_connections: Count = 100
    """Connections to the API, per worker: so many requests it gets at a time."""
    max_waiting: CountOrNone = 1000
    """Requests that may wait for a connection, per worker; one more is answered 503 at once. Bounds the memory."""
    pool_timeout: Duration = 5.0
    """How long a request may wait for a connection before it is answered 503."""
    idle_timeout: Duration = 4.0
    """How long a connection may stay unused. Must be shorter than the API's own limit (nginx 75s, Node 5s; with
    gunicorn, 2s, set 1s): a request that meets a connection in its closing has an unknown outcome."""
    host: UpstreamHost = "upstream"
    """The Host field that the API sees: "upstream" (the one of its URL), "preserve" (the client's) or a name."""
    ca: File = ""
    """For https: a PEM file with the authorities that vouch for the API, in the place of the system's. Certificate and
    name are always verified. This file and the two that follow are read again on SIGHUP."""
    certificate: File = ""
    """For https: the certificate by which the API knows the proxy, in PEM, its chain behind it."""
    key: File = ""
    """Its private key, in PEM, without a passphrase."""
    server_name: ServerName = ""
    """For https: the name that the API's certificate must be for, and that it is asked for (SNI). Empty: the host of
    the URL."""


class Store(Section):
    """Where the records lie."""

    url: StoreUrl = "sqlite:idempotency.db"
    """sqlite:relative.db or sqlite:///absolute/path (one machine), redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] or
    rediss:// (TLS, with ?ssl_ca_certs=FILE for a CA of your own) for several, or memory:// (trials: it forgets at a
    restart). A password is better off in the environment: IDEMPOTENCY_PROXY_STORE__URL."""
    deadline: Duration = 1.0
    """How long the store may take for one answer; a claim without one is answered 503, and nothing is forwarded."""
    durability: Durability = "memory"
    """What a claim must have reached before its request is forwarded, and a response before it counts as recorded:
    "memory" (the server; it is as durable as that is set up), "replicas:N" (N of its replicas as well; fewer, and the
    claim is answered 503) or "fsync" (its disk; takes appendfsync always). Redis and Valkey only: SQLite always syncs
    to the disk."""
    prefix: Text = "idempotency:"
    """What the names of our records begin with, where the store is shared with others (Redis)."""
    hash_secret: HashSecret = SecretStr("")
    """Keys and credentials are kept as hashes only; with a secret (at most 64 bytes), who reads the store cannot try
    out guesses either. All proxies on one store need the same one: with another secret every key is a new key."""
    allow_eviction: bool = False
    """Use a Redis whose maxmemory-policy may evict. A key that was evicted can be paid twice."""
    on_forgotten: Literal["unready", "refuse"] = "unready"
    """What to do when the store turns out to have lost its records (a FLUSHALL, a restart without its data): be
    "unready", so that who asks /readyz sends no traffic any more, or "refuse" new keys as well, with 503, until the
    proxy is restarted. Where nobody asks /readyz (a sidecar), refuse."""


class Spool(Section):
    """Where responses wait on the disk for a store that does not take them. There is none with a memory:// store."""

    path: Annotated[File, Field(min_length=1)] = "idempotency-spool.db"
    """A SQLite file, made where it is not there, on a local disk that outlives the process. Workers share it; so may
    other proxies on the machine."""
    max_size: Size = 64 * MIB
    """How much may wait; beyond it new keys are refused with 503 until the store is back. What is under way by then
    still has its place: leave room on the disk."""


class Idempotency(Section):
    """What a key is, and what it does."""

    header: Token = "Idempotency-Key"
    """The field that carries the key."""
    key_min: KeyLength = 16
    """Characters of the shortest key: shorter ones are guessed, or met twice by accident."""
    key_max: KeyLength = 36
    """Characters of the longest key: a UUID has 36."""
    key_chars: KeyChars = "A-Za-z0-9-"
    """The characters of a key, as the inside of a regular expression's character class. Comma, double quote, slash and
    control characters cannot be among them."""
    retention: Duration = DAY
    """How long a key is taken, counted from its first use. Longer than any client goes on retrying, and than the lease:
    store.deadline + upstream.pool_timeout + upstream.connect_timeout + upstream.timeout + lease_margin."""
    lease_margin: DurationOrNone = 5.0
    """What is added to the deadlines of an exchange before its key reads as unknown: for slow timers, not for slow
    servers."""
    methods: NonEmptyList[Method] = ("POST",)
    """The methods that are guarded. With any other the key is no business of ours and passes through."""
    release_statuses: List[ReleaseStatus] = (401, 429)
    """Statuses with which the API turns a request away before it treats it: they free the key, so that a client whose
    token had expired can come back with the same one. Add 403 only if the API never gives it after the fact."""
    on_reuse: OnReuse = "conflict"
    """What a POST gets whose key has a response: "conflict" (409; the response is at responses.paths) or "replay" (the
    recorded response, for who may see it by responses.authorize; to all others the 409)."""
    replay_header: MarkerField = "Idempotent-Replayed"
    """The field, with the value true, by which a replayed response is known."""
    on_concurrent: OnConcurrent = "conflict"
    """What a POST gets whose key is in progress: "conflict" (409 at once) or "wait" (as on_reuse says, once the first
    has its response)."""
    wait_max: Duration = 30.0
    """How long such a POST waits before it is answered 409 all the same. Shorter than the patience of clients."""
    on_mismatch: OnMismatch = "conflict"
    """What a POST gets that is another request (method, target or body) than the key's first: "conflict" (409; never
    a replay) or "reject" (422, also while the first is in progress)."""
    dialect: Literal["mangopay", "problem", "stripe"] = "mangopay"
    """How refusals are written: "mangopay" (its five fields), "problem" (RFC 9457, with the titles of the IETF draft on
    Idempotency-Key) or "stripe" (its error object, and Stripe-Should-Retry for its SDKs): see docs/semantics.md."""


class Rule(Section):
    """What holds for some requests in particular: the first rule that matches counts, and what it does not set is as
    for all others. Rules are a list: those of a later place (a preset, a file, the environment) stand for all that were
    before. In the environment: IDEMPOTENCY_PROXY_RULES, in JSON. `check --explain METHOD PATH` says which one applies.
    """

    path: PathPattern
    """The paths it is for, as a template: {name} takes one segment, ** at the end any rest. Compared without regard to
    case, with dots resolved, repeated slashes collapsed, %XX decoded and ;parameters dropped. Required."""
    methods: List[Method] = ()
    """The methods it is for; none: those of idempotency.methods."""
    protect: bool = True
    """Whether such a request is guarded. Where it is not, its key passes through to the API untouched."""
    require_key: bool = False
    """Whether a request without a key is answered 400, and not forwarded."""
    retention: Duration | None = None
    """In the place of idempotency.retention."""
    on_reuse: OnReuse | None = None
    """In the place of idempotency.on_reuse."""
    on_concurrent: OnConcurrent | None = None
    """In the place of idempotency.on_concurrent."""
    on_mismatch: OnMismatch | None = None
    """In the place of idempotency.on_mismatch."""
    release_statuses: List[ReleaseStatus] | None = None
    """In the place of idempotency.release_statuses."""
    body: Size | None = None
    """In the place of limits.body."""
    record: Size | None = None
    """In the place of record.max_body."""

    def __str__(self) -> str:
        """As it is written, on one line: what is set, and nothing else."""
        said = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        shown = {name: _WRITTEN[name](value) if name in _WRITTEN else value for name, value in said.items()}
        return ", ".join(f"{name} = {json.dumps(value)}" for name, value in shown.items())


Rules = Annotated[tuple[Rule, ...], BeforeValidator(from_json)]


class Scope(Section):
    """Whose keys are one key. Keys of different scopes never meet: two clients may use the same one. Must be the same
    for all retries of a request: a client whose scope changes between two tries pays twice."""

    of: ScopeParts = Field(default=(), alias="from")
    """What makes a scope: "none" (one for all), or one or several of "path" (the captures of scope.path), "header" (the
    values of scope.header), "jwt" (the claim scope.claim of a verified token) and "credential" (API keys that do not
    change: with a token that is renewed a client's retry is a new payment)."""
    path: PathPrefix = ""
    """The beginning of paths, as a template: /{_}/{client}/. {_} matches and does not count, so that one client's
    /V3.0/ and /v2.01/ are one scope. Captures are compared as the paths of rules are."""
    header: ScopeHeaders = ()
    """The field whose value is the scope, or a list of several. Only where a proxy in front sets them, or together with
    "jwt" or "credential": who can write them chooses their scope."""
    claim: Name = "sub"
    """The claim of a token (see [jwt]) that says whose it is, and stays when the token is renewed."""


class Jwt(Section):
    """How bearer tokens (RFC 7519, RFC 6750) are verified, for scope.from = "jwt" and responses.authorize = "jwt"."""

    keys: JwksLocation = ""
    """The issuer's public keys, as a JWKS (RFC 7517): the path of a file, or an https:// URL. The file is read again on
    SIGHUP."""
    ca: File = ""
    """For an https:// URL: a PEM file with the authorities that vouch for it, in the place of the system's."""
    issuer: Text = ""
    """What the claim iss must be; empty: anything."""
    audience: Text = ""
    """What the claim aud must be, or have among others; empty: anything."""
    algorithms: NonEmptyList[Algorithm] = ("RS256", "ES256")
    """The signatures that are accepted; none with a shared secret."""
    leeway: DurationOrNone = 30.0
    """How far the issuer's clock may be off."""
    refresh: Duration = 5 * MINUTE
    """How often the keys are fetched anew; before that only for a key that is not known yet."""
    max_stale: Duration = DAY
    """How long keys are used that cannot be fetched anew."""


class Responses(Section):
    """How a client gets a response that it lost."""

    paths: NonEmptyList[ResponsePath] = ("/responses/{key}",)
    """Where the record of a key is shown, as templates: {key} takes one segment, so does {any_other_name}. GET and HEAD
    there never reach the API."""
    authorize: Literal["credential", "jwt", "probe", "none"] = "credential"
    """Who is shown a record: "credential" (who presents the credential that made the request; to all others the key is
    not known), "jwt" (who presents a verified token with the same scope.claim), "probe" (whom the API lets see
    responses.probe) or "none" (whoever knows the key)."""
    probe: PathTemplate = ""
    """What the API is asked, by a GET with the caller's own headers, before a record is shown: 2xx grants, a 4xx is
    passed on, anything else is a 503. A path as /v2.01/{client}/clients, with captures of scope.path; the cheapest
    that only the client itself may see."""
    probe_timeout: Duration = 5.0
    """How long such a question may take."""
    credential_headers: NonEmptyList[Token] = ("Authorization", "X-Api-Key")
    """The fields that carry credentials; the first that has a value counts."""
    unknown_key_status: UnknownKeyStatus = 404
    """The status for a key without a record."""
    unknown_key_type: Code = "idempotency_key_not_found"
    """The Type of that answer; in the other dialects its code."""
    wait_max: DurationOrNone = 30.0
    """The longest that a client may ask us to wait for a key in progress (Prefer: wait=N, RFC 7240)."""
    view_limit: Size = 4 * MIB
    """How large a compressed body may become when it is shown; over it, the view has the compressed bytes."""


class Recording(Section):
    """What is kept of a response."""

    max_body: Size = MIB
    """The largest body that is recorded; a larger one is given to the client whole, and the record says Truncated."""
    drop_headers: List[DroppedField] = ()
    """Fields of a response that are not recorded: a replay is without them. None: a replay is exact."""
    compression: Literal["none", "zstd"] = "none"
    """How responses are kept: as they are ("none") or compressed ("zstd", with a dictionary that is learnt from the
    API's own responses): a third of the memory for some microseconds of CPU. What was compressed is read in any case.
    """
    encryption_keys: RingKeys = ()
    """With keys, URLs and responses are encrypted in the store (AES-256-GCM): the first key encrypts, all of them
    decrypt. Each is ID:KEY, with an ID from 1 to 255 and 32 random bytes in base64 or hexadecimal. They are better off
    in the environment, in JSON: IDEMPOTENCY_PROXY_RECORD__ENCRYPTION_KEYS. How to exchange them: docs/records.md."""
    encryption_keys_file: RingFile = ""
    """The same in a file, in the place of encryption_keys: a key a line, lines with # in front are comments. It is read
    again on SIGHUP."""
    require_encryption: bool = False
    """What lies in the store and is not encrypted is not shown: without that, who can write to the store writes a
    response in clear. The last step of beginning to encrypt, when all that was kept in clear has expired."""


class Limits(Section):
    """What one client may ask for. Each limit is per connection unless it says otherwise."""

    request_line: RequestLine = 8 * KIB
    """The request line; a longer one is answered 414."""
    head: Head = 32 * KIB
    """The request's head, request line included; a larger one is answered 431."""
    fields: Count = 100
    """Fields in a request's head; more are answered 431."""
    body: Size = 10 * MIB
    """The body of a guarded request, which is read whole before the key is claimed; a larger one is answered 413. What
    passes through has no limit: it is not kept."""
    bodies: Size = 256 * MIB
    """All guarded bodies that are held at a time, per worker: each until its exchange is over. What would go beyond is
    answered 503. Bounds the memory."""
    head_timeout: Duration = 10.0
    """How long a request's head may take, else 408."""
    body_idle_timeout: Duration = 30.0
    """How long a request's body may pause, else 408."""
    body_timeout: Duration = 2 * MINUTE
    """How long a guarded request's body may take in all, else 408: a byte now and then would hold on for days."""
    write_timeout: Duration = MINUTE
    """How long a client may read nothing of its response before its connection is closed. The record stays."""
    keepalive_timeout: Duration = 75.0
    """How long a client's connection may stay unused. Longer than that of a load balancer in front (AWS: 60s), or it
    sends into a connection in its closing."""
    drain_timeout: Duration = 80.0
    """How long a stop waits for requests under way. The orchestrator's patience must be longer (Kubernetes: 30s by
    default, terminationGracePeriodSeconds)."""
    connections: Count = 10_000
    """Client connections, per worker; one more is answered 503 and closed."""
    tunnels: CountOrNone = 1000
    """WebSockets at a time, per worker; one more is answered 503. They do not count as upstream.max_connections. With 0
    there are none: the request is forwarded without its Upgrade."""
    tunnel_idle_timeout: Duration = 60 * MINUTE
    """How long a WebSocket may be silent in both directions before it is closed."""
    response_head: ResponseHead = 64 * KIB
    """The head of the API's response; a larger one is unusable, and the outcome of a guarded request unknown."""
    waiters: CountOrNone = 1000
    """Requests that wait for a key in progress, per worker; one more is answered at once."""
    trailers: Size = 8 * KIB
    """Trailers of a chunked body; they are read and dropped."""
    chunk_extensions: Size = KIB
    """Extensions of one chunk; they are read and dropped."""


class Tls(Section):
    """TLS towards the clients. Its files are read again on SIGHUP; established connections are not disturbed."""

    certificate: File = ""
    """The certificate that clients are shown, in PEM, its chain behind it. With it, the port speaks https only."""
    key: File = ""
    """Its private key, in PEM, without a passphrase."""
    client_ca: File = ""
    """A PEM file with the authorities whose certificates clients may show."""
    client_certificates: Literal["none", "optional", "required"] = "none"
    """Whether clients are asked for a certificate. One that no authority in client_ca vouches for is refused, also
    where none is required. It is the credential of a request that has none of responses.credential_headers."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that clients may speak."""


class Forwarded(Section):
    """What the API is told of the way a request came."""

    trusted: List[Network] = ()
    """Networks (CIDR) of proxies in front: the X-Forwarded-For, -Proto and -Host that they send are kept and appended
    to. From anyone else they are replaced: who could write them could lie about the client."""
    via: Token = "idempotency-proxy"
    """Our name in Via (RFC 9110 §7.6.3)."""


class Log(Section):
    """What is told to people."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    requests: bool = False
    """One line a request; it costs about a twentieth of the CPU. Unknown outcomes and store failures are logged in any
    case."""
    format: Literal["json", "console"] = "json"
    """"json" (one object a line, for collectors) or "console" (for eyes)."""


class Settings(Section):
    """All of them. That each is right is seen to here; that they go together, in `conflicts.py`."""

    preset: Literal["none", "mangopay", "stripe", "ietf"] = "none"
    """What stands in the place of the defaults: the settings with which the API of "mangopay", that of "stripe" or the
    "ietf" draft on Idempotency-Key is met. What is set here, in the environment or by flags goes over it."""
    listen: ListenAddress = Address("127.0.0.1", 8080)
    """Where clients connect: HOST:PORT or [IPv6]:PORT; port 0 is any free port. Loopback, until someone opens it. Or a
    unix socket: unix:PATH."""
    listen_mode: Mode = 0o660
    """Who may connect to a unix socket: the permissions of its file, in octal."""
    ops_listen: TcpAddress = Address("127.0.0.1", 9090)
    """Where /healthz, /readyz and /metrics are. Not for clients: keep it off the public network."""
    workers: Count = 1
    """Processes that share the port; one uses one core."""

    upstream: Upstream
    store: Store = Store()
    spool: Spool = Spool()
    idempotency: Idempotency = Idempotency()
    rules: Rules = ()
    scope: Scope = Scope()
    jwt: Jwt = Jwt()
    responses: Responses = Responses()
    record: Recording = Recording()
    limits: Limits = Limits()
    tls: Tls = Tls()
    forwarded: Forwarded = Forwarded()
    log: Log = Log()

    @property
    def lease(self) -> float:
        """Seconds from before the claim to the moment at which a key that is still in progress reads as unknown: the
        longest that an exchange can take, every wait of it counted."""
        return (
            self.store.deadline
            + self.upstream.pool_timeout
            + self.upstream.connect_timeout
            + self.upstream.timeout
            + self.idempotency.lease_margin
        )


def every_setting(section: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted name and field of each setting, in their order; those of a rule are `rules.path` and so on."""
    for name, field in section.model_fields.items():
        own = next((it for it in (field.annotation, *get_args(field.annotation)) if _is_section(it)), None)
        if own is None:
            yield f"{prefix}{field.alias or name}", field
        else:
            yield from every_setting(own, f"{name}.")


def _is_section(annotation: object) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)
