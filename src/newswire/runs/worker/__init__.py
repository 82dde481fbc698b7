"""Producing runs: sources driven to an end, writes on their way into the log, and which workers are alive."""
