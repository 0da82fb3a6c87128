"""The skin: what napari shows of the core. One widget per file."""
