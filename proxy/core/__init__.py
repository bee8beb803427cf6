"""The rules, pure: no loop, no clock, no socket; the standard library only."""
