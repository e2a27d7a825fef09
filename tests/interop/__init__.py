"""A few steps of the quickstart against SkyRL, a Tinker server that others wrote: `make interop`."""
