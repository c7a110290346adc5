"""What a run leaves behind: its directory, its history of ops, its histograms."""
