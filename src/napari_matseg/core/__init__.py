"""The work itself, on arrays and files: numpy, torch, scikit-image and tifffile; never napari."""
