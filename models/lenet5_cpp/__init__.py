"""LeNet-5 as a plain C++ program, in float and with Number; export.py writes its weights and data."""
