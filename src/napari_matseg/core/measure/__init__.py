"""From labels to numbers: shapes, size distributions, phase fractions, grain size."""
