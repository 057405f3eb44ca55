"""Networks as data, the recipes that made them, and data sets."""
