"""The SSE edge of a region: holds the open streams and tells each listener what arrived in its feed."""
