"""From a config to the stages of a run."""
