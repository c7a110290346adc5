"""Faults that undo themselves: one file a kind, a ledger, a witness for each. Imports `harness.core` only."""
