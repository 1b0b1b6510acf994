"""What runs inside a process that is measured, by the interpreter of its environment.

`python -m benchmarks.inside.<module> < request.json`; each module imports its own client and the standard library.
"""
