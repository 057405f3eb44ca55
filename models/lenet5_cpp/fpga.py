"""Number formats of an FPGA: the platform descriptor of Figure 5 of the libnumber paper."""

supported_formats = {
    "FPGA": {
        "FLOAT": [16, 32],
        "FIXED": range(2, 33),
        "EXP": range(2, 10),
    },
}
