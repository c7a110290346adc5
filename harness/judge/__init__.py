"""Turns a run's history into a verdict."""
