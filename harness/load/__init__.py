"""Drives load: arrivals, population, Locust users, the stream engine."""
