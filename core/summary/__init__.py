"""Tables across the runs under a root, and two runs compared text by text."""
