"""Brings the whole stack up as separate processes, keeps it up, and leaves nothing behind.

Decides ports, directories and order; knows no part from inside. `python -m reference_server` is its command line.
"""
