"""`make chaos`: real proxies, a real store and a recording API, and all that can happen to them, at random. Linux only.

schedule   what happens, and when: made of the seed alone
stands     the stores, and what can be done to each of them
proxies    the proxies, and what can be done to them
modes      how the proxies treat a key that is taken, and what is done for that to matter
api        the API: executes payments, writes down each, and answers as APIs do on bad days
clients    they pay, retry with the same key, race for keys, and look for lost responses
ledger     what was executed, and what each client was told
verdict    what must not be: executed twice, a response lost, a key without a state
run        all of it together
ends       how the keys ended, and why some are unknown
report     the figures
"""
