"""Graph -> a streaming accelerator in HLS C++, with everything its board needs."""
