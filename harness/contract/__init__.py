"""The Feed API contract, target profiles, and conformance: all the harness knows of a system."""
