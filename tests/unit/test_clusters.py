"""Clusters of vectors, the texts that represent many, the order by similarity, and names made of typical words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("scipy")

from qwen3_integrations.analysis.clusters import LEAST_ROWS, MOST_IN_TREE, divided, representatives, seriated
from qwen3_integrations.analysis.words import group_names, words_of

TOPICS = {
    "fruit": "The red apple and the ripe pear are fruit from the orchard",
    "cars": "The fast car and the old truck are on the motorway",
    "music": "The loud drum and the soft violin are in the orchestra",
}


def groups(count, parts, width=32, spread=0.1, seed=0):
    """Unit rows around `parts` directions, and the part of each."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, parts, count)
    rows = rng.standard_normal((parts, width))[of] + spread * rng.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), of


def same_parts(left, right):
    """Whether two divisions have the same parts, under whatever numbers."""
    return len(set(zip(left.tolist(), right.tolist(), strict=True))) == len(set(left.tolist())) == len(set(right.tolist()))


def unlike(order, similarities):
    return sum(1 - similarities[left, right] for left, right in itertools.pairwise(order))


@pytest.mark.parametrize("parts", [2, 3, 5, 8])
@pytest.mark.parametrize("count", [120, MOST_IN_TREE + 700])
def test_clusters_are_found_and_their_number_too(parts, count):
    rows, of = groups(count, parts)
    found = divided(rows)
    assert same_parts(found, of)
    sizes = np.bincount(found)
    assert (np.diff(sizes) <= 0).all()  # the largest first


def test_outliers_do_not_hide_the_clusters():
    rng = np.random.default_rng(3)
    common, of = np.eye(64)[0] * 3, np.arange(90) % 3
    rows = common + 0.1 * rng.standard_normal((3, 64))[of] + 0.15 * rng.standard_normal((90, 64))
    rows = np.concatenate([rows, -common[None]])
    found = divided((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    assert same_parts(found[:-1], of)
    assert found[-1] not in found[:-1]


def test_the_number_of_clusters_may_be_chosen():
    rows, _ = groups(60, 3)
    assert divided(rows, 5).max() == 4
    assert set(divided(rows, 1)) == {0}


def test_few_or_equal_rows():
    rows, _ = groups(LEAST_ROWS, 2)
    assert set(divided(rows)) == {0, 1}
    assert set(divided(rows[:-1])) == {-1}
    assert divided(rows[:0]).shape == (0,)
    assert set(divided(np.repeat(rows[:1], 40, axis=0))) == {0}


def test_clusters_can_be_interrupted():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        divided(groups(40, 2)[0], between=stop)


def test_representatives_come_from_every_part():
    rows, of = groups(MOST_IN_TREE + 500, 20, width=64)
    shown = representatives(rows, 60)
    assert len(shown) == 60
    assert (np.diff(shown) > 0).all()
    assert set(of[shown]) == set(range(20))
    assert representatives(rows[:30], 60).tolist() == list(range(30))
    assert representatives(rows[:0], 60).tolist() == []
    assert len(representatives(np.repeat(rows[:1], 90, axis=0), 60)) == 60


def test_neighbours_in_the_order_are_similar():
    rows, of = groups(60, 6)
    cosines = rows @ rows.T
    order = seriated(cosines)
    assert sorted(order) == list(range(60))
    assert len(list(itertools.groupby(of[order]))) == 6  # each part is one run
    assert order[0] < order[-1]
    assert unlike(order, cosines) < 0.5 * unlike(range(60), cosines)


def test_a_line_of_texts_is_found_again():
    angles = np.linspace(0, np.pi / 2, 25)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    mixed = np.random.default_rng(1).permutation(25)
    order = mixed[seriated(rows[mixed] @ rows[mixed].T)].tolist()
    assert order in (list(range(25)), list(range(25))[::-1])


def test_the_order_of_few_or_equal_rows():
    assert seriated(np.empty((0, 0), np.float32)).tolist() == []
    assert seriated(np.ones((1, 1), np.float32)).tolist() == [0]
    assert seriated(np.ones((2, 2), np.float32)).tolist() == [0, 1]
    assert sorted(seriated(np.ones((9, 9), np.float32))) == list(range(9))


# Names.


def test_a_group_is_named_by_words_that_the_others_lack():
    texts = [f"{text} {at}" for text in TOPICS.values() for at in range(10)]
    names = group_names(texts, np.repeat([0, 1, 2], 10))
    for name, text in zip(names, TOPICS.values(), strict=True):
        words = name.split(", ")
        assert len(words) == 3
        assert set(words) <= set(text.lower().split()) - {"the", "and", "are"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Straße ÉTÉ naïve x 42 a1", ["straße", "été", "naïve"]),
        ("foo_bar don't", ["foo", "bar", "don"]),
        ("हिन्दी में किताब", ["हिन्दी", "में", "किताब"]),
        ("Ελλάδα Россия", ["ελλάδα", "россия"]),
        ("北京大学", ["北京", "京大", "大学"]),
        ("Pythonで書く", ["python", "で書", "書く"]),
        ("사과는 맛", ["사과", "과는"]),
        ("\ufb01le ＡＢＣ", ["file", "abc"]),
        ("", []),
        ("1 2 ?!", []),
    ],
)
def test_words_of_all_scripts(text, words):
    assert words_of(text) == words


def test_chinese_names_do_not_repeat_characters():
    texts = [f"人工智能{at}" for at in range(6)] + [f"天气预报{at}" for at in range(6)]
    first, second = group_names(texts, np.repeat([0, 1], 6))
    assert set(first.split(", ")) == {"人工", "智能"}
    assert set(second.split(", ")) == {"天气", "预报"}


def test_forms_of_one_word_stand_once():
    texts = ["copy file", "copies files", "file copied", "copy files", "cat dog", "cats dogs", "cat mouse", "dog mice"]
    assert group_names(texts, np.repeat([0, 1], 4))[0] in ("copy, file", "file, copy", "files, copy", "copy, files")


@pytest.mark.parametrize("text", ["", "12 34", "? !"])
def test_groups_without_words_are_numbered_from_one(text):
    assert group_names([text] * 4, np.array([0, 0, 1, -1])) == ("cluster 1", "cluster 2")


def test_groups_of_the_same_words_have_different_names():
    names = group_names(["apple pear"] * 6, np.array([0, 0, 0, 1, 1, 1]))
    assert len(set(names)) == 2


def test_texts_of_no_group_do_not_count():
    names = group_names(["apple", "apple", "pear", "pear", *["plum"] * 50], np.array([0, 0, 1, 1, *[-1] * 50]))
    assert names == ("apple", "pear")
    assert group_names(["apple"], np.array([-1])) == ()
    assert group_names([], np.empty(0, np.intp)) == ()


def test_one_group_of_all_texts_has_a_name():
    assert group_names(["red apple", "green apple"], np.array([0, 0])) == ("apple",)
