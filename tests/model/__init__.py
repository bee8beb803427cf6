"""The protocol as a model, explored to the end: which rule keeps which promise.

rules.py        what can be taken out, what can go wrong, what is promised
store.py        the store: what a command does to the record, by the table of `proxy.core.lifecycle`
world.py        what there is: attempts with one key, their connections, the record, the operator
protocol.py     what can happen next
promises.py     which promise a world breaks
checker.py      every world that can be reached, and the shortest way to a bad one
cases.py        which promise falls with which rule
__main__.py     `python -m tests.model`: the table for docs/guarantees.md, with the shortest way to each bad end
"""
