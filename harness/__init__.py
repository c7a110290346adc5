"""feedstorm: load tests and chaos verification, with a verdict, for real-time social feeds."""

__version__ = "0.1.0"
