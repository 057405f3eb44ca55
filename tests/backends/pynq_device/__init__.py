"""A board for the pynq package, without a board: memory, registers, interrupts and time, in Python.

`python -m pynq_device FOLDER` runs the driver of an output folder on PYNQ's own classes over it (see __main__.py).
"""
