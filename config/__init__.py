"""The settings: what there is to set, and where it is set.

units.py       durations and sizes, as people write them
urls.py        addresses and URLs, and how they are shown without passwords
values.py      what else a setting may be: tokens, lists, templates
settings.py    one frozen model: each setting with its type, its default and why
conflicts.py   what no single setting is to blame for
problems.py    what is wrong with a setting, in words
load.py        default ← TOML file ← environment ← flags; all problems at once
example.toml   every setting, commented: the same words and the same defaults
"""
