"""Records in Redis or Valkey.

store.py        the four operations, in and out of the server's words
withdrawals.py  claims whose answer never came are taken back
topology.py     the servers behind a URL, and the way of each command to the right one
sentinel.py     one server, wherever the sentinels say that it is
cluster.py      several, each with its slots; slots.py reads what they say of them
multiplexer.py  one connection for all: queue, deadlines, reconnecting
handshake.py    how a connection is made ready
connection.py   batches out, replies in, none believed before its batch is
address.py      what a URL says
errors.py       what the server says when it says no
inspection.py   whether a server is fit for use
"""
