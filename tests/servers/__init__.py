"""Small real servers that tests talk to, on the loopback interface only."""
