"""The leaf of the harness: words every other part speaks. Imports nothing of ours."""
