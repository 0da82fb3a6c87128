"""Synthetic micrographs with exact truth: for demonstrations, for tests, and as further training data.

Everything is drawn from one random generator, and evaluated for all particles of an image at once, since a
training draws thousands of images.
"""

from napari_matseg.core.synthetic.canvas import Sample
from napari_matseg.core.synthetic.coating import coating
from napari_matseg.core.synthetic.demo import Demo, demo_micrograph, write_demo
from napari_matseg.core.synthetic.lettering import burn_in
from napari_matseg.core.synthetic.particulate import Style, particles
from napari_matseg.core.synthetic.precipitates import superalloy

__all__ = ["Demo", "Sample", "Style", "burn_in", "coating", "demo_micrograph", "particles", "superalloy", "write_demo"]
