"""Where artifacts live: immutable objects with a manifest written last, run views, pointers."""
