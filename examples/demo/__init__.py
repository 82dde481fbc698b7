"""The demo: a dashboard of this machine, on a server that you may kill. `make demo`, or `python -m examples.demo`."""
