"""The reference feed stack: what the harness is tested against, and what an architect can study.

Imports neither `harness` nor `chaos`; they never import it. The two meet only on the wire.
"""
