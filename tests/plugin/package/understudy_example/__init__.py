"""An example of a package that extends Understudy with one part of each kind."""
