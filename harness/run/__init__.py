"""From a scenario file to the stages of a run."""
