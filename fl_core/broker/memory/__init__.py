"""A twin of the broker in this process's memory: no server, no socket, and a clock that is moved by hand.

The simulation and tests run the real coordinator over it. It knows the commands and the scripts that fedtide uses, and
nothing else; that they mean the same as at a server is shown by tests that run against both.
"""
