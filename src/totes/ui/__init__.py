"""The pipeline in a browser: pages over monitoring and star. Nothing here computes, and nothing but a retry changes anything."""
