"""Arms of a sweep: runs that differ in a few keys, compared on the same rows."""
