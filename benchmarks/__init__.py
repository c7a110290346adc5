"""Every speed claim, as a ratio or a bound against a baseline measured in the same run (`make bench`)."""
