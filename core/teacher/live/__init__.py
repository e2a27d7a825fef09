"""A live teacher: when a request may be sent, whether it is tried again, and what it costs."""
