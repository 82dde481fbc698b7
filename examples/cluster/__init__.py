"""Two servers on one Valkey, and a page that survives the death of each of the three: `make cluster`."""
