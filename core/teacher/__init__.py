"""Where answers come from, and how they are read: one interface for recorded and live teachers."""
