"""Grafana dashboards, Prometheus rules and scrape targets for the reference stack.

Everything in `grafana/` and `prometheus/` is generated from the Python files here: `python -m dashboards generate`.
"""
