from hypothesis import given
from hypothesis import strategies as st

from napari_matseg.core.boxes import Boxes, meet, span, squares, within


@st.composite
def regions(draw, limit=400):
    sides = [sorted(draw(st.tuples(st.integers(0, limit), st.integers(0, limit)))) for _ in range(2)]
    return tuple(slice(start, stop + 1) for start, stop in sides)


def pixels(region):
    rows, columns = region
    return {(y, x) for y in range(rows.start, rows.stop) for x in range(columns.start, columns.stop)}


@given(regions(8), regions(8))
def test_meet_and_span_are_what_sets_of_pixels_say(one, other):
    assert pixels(meet(one, other)) == pixels(one) & pixels(other)
    both = span([one, other])
    assert pixels(both) >= pixels(one) | pixels(other)
    assert within(one, both)[0].start == one[0].start - both[0].start


def test_span_of_none_has_no_pixel():
    assert pixels(span([])) == set()


@given(regions(40), st.integers(1, 9))
def test_squares_are_those_that_hold_a_pixel(region, side):
    assert set(squares(region, side)) == {(y // side, x // side) for y, x in pixels(region)}


@given(st.lists(regions(), max_size=8), regions(), st.data())
def test_near_are_those_that_share_a_pixel(boxes, where, data):
    here = Boxes()
    for number, box in enumerate(boxes):
        here.put(number, box)
    gone = data.draw(st.sets(st.sampled_from(range(len(boxes))))) if boxes else set()
    for number in gone:
        here.drop(number)

    def apart(box):
        return any(both.start == both.stop for both in meet(box, where))

    assert here.near(where) == [n for n, box in enumerate(boxes) if n not in gone and not apart(box)]
