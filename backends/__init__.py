"""What a graph becomes: a simulation that scores accuracy, and an accelerator in HLS C++."""
