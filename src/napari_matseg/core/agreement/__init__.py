"""How well two segmentations of one image agree: object by object, along boundaries, in what is measured."""
