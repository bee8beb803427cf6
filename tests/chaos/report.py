"""The figures of a run."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median

from tests.chaos.ends import End, end_of, ends
from tests.chaos.ledger import Given, Key, Said, Told
from tests.chaos.run import Happened, Outcome
from tests.chaos.schedule import KILL
from tests.chaos.stands import FAILOVERS
from tests.chaos.verdict import Wrong

SHOWN = 5
"""Violations whose history is printed."""


def report(outcome: Outcome) -> Iterator[str]:
    """Line by line."""
    plan, ledger = outcome.plan, outcome.ledger
    yield f"{plan.store}, {plan.durability}, mode {plan.way}: seed {plan.seed}, {plan.proxies} proxies"
    yield f"  {ledger.now():.0f} s in all"
    yield f"  keys {len(outcome.final)}, requests {ledger.requests}, executed {_executed(outcome)}"
    kinds = Counter(each.kind for each in outcome.happened)
    kills = sum(count * kind.count("killed") for kind, count in kinds.items())
    of_proxies = sum(count for kind, count in kinds.items() if kind.endswith(KILL))
    yield f"  faults {kinds.total()}, kills among them {kills} ({of_proxies} of proxies)"
    yield from _ends(outcome)
    yield from _repeats(outcome)
    found = Counter(each.wrong for each in outcome.violations)
    yield from (f"  {wrong.value}: {found[wrong]}" for wrong in Wrong)
    yield from _apart(outcome)
    yield from _recoveries(outcome.happened)
    yield from _failures(outcome)


def _executed(outcome: Outcome) -> int:
    return sum(execution.executed for execution in outcome.ledger.executions)


def _ends(outcome: Outcome) -> Iterator[str]:
    moods = Counter(execution.mood for execution in outcome.ledger.executions)
    yield "  the API: " + ", ".join(f"{mood} {count}" for mood, count in moods.most_common())
    counts = ends(outcome)
    yield from (f"  keys at the end: {counts[end]:5} {end.value}" for end in End)
    odd = [key for key, answer in outcome.final.items() if end_of(outcome, key, answer) is End.UNEXPLAINED]
    for key in odd[:SHOWN]:
        yield from _story(outcome, key)


def _repeats(outcome: Outcome) -> Iterator[str]:
    """What those were told whose key was taken."""
    told = [(key, each) for key, answers in outcome.ledger.told.items() for each in answers if each.body is not None]
    said = Counter(each.answer.status for _, each in told if isinstance(each.answer, Said))
    given = [(key, each, each.answer) for key, each in told if isinstance(each.answer, Given)]
    waited = [each.at - each.begun for _, each, answer in given if answer.replayed]
    next_one = sum(_went_next(outcome, key, each, answer) for key, each, answer in given)
    yield "  told instead: " + ", ".join(f"{status}: {count}" for status, count in sorted(said.items()))
    yield f"  went next, after a wait: {next_one}; replays: {len(waited)}, at most after {max(waited, default=0):.2f} s"
    yield f"  names of keys in two scopes: {len(outcome.final) - len({key.name for key in outcome.final})}"


def _went_next(outcome: Outcome, key: Key, told: Told, answer: Given) -> bool:
    """Whether it had come before another, with the same key, was turned away, and was sent itself behind that one."""
    return not answer.replayed and any(
        told.begun < other.at and other.number < answer.number
        for other in outcome.ledger.of_key[key]
        if not other.executed
    )


def _apart(outcome: Outcome) -> Iterator[str]:
    """What is not promised."""
    if outcome.plan.durability == "memory" and any(
        kind in each.kind for each in outcome.happened for kind in FAILOVERS
    ):
        found = Counter(each.wrong.value for each in outcome.excused)
        yield f"  by a failover, from which durability = memory does not protect: {dict(found) or 'nothing'}"
    unsafe = sum(len(proxy.unsafe) for proxy in outcome.proxies)
    yield f"  given while on no disk: {unsafe}; lost with their proxy: {len(outcome.unsafe)}"
    events: Counter[str] = sum((proxy.events for proxy in outcome.proxies), Counter())
    for event in ("settlement met the record of another attempt", "settlements delivered from the spool"):
        yield f"  in the logs: {event}: {events[event]}"


def _recoveries(happened: list[Happened]) -> Iterator[str]:
    """By kind, of each proxy; those apart in which something else happened to the same proxy."""
    alone, amid = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for each in happened:
        for proxy, recovered in each.recovered.items():
            disturbed = any(_disturbs(other, each, proxy) for other in happened if other is not each)
            (amid if disturbed else alone)[each.kind].append(recovered - each.lifted)
    width = max((len(each.kind) for each in happened), default=0)
    yield f"  {'recovery in seconds':{width}}  times  median    max   amid another fault: times  median    max"
    for kind in sorted({each.kind for each in happened}):
        yield f"  {kind:{width}}  {_figures(alone[kind])}                       {_figures(amid[kind])}"


def _figures(seconds: list[float]) -> str:
    return f"{len(seconds):5}  {median(seconds):6.2f} {max(seconds):6.2f}" if seconds else f"{0:5}       -      -"


def _disturbs(other: Happened, each: Happened, proxy: int) -> bool:
    """Whether it had to do with this one's recovery."""
    if proxy not in other.recovered:
        return False
    return other.begun < each.recovered[proxy] and other.recovered[proxy] > each.lifted


def _story(outcome: Outcome, key: Key) -> Iterator[str]:
    """All that is known of a key, and the faults amid which something was heard of it."""
    yield f"    {key}"
    yield from (f"    {line}" for line in outcome.ledger.history(key))
    times = outcome.ledger.times(key)
    for each in outcome.happened:
        if any(each.begun < time < each.over for time in times):
            yield f"    {each.begun:9.3f}  {each.kind}, proxies {list(each.recovered)}, until {each.lifted:.3f}"


def _failures(outcome: Outcome) -> Iterator[str]:
    for violation in outcome.violations[:SHOWN]:
        yield f"  VIOLATION, {violation.wrong.value}: {violation.key}: {violation.why}"
        if violation.key is not None:
            yield from _story(outcome, violation.key)
    for proxy in outcome.proxies:
        yield from (f"  TRACEBACK in {proxy.directory.name}: {line}" for line in proxy.tracebacks[:SHOWN])
    if not outcome.clean:
        plan = outcome.plan
        yield f"  again: python -m tests.chaos --store {plan.store} --seed {plan.seed} --mode {plan.way}"
