"""What newswire costs, measured beside what others cost, on this machine: `python -m benchmarks`.

A benchmark is a module of this package with a docstring, `TITLE` and `run(size, say) -> list[Table]`; `__main__` lists
them. It measures ratios within one run (everybody on the same core, in turns), because absolute times say more about
the machine than about the code.
"""
