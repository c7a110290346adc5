"""Processes that faults start: one program each, found and ended by their mark, never living longer than their lease.

`starting` is the side of the fault, `lease` that of the child. Programs import the standard library and `lease` only,
so that they are up within a tenth of a second.
"""
