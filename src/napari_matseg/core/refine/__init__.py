"""A second look at each object: a small network draws it again, at the object's own magnification."""
