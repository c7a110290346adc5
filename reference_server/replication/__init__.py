"""Carries every event that originated in one region to its peers: in order, once, across cuts."""
