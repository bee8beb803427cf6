"""A reverse proxy that lets a POST with an Idempotency-Key reach the backend once, and never loses its response.

bytes ─▶ http1.server ─▶ gateway ─▶ core.policy      what is this request?     pass · guard · retrieve · refuse
                            │
                            ├─▶ identity             whose is it?              scope, proof
                            ├─▶ store.claim          may it go?                granted · found · unavailable
                            │     found ─▶ repeat    another has the key       refuse · wait · replay
                            ├─▶ http1.client         send it                   responded · not sent · lost
                            ├─▶ core.settlement      what does that mean?      complete · release · lose
                            ├─▶ settling             write it down
bytes ◀─ http1.server ◀─────┘

core/           the rules, pure: key, scope, lifecycle, policy, path, treatment, reuse, fingerprint, settlement, record,
                refusal, dialect, answer, view
http1/          the wire: message, body, server, connection, handshake, client, pool, tunnel, forward
store/          where the records lie: base (the Protocol), codec, memory, sqlite, redis/, open; spool, marker;
                sealing and vault: compressed, encrypted
bearer/         tokens, verified
gateway         what is this request, and who treats it
exchange        the story of a guarded request        collected, settling, overflow: what came of it
delivery        from the spool to the store
passthrough     the story of a request without a key
repeat          the story of a request whose key another has    waiting: who waits for it
retrieval       the story of a question for a key
identity        whose request it is                   credential: by what it carries; probe: asks the API
turned_away     the story of a request that is refused by its head
reply           how each of them answers              faults: the wire's words for a refusal, and ours
deadlines       the clock of all that waits           parts: what the stories are given
assembly        settings → parts                      app: parts → start, drain, stop
serve           one process or several (workers)      process: what each has; check: what would happen;
                explain: to one request
incidents       what an operator has to see to        operator: rulings on unknown keys
tls, ring       files → TLS contexts, encryption      budget: bytes of bodies, together
ops/            health and metrics, on their own port
telemetry/      metrics, logs, the journal of requests
sandbox/        a small payments API with faults on demand
"""
