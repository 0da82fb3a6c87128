from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_matseg.core import assembly as module
from napari_matseg.core.assembly import Assembly
from napari_matseg.core.objects import ObjectMask
from napari_matseg.errors import InputError

SHAPE = (7, 9)
MODES = ("score", "smaller", "separate")


def make(label, scores, top=0, left=0):
    return ObjectMask(label, top, left, np.array(scores, np.float16), iou=0.9, stability=0.9)


def block(label, top, left, height, width, score=1.0):
    return make(label, np.full((height, width), score), top, left)


@st.composite
def objects(draw, most=6):
    """Objects with few different scores, so that ties are common; some have no pixel, some no crop."""
    many = []
    for label in range(1, draw(st.integers(0, most)) + 1):
        height, width = draw(st.integers(0, SHAPE[0])), draw(st.integers(0, SHAPE[1]))
        top, left = draw(st.integers(0, SHAPE[0] - height)), draw(st.integers(0, SHAPE[1] - width))
        scores = draw(arrays(np.int8, (height, width), elements=st.integers(-1, 3), fill=st.integers(-1, 3)))
        many.append(make(label, scores, top, left))
    return many


def assemble(many, overlaps="score", shape=SHAPE):
    made = Assembly(shape, overlaps)
    for found in many:
        made.put(found)
    return made


def expected(many, overlaps):
    """Apply the rules to one pixel after another, with a plane for each object."""
    score = {}
    for found in many:
        score[found.id] = np.full(SHAPE, -9.0)
        score[found.id][found.where] = found.scores_yx
    inside = {label: plane > 0 for label, plane in score.items()}
    rank = {label: (int(plane.sum()), label) for label, plane in inside.items()}
    most_shared = {
        (small, large)
        for small, large in permutations(inside, 2)
        if rank[small] < rank[large] and 2 * (inside[small] & inside[large]).sum() > rank[small][0]
    }
    labels = np.zeros(SHAPE, np.uint32)
    for pixel in np.ndindex(SHAPE):
        here = [label for label in inside if inside[label][pixel]]
        if overlaps == "score":
            gives_way = {large for small, large in permutations(here, 2) if (small, large) in most_shared}
            here = [label for label in here if label not in gives_way]
            here.sort(key=lambda label: (-score[label][pixel], rank[label]))
        else:
            here.sort(key=lambda label: rank[label])
        labels[pixel] = here[0] if here else 0
    return labels


@pytest.mark.parametrize("overlaps", MODES)
@given(many=objects(), data=st.data())
def test_labels_follow_the_rules_in_whatever_order_objects_come(overlaps, many, data):
    labels = expected(many, overlaps)
    np.testing.assert_array_equal(assemble(many, overlaps).labels_yx, labels)
    shuffled = assemble(data.draw(st.permutations(many)), overlaps)
    np.testing.assert_array_equal(shuffled.labels_yx, labels)
    at_once = Assembly(SHAPE, overlaps)
    at_once.put_all(many)
    np.testing.assert_array_equal(at_once.labels_yx, labels)
    if overlaps != "separate":
        assert at_once.lost() == [found.id for found in many if not (labels == found.id).any()]


@pytest.mark.parametrize("overlaps", MODES)
@given(many=objects(), others=objects(), data=st.data())
def test_changes_paint_what_is_left_and_can_be_taken_back(overlaps, many, others, data):
    made = assemble(many, overlaps)
    changes, states = [], [made.labels_yx.copy()]
    there = {found.id: found for found in many}
    for found in others:
        if data.draw(st.booleans()) and there:
            label = data.draw(st.sampled_from(sorted(there)))
            change = made.remove(label)
            assert change.before is there.pop(label)
            assert change.after is None
        else:
            change = made.put(found)
            assert change.before is there.get(found.id)
            assert change.after is found
            there[found.id] = found
        outside = np.ones(SHAPE, bool)
        outside[change.where] = False
        np.testing.assert_array_equal(made.labels_yx[outside], states[-1][outside])
        both = np.stack([made.labels_yx, states[-1]])
        assert set(np.unique(both[:, both[0] != both[1]])) <= {0, *change.affected}
        np.testing.assert_array_equal(made.labels_yx, expected(there.values(), overlaps))
        changes.append(change)
        states.append(made.labels_yx.copy())
    assert dict(made.objects) == there
    while changes:
        np.testing.assert_array_equal(made.labels_yx, states.pop())
        undone = made.restore(changes.pop())
        made.restore(made.restore(undone))
    np.testing.assert_array_equal(made.labels_yx, states.pop())


@given(objects())
def test_layers_hold_every_object_whole(many):
    made = assemble(many, "separate")
    layers = made.layers()
    for found in many:
        own = np.zeros(SHAPE, bool)
        own[found.where] = found.mask_yx
        holding = [layer for layer in layers if (layer == found.id).any()]
        assert len(holding) == int(own.any())
        if holding:
            np.testing.assert_array_equal(holding[0] == found.id, own)
    assert made.lost() == [found.id for found in many if not found.mask_yx.any()]


def test_layers_are_the_labels_where_nothing_is_kept_apart():
    for overlaps in MODES:
        made = assemble([block(1, 0, 0, 2, 2), block(2, 4, 4, 2, 2)], overlaps)
        assert made.layers() == [made.labels_yx]


def test_a_small_object_is_never_lost_under_a_large_one():
    made = assemble([block(1, 2, 2, 2, 2, score=0.1), block(2, 0, 0, 7, 9, score=9)])
    assert (made.labels_yx == 1).sum() == 4


def test_where_less_than_half_is_shared_the_score_decides():
    made = assemble([block(1, 0, 0, 1, 4, score=1), block(2, 0, 2, 1, 7, score=2)])
    assert made.labels_yx[0].tolist() == [1, 1, 2, 2, 2, 2, 2, 2, 2]


def test_three_that_would_each_beat_another():
    # 1 lies in 2 and so takes all of it; 3 has less than half of 1 and the best score of those that are left.
    small, large = block(1, 0, 0, 1, 5, score=1), block(2, 0, 0, 2, 8, score=3)
    across = block(3, 0, 4, 7, 1, score=2)
    made = assemble([small, large, across])
    assert made.labels_yx[0].tolist() == [1, 1, 1, 1, 3, 2, 2, 2, 0]


def test_of_twins_the_lower_id_stays_and_the_other_is_reported():
    for overlaps in ("score", "smaller"):
        made = assemble([block(2, 1, 1, 3, 3), block(1, 1, 1, 3, 3)], overlaps)
        assert np.unique(made.labels_yx).tolist() == [0, 1]
        assert made.lost() == [2]
    made = assemble([block(2, 1, 1, 3, 3), block(1, 1, 1, 3, 3)], "separate")
    assert made.lost() == []
    assert [np.unique(layer).tolist() for layer in made.layers()] == [[0, 1], [0, 2]]


def test_scores_are_compared_down_to_the_least_and_up_to_infinity():
    tiny = np.float16(6e-8)
    made = assemble([make(1, [[tiny, 65504, 1, 1, 1]]), make(2, [[2 * tiny, np.inf, 0, 0, np.nan, 1, 1, 1]])])
    assert made.labels_yx[0].tolist() == [2, 2, 1, 1, 1, 2, 2, 2, 0]


def test_one_pixel_plane():
    made = Assembly((1, 1))
    assert made.put(block(5, 0, 0, 1, 1)).affected == (5,)
    assert made.labels_yx.tolist() == [[5]]
    made.remove(5)
    assert made.labels_yx.tolist() == [[0]]


def test_nothing_at_all():
    made = Assembly((3, 3))
    made.put_all([])
    assert made.lost() == []
    change = made.put(make(3, np.zeros((0, 0))))
    assert made.labels_yx[change.where].size == 0
    assert made.lost() == [3]
    assert made.layers() == [made.labels_yx]


def test_labels_stay_the_same_array():
    made = Assembly(SHAPE)
    labels = made.labels_yx
    made.put_all([block(1, 0, 0, 2, 2)])
    made.put(block(1, 3, 3, 2, 2))
    assert made.labels_yx is labels
    assert labels.sum() == 4


def test_many_small_objects(monkeypatch):
    monkeypatch.setattr(module, "TILE", 64)
    side = 40
    many = [block(1 + side * y + x, 5 * y, 5 * x, 6, 6) for y in range(side) for x in range(side)]
    made = Assembly((5 * side + 1, 5 * side + 1), "smaller")
    made.put_all(many)
    assert np.bincount(made.labels_yx.ravel())[0] == 0
    assert made.labels_yx[5, 5] == 1  # that with the lower id
    assert made.lost() == []


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (block(0, 0, 0, 1, 1), "Object 0: this is no label; number objects from 1 to 4294967295."),
        (block(2**32, 0, 0, 1, 1), "Object 4294967296: this is no label; number objects from 1 to 4294967295."),
        (
            block(3, 5, 0, 4, 2),
            "Object 3: rows 5 to 9 and columns 0 to 2 reach beyond a plane of 7 x 9; cut the crop off there.",
        ),
        (
            ObjectMask(4, 0, 0, np.ones((1, 1)), 1, 1),
            "Object 4: scores of type float64; convert them to float16.",
        ),
    ],
)
def test_objects_that_do_not_fit(found, message):
    made = assemble([block(9, 0, 0, 2, 2)])
    for put in (made.put, lambda found: made.put_all([block(8, 3, 3, 1, 1), found])):
        with pytest.raises(InputError) as raised:
            put(found)
        assert str(raised.value) == message
    assert list(made.objects) == [9]


def test_removing_what_is_not_there():
    with pytest.raises(InputError, match="There is no object 2; give the id of one that is there"):
        assemble([block(1, 0, 0, 2, 2)]).remove(2)
