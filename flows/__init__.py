"""What runs: the distill flow and the command line."""
