"""What the stages hand one another: objects in stores, committed by manifests, remembered by a local cache."""
