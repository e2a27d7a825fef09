"""A package, so that its fixtures have a module name of their own."""
