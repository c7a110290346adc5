"""The figures the articles claim, each measured on this machine (`feedstorm claims`).

    catalogue   the claims: what is said, what measures it, when it counts as reproduced
    measuring   makes the runs and benchmarks behind them, one after the other
    readings    from what was measured to a verdict on each claim; pure
    page        docs/claims.md, and the same in the terminal

Benchmarks are run as programs of the checkout; they are not imported.
"""
