"""The settings: what there is to set, and where it is set.

units.py       durations and sizes, as people write them
urls.py        addresses and URLs, and how they are shown without passwords
templates.py   templates of paths
values.py      what else a setting may be: tokens, lists, statuses
settings.py    one frozen model: each setting with its type, its default and why
conflicts.py   what no single setting is to blame for
advice.py      what is right, and may not be what was meant
problems.py    what is wrong with a setting, in words
load.py        default ← preset ← TOML file ← environment ← flags; all problems at once
presets/       settings for the APIs of Mangopay and Stripe, and for the IETF draft
example.toml   every setting, commented: the same words and the same defaults
"""
