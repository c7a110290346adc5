"""Shows a verdict: terminal, HTML, JUnit, Markdown."""
