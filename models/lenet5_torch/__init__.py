"""LeNet-5 in PyTorch with the formats of a file: how any framework takes part in a search."""
