"""One TOML file a scenario, and the locustfile. A user adds a scenario by adding a file."""
