"""newswire in other packages' shapes: one module for each, imported by name."""
