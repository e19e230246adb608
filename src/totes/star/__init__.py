"""The star schema as its project declares it: model files, what they may contain, and the order of their tables."""
