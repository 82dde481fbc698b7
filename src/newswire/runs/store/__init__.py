"""What the log knows of runs: their records, the few ways to change them, and the compact form of ended ones."""
