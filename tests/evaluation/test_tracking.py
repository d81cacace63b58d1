from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation
from torch.nn.functional import normalize, one_hot

from levyjepa.conf.schema import ModelConfig
from levyjepa.data import normalise
from levyjepa.data.davis import open_davis, write_clips, write_masks
from levyjepa.data.moving_digits import MovingDigits
from levyjepa.evaluation.features import fields, patches
from levyjepa.evaluation.tracking import (
    Measure,
    Tracking,
    contour_accuracy,
    cuts,
    evaluate_davis,
    first_masks,
    judge_sequences,
    propagate,
    region_similarity,
    score,
    score_results,
    time_jumps,
    track,
)
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.models import Network


def ids(*rows: str) -> torch.Tensor:
    """A mask, a digit for each pixel."""
    return torch.tensor([[int(c) for c in row] for row in rows], dtype=torch.uint8)


def box(y: slice, x: slice, size: tuple[int, int] = (40, 40)) -> np.ndarray:
    mask = np.zeros((1, *size), bool)
    mask[0, y, x] = True
    return mask


# Measures


def test_measures_are_those_of_davis(shared_data: Path):
    held = np.load(shared_data / "reference" / "davis_metrics.npz")
    pair = held["annotation"], held["prediction"]
    for measure in (region_similarity, contour_accuracy):
        expected = held[measure.__name__]
        assert np.abs(measure(*pair) - expected).max() < 1e-9
        found = measure(*map(torch.from_numpy, pair))
        assert isinstance(found, torch.Tensor)
        assert np.abs(found.numpy() - expected).max() < 1e-9


def test_boxes_by_hand():
    # tolerance: .008 * hypot(40, 40) = .45, rounded up to 1 pixel
    wide, shifted = box(slice(10, 20), slice(10, 20)), box(slice(10, 20), slice(11, 21))
    assert region_similarity(wide, shifted) == pytest.approx(90 / 110)
    assert contour_accuracy(wide, shifted) == 1
    far = box(slice(10, 20), slice(30, 40))
    assert region_similarity(wide, far) == contour_accuracy(wide, far) == 0
    none = np.zeros_like(wide)
    for pair in ((none, wide), (wide, none)):
        assert region_similarity(*pair) == contour_accuracy(*pair) == 0
    assert region_similarity(none, none) == contour_accuracy(none, none) == 1


@pytest.mark.parametrize("tolerance", [0.008, 0.05, 0.1])
def test_contours_agree_with_dilation(tolerance):
    draw = np.random.default_rng(0)
    coarse = draw.random((3, 6, 9, 14)) < np.array([0.5, 0.5, 0.1])[:, None, None, None]
    a, p, void = coarse.repeat(4, 2).repeat(4, 3)
    p = np.roll(a, 1, 2) ^ (p & (draw.random(p.shape) < 0.3))
    radius = int(np.ceil(tolerance * np.hypot(36, 56)))
    at = np.arange(-radius, radius + 1)
    disk = at[:, None] ** 2 + at**2 <= radius**2
    for t, f in enumerate(contour_accuracy(a, p, void, tolerance)):
        edges = []
        for mask in (a[t] & ~void[t], p[t] & ~void[t]):
            edge = np.zeros_like(mask)
            edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
            edge[:-1] |= mask[:-1] ^ mask[1:]
            edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
            edges.append(edge)
        drawn, claimed = edges
        precision = (claimed & binary_dilation(drawn, disk)).sum() / claimed.sum()
        recall = (drawn & binary_dilation(claimed, disk)).sum() / drawn.sum()
        assert f == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-12)


def test_recall_and_decay_by_hand():
    # eight frames: DAVIS's quarters share their ends, frames 1-3 and 6-8
    found = Measure.of(np.array([1, 0.9, 0.8, 0.5, 0.5, 0.6, 0.2, 0.1]))
    assert found.mean == pytest.approx(4.6 / 8)
    assert found.recall == 4 / 8
    assert found.decay == pytest.approx(0.9 - 0.3)
    long = np.zeros(1000)  # DAVIS's own tool counts frames in eight bits
    long[:251] = 1
    assert Measure.of(long).decay == pytest.approx(1)
    assert Measure.of(np.array([0.7])) == Measure(0.7, 1, 0)


def test_objects_are_judged_from_the_frame_after_they_are_given():
    annotation = torch.zeros(6, 20, 20, dtype=torch.uint8)
    annotation[:, 2:6, 2:6] = 1
    annotation[2:, 10:14, 10:14] = 7
    annotation[5, 15:, 15:] = 9  # only in the last frame: not judged
    annotation[3, :, 8] = 255
    prediction = torch.where(annotation == 255, 7, annotation)  # void counts for nothing
    prediction[:, 2:6, 4:6] = 0  # half of object 1
    prediction[[0, 5]] = 0  # not judged
    first, later = score(annotation, prediction, "here")
    assert (first.object, later.object) == (1, 7)
    assert first.region == Measure(0.5, 0, 0)
    assert later.region == later.contour == Measure(1, 1, 0)
    whole = Tracking((first, later))
    assert whole.region == Measure(0.75, 0.5, 0)
    expected = (first.j_and_f + later.j_and_f) / 2
    assert whole.j_and_f == pytest.approx(expected)
    assert whole.there == pytest.approx((4 * first.j_and_f + 2 * later.j_and_f) / 6)  # by frames
    assert whole.gone is None
    assert whole.sequences == {"here": pytest.approx(expected)}
    assert whole.as_dict()["objects"] == 2


def test_frames_that_an_object_has_left_are_right_without_a_pixel_of_it():
    annotation = torch.zeros(8, 20, 20, dtype=torch.uint8)
    annotation[[0, 1, 2, 7], 2:6, 2:6] = 1
    prediction = annotation.clone()
    prediction[2] = 0
    prediction[4, 9, 9] = 1
    found = Tracking(score(annotation, prediction))  # frames 1 to 6
    assert (found.there, found.gone) == (1 / 2, 3 / 4)
    assert found.j_and_f == pytest.approx(4 / 6)


def test_a_scene_is_cut_where_nine_tokens_of_ten_jump():
    jump = torch.zeros(3, 2, 5)
    jump[1].flatten()[:9] = 0.6
    jump[2].flatten()[:8] = 1
    assert cuts(jump).tolist() == [False, True, False]


def test_bad_masks_are_named():
    mask = np.zeros((2, 4, 4), bool)
    with pytest.raises(TypeError, match="`prediction` must be of bool, got uint8"):
        region_similarity(mask, mask.astype(np.uint8))
    with pytest.raises(ValueError, match=r"`prediction` must be as large as `annotation` \(2, 4"):
        contour_accuracy(mask, mask[:1])
    with pytest.raises(ValueError, match=r"`annotation` must be \(T, H, W\)"):
        contour_accuracy(mask[0], mask[0])
    with pytest.raises(ValueError, match=r"must both be \(T, H, W\)"):
        score(torch.zeros(2, 3, 3), torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="at least one object, got none"):
        _ = Tracking(()).j_and_f


# Propagation


def dense(tokens, first, last, radius, top, temperature):
    """DINO's propagation as its equations say, with every pair of tokens; masks of the grid's
    size."""
    frames, height, width = tokens.shape[:3]
    flat = normalize(tokens.flatten(1, 2), dim=-1)
    y, x = (
        axis.flatten()
        for axis in torch.meshgrid(*map(torch.arange, (height, width)), indexing="ij")
    )
    near = ((y[:, None] - y).abs() <= radius) & ((x[:, None] - x).abs() <= radius)
    labels, masks = [one_hot(first.long()).double().flatten(0, 1)], [first]
    for t in range(1, frames):
        context = [0, *range(max(1, t - last), t)]
        alike = torch.cat([(flat[t] @ flat[c].T / temperature).exp() * near for c in context], 1)
        alike = alike * (alike >= alike.topk(top, 1).values[:, -1:])
        found = alike / alike.sum(1, keepdim=True) @ torch.cat([labels[c] for c in context])
        labels.append(found)
        scaled = (found - found.min(0).values) / (found.max(0).values - found.min(0).values)
        masks.append(scaled.argmax(1).view(height, width).to(torch.uint8))
    return torch.stack(masks)


@pytest.mark.parametrize(("last", "radius", "top"), [(7, 12, 5), (2, 3, 5), (3, 1, 20), (1, 9, 1)])
def test_tiles_find_what_all_pairs_find(last, radius, top):
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randn(11, 13, 21, 6, generator=draw).double()
    first = torch.randint(4, (13, 21), generator=draw).to(torch.uint8)
    found = propagate(tokens, {0: first}, last=last, radius=radius, top=top, temperature=0.2)
    expected = dense(tokens, first, last, radius, top, 0.2)
    # single precision may break a near tie otherwise
    assert (found == expected).float().mean() > 0.999


def scene(*masks: torch.Tensor) -> torch.Tensor:
    """(T, h, w, C): one direction for each id, and masks of the grid's size to follow."""
    return torch.stack([one_hot(mask.long(), 10).float() for mask in masks])


A = ids("110000", "110000", "000000", "000022")
B = ids("011000", "011000", "000022", "000000")
GONE = ids("001100", "001100", "000000", "000000")
NEW = ids("333110", "000110", "000220", "000000")


def test_objects_are_followed_vanish_come_back_and_appear():
    masks = torch.stack([A, B, GONE, NEW, B, A])
    given = first_masks(masks)
    assert set(given) == {0, 3}
    assert set(given[3].unique().tolist()) == {0, 3}
    assert torch.equal(propagate(scene(*masks), given), masks)


def test_an_object_given_late_is_remembered_beyond_the_last_frames():
    masks = torch.stack([A, NEW, *[A] * 9, NEW])
    assert torch.equal(propagate(scene(*masks), first_masks(masks), last=2), masks)


def test_frames_may_come_one_after_another():
    masks = torch.stack([A, B, A])
    tokens = scene(*masks)
    assert torch.equal(propagate(iter(tokens), {0: A}), propagate(tokens, {0: A}))


def test_void_is_no_object():
    void = torch.where(A == 2, 255, A)
    assert torch.equal(propagate(scene(A), {0: void})[0], torch.where(A == 2, 0, A))
    assert torch.equal(first_masks(void[None])[0], torch.where(A == 2, 0, A))


def test_nothing_comes_from_beyond_the_radius():
    here, there = ids("10000000"), ids("00000010")
    assert torch.equal(propagate(scene(here, there), {0: here}, radius=6, top=1)[1], there)
    assert not propagate(scene(here, there), {0: here}, radius=5, top=1)[1].any()


def test_masks_are_finer_than_tokens():
    fine = A.repeat_interleave(8, 0).repeat_interleave(8, 1)
    found = propagate(scene(A, A), {0: fine})[1]
    assert found.shape == fine.shape
    assert (found == fine).float().mean() > 0.9


def test_nothing_is_taken_across_a_cut():
    tokens = scene(A, A, A, A)
    jump = torch.tensor([0, 0.9, 0.9, 0]).view(4, 1, 1).repeat(1, 4, 6)
    jump[1, 0, :3] = 0.4  # an eighth of the tokens did not jump: no cut
    found = propagate(tokens, {0: A}, jump=jump)
    assert torch.equal(found[:2], torch.stack([A, A]))
    assert not found[2:].any()
    anew = torch.where(A == 2, A, 0)
    told = propagate(tokens, {0: A, 2: anew}, jump=jump)
    assert torch.equal(told[2:], torch.stack([anew, anew]))


def test_jumps_over_time_tell_a_jump_from_drift():
    law = Brownian(sigma=0.1) + CompoundPoisson(rate=0.01, jumps=LaplaceJumps(alpha=0.5))
    draw = torch.Generator().manual_seed(0)
    steps = 0.1 * torch.randn(6, 3, 4, 8, generator=draw)
    steps[4, 1, 2] += 5
    found = time_jumps(steps.cumsum(0), law)
    expected = torch.zeros(6, 3, 4)
    expected[4, 1, 2] = 1
    # a calm token's probability passes one half with a chance below 1e-6
    assert torch.equal((found > 0.5).float(), expected)
    assert not time_jumps(steps[:1], law).any()


def test_a_tracker_asks_for_jumps():
    held = MovingDigits("test", 20, frames=8, cut=0.2)
    clip = next(clip for clip in map(held.__getitem__, range(20)) if clip.events[0].kind == "cut")
    cut = clip.events[0].frame
    law = Brownian(sigma=0.02) + CompoundPoisson(rate=0.1, jumps=LaplaceJumps(alpha=4.0))
    masks = track(
        clip.frames,
        {0: first_masks(clip.masks)[0]},
        lambda frames: patches(frames, 4),
        side=None,
        jumps=lambda tokens: time_jumps(tokens, law),
    )
    assert masks[cut - 1].any()
    assert not masks[cut:].any()


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({}, {}, "`given` must hold a mask of the first frame, got none"),
        ({1: A}, {}, "`given` must hold a mask of the first frame, got none"),
        ({0: A * 0}, {}, "`given` must hold an object, got background alone"),
        ({0: A, 1: A[:2]}, {}, r"masks \(H, W\) of one size, got \(2, 6\) at frame 1"),
        ({0: A, 5: A}, {}, "`given` must be of frames below 2, got frame 5"),
        ({0: A}, {"top": 0}, "`top` must be at least 1"),
        ({0: A}, {"temperature": 0}, "`temperature` must be positive"),
        ({0: A}, {"jump": torch.zeros(2, 3, 3)}, r"`jump` must be \(T, 4, 6\), T frames"),
        ({0: A}, {"jump": torch.zeros(1, 4, 6)}, r"`jump` must be \(T, 4, 6\), T frames"),
    ],
)
def test_bad_input_is_named(given, options, message):
    with pytest.raises(ValueError, match=message):
        propagate(scene(A, B), given, **options)


def test_masks_of_another_type_are_named():
    with pytest.raises(TypeError, match=r"`given` must hold masks of uint8, got torch.int64"):
        propagate(scene(A), {0: A.long()})


# Folders in DAVIS's layout


@pytest.fixture(scope="module")
def clips() -> list:
    held = MovingDigits("test", 4, frames=8, cut=0.05)
    return [held[index] for index in range(4)]


@pytest.fixture
def root(clips, tmp_path: Path) -> Path:
    write_clips(clips, tmp_path / "davis")
    return tmp_path / "davis"


def test_clips_are_read_back(clips, root):
    sequences = open_davis(root)
    assert [one.name for one in sequences] == ["00000", "00001", "00002", "00003"]
    for clip, one in zip(clips, sequences, strict=True):
        assert one.frames().shape == clip.frames.shape
        error = (one.frames().float() - clip.frames.float()).abs().mean()
        assert error < 5  # JPEG, of 255
        wanted = first_masks(clip.masks)
        given = first_masks(one.masks())
        assert given.keys() == wanted.keys()
        assert all(torch.equal(given[t], mask) for t, mask in wanted.items())


def test_masks_are_written_as_davis_reads_them(clips, root, tmp_path):
    file = root / "Annotations" / "480p" / "00000" / "00003.png"
    image = Image.open(file)
    assert image.mode == "P"
    assert np.array_equal(np.array(image), clips[0].masks[3].numpy())
    colours = np.array(image.getpalette()).reshape(-1, 3)
    pascal = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128)]
    assert colours[:6].tolist() == [list(colour) for colour in pascal]
    own = [0, 0, 0, 9, 8, 7, 1, 2, 3] + [5] * 759
    write_masks(A[None], tmp_path, ["00000"], own)
    assert Image.open(tmp_path / "00000.png").getpalette()[:9] == own[:9]  # pyright: ignore


def test_annotations_judge_themselves_perfect(root):
    found = score_results(root / "Annotations" / "480p", open_davis(root))
    assert found.j_and_f == found.region.recall == 1
    assert found.region.decay == found.contour.decay == 0


def test_pixels_follow_digits_better_than_a_mask_that_stays(root, tmp_path):
    def encode(frames: torch.Tensor) -> torch.Tensor:
        return patches(frames, 4)

    found = evaluate_davis(open_davis(root), encode, tmp_path / "masks", side=128, multiple=4)
    sequences = open_davis(root)
    for one in sequences:
        given = first_masks(one.masks())
        still = torch.zeros(len(one.images), 64, 64, dtype=torch.uint8)
        for t, mask in given.items():
            still[t:][:, mask > 0] = mask[mask > 0]
        write_masks(still, tmp_path / "still" / one.name, [path.stem for path in one.images])
        palette = Image.open(one.annotations[0]).getpalette()
        assert Image.open(tmp_path / "masks" / one.name / "00001.png").getpalette() == palette
    assert found.j_and_f > score_results(tmp_path / "still", sequences).j_and_f + 0.1
    assert found == score_results(tmp_path / "masks", sequences)


def small(frames: int | None, name: str = "vit_tiny_patch16_224", **settings) -> Network:
    config = ModelConfig(
        name,
        mixer_depth=0,
        pooling="mean",
        embedding_dim=8,
        drop_path=0.0,
        overrides=settings or {"embed_dim": 12, "depth": 1, "num_heads": 2},
        patch_size=8,
        projection_hidden=8,
        patch_projection_hidden=8,
    )
    return Network(config, 32, 0, False, frames).untrained(0)


def test_networks_follow_as_their_tokens_do(root, tmp_path):
    prepare = partial(normalise, mean=(0.2,) * 3, std=(0.2,) * 3)
    sequences, network = open_davis(root), small(None)
    found = judge_sequences({"network": network}, sequences, prepare, 32, tmp_path / "judged")
    encoders = {
        "network": lambda frames: fields(network, frames, prepare),
        "pixels": lambda frames: patches(frames, 8),
    }
    for name, encode in encoders.items():
        wanted = evaluate_davis(sequences, encode, tmp_path / "wanted", side=64, multiple=8)
        assert found[name]["tracking"] == wanted.as_dict()
        assert score_results(tmp_path / "judged" / name, sequences) == wanted


def test_a_network_of_clips_that_mixes_no_frames_follows_as_one_of_images(root, tmp_path):
    clips = small(3)  # eight frames are no multiple
    images = small(None)
    clips.encoder.image.load_state_dict(images.encoder.state_dict())
    prepare = partial(normalise, mean=(0.2,) * 3, std=(0.2,) * 3)
    held = open_davis(root), prepare, 32, tmp_path
    one = judge_sequences({"clips": clips}, *held, frames=3, pixels=False)
    other = judge_sequences({"images": images}, *held, pixels=False)
    assert one == {"clips": other["images"]}


def test_a_network_bound_to_its_size_follows_at_that_size(root, tmp_path):
    pytest.importorskip("transformers")
    widths = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = small(4, "videomae", **widths)  # tokens of two frames
    sequences = open_davis(root)
    prepare = partial(normalise, mean=(0.2,) * 3, std=(0.2,) * 3)
    found = judge_sequences({"a": network}, sequences, prepare, 32, tmp_path, frames=4)
    masks = Image.open(tmp_path / "a" / "00000" / "00007.png")
    assert masks.size == (64, 64)
    assert found["a"]["tracking"]["objects"] == found["pixels"]["tracking"]["objects"] > 0


@pytest.mark.parametrize(
    ("size", "side", "seen"),
    [
        ((480, 854), 480, (480, 832)),
        ((854, 480), 480, (832, 480)),
        ((720, 1280), 480, (480, 832)),
        ((64, 64), 480, (480, 480)),
        ((96, 160), None, (96, 160)),
    ],
)
def test_the_encoder_sees_frames_of_the_protocols_size(size, side, seen):
    sizes = []

    def encode(frames: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(frames.shape))
        return torch.ones(len(frames), 2, 3, 1)

    given = {0: torch.ones(size, dtype=torch.uint8)}
    frames = torch.zeros(3, 3, *size, dtype=torch.uint8)
    assert track(frames, given, encode, side=side, batch=2).shape == (3, *size)
    assert sizes == [(2, 3, *seen), (1, 3, *seen)]


def test_folders_that_miss_something_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*train.txt"):
        open_davis(root, "train")
    sequences = open_davis(root)
    masks = root / "Annotations" / "480p" / "00000"
    with pytest.raises(FileNotFoundError, match=r"There must be a mask at .*00000.png"):
        score_results(tmp_path, sequences)
    write_masks(torch.zeros(8, 32, 32, dtype=torch.uint8), tmp_path / "00000", sequences_stems())
    with pytest.raises(ValueError, match=r"must be \(64, 64\), got \(32, 32\)"):
        score_results(tmp_path, sequences[:1])
    (masks / "00003.png").unlink()
    assert 0 in sequences[0].masks()  # later masks may be missing
    (masks / "00000.png").unlink()
    with pytest.raises(FileNotFoundError, match="00000 must have a mask of its first frame"):
        sequences[0].masks()
    images = root / "JPEGImages" / "480p"
    Image.new("RGB", (32, 32)).save(images / "00001" / "00002.jpg")
    with pytest.raises(ValueError, match="images of one size"):
        sequences[1].frames()
    (images / "00001" / "00002.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"The frame .*00002.jpg can't be decoded"):
        sequences[1].frames()
    (root / "ImageSets" / "2017" / "val.txt").write_text("nowhere\n")
    with pytest.raises(FileNotFoundError, match="nowhere must hold frames"):
        open_davis(root)
    (root / "ImageSets" / "2017" / "val.txt").write_text("\n")
    with pytest.raises(ValueError, match="at least one sequence, got none"):
        open_davis(root)


def sequences_stems() -> list[str]:
    return [f"{t:05d}" for t in range(8)]
