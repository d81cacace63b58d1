from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from levyjepa.data import (
    Batch,
    DataSettings,
    MemoryVideo,
    Rows,
    Source,
    ViewGroup,
    ViewsSettings,
    open_source,
    test_loader,
    train_loader,
)
from levyjepa.data.loader import two_views
from levyjepa.training.config import compose

CONFIG = DataSettings(batch_size=16)


@pytest.fixture(scope="module")
def few(digits: Source) -> Source:
    """100 digits to learn from and 40 to test on."""
    return replace(digits, train=Rows(digits.train, range(100)), test=Rows(digits.test, range(40)))


def same(one: Batch, other: Batch) -> bool:
    pairs = zip(one.views, other.views, strict=True)
    return torch.equal(one.labels, other.labels) and all(torch.equal(*pair) for pair in pairs)


def epoch(loader, number: int) -> list[Batch]:
    loader.batch_sampler.set_epoch(number)
    return list(loader)


def test_batches_hold_views_of_every_group_and_labels(few: Source) -> None:
    views = compose(["data=mnist5k", "views=multicrop", "model.patch_size=4"]).views
    batches = list(train_loader(few, CONFIG, views, seed=0))
    assert len(batches) == 6
    for batch in batches:
        assert [v.shape for v in batch.views] == [(2, 16, 3, 28, 28), (6, 16, 3, 64, 64)]
        assert all(v.dtype == torch.uint8 for v in batch.views)
        assert (batch.labels.dtype, batch.labels.shape, batch.corrupt) == (torch.int64, (16,), ())


def test_views_do_not_depend_on_the_number_of_workers(few: Source) -> None:
    alone = train_loader(few, CONFIG, ViewsSettings(), seed=3)
    helped = train_loader(few, CONFIG.replace(workers=2), ViewsSettings(), seed=3)
    for number in (0, 1, 4):
        expected, found = epoch(alone, number), epoch(helped, number)
        assert len(found) == 6
        assert all(map(same, expected, found))


def test_epochs_seeds_and_images_bring_other_views(few: Source) -> None:
    def views(seed: int, number: int, index: int) -> Tensor:
        return train_loader(few, CONFIG, ViewsSettings(), seed).dataset[number, index][0][0]

    first = views(0, 0, 5)
    assert torch.equal(first, views(0, 0, 5))
    assert not torch.equal(first, views(0, 1, 5))
    assert not torch.equal(first, views(1, 0, 5))
    twins = replace(few, train=Rows(few.train, [5] * 100))  # one image, by two indices
    dataset = train_loader(twins, CONFIG, ViewsSettings(), 0).dataset
    assert not torch.equal(dataset[0, 5][0][0], dataset[0, 6][0][0])


def test_a_run_resumes_in_the_middle_of_an_epoch(few: Source) -> None:
    whole = epoch(train_loader(few, CONFIG, ViewsSettings(), seed=0), 2)
    resumed = train_loader(few, CONFIG, ViewsSettings(), seed=0, start=(2, 4))
    assert len(resumed) == 6
    rest = list(resumed)
    assert len(rest) == 2
    assert all(map(same, whole[4:], rest))
    assert len(epoch(resumed, 3)) == 6


def test_ranks_share_an_epoch_without_overlap(few: Source) -> None:
    config = CONFIG.replace(batch_size=8)

    def drawn(rank: int, ranks: int) -> list[list[int]]:
        loader = train_loader(few, config, ViewsSettings(), seed=0, rank=rank, world_size=ranks)
        return [[index for _, index in batch] for batch in loader.batch_sampler]

    ranks = [drawn(rank, 3) for rank in range(3)]
    assert [len(batches) for batches in ranks] == [4, 4, 4]
    indices = [index for batches in ranks for batch in batches for index in batch]
    assert len(set(indices)) == len(indices) == 96
    one = train_loader(few, config.replace(batch_size=24), ViewsSettings(), seed=0)
    for joint, *parts in zip(one.batch_sampler, *ranks, strict=True):
        assert {i for _, i in joint} == {i for part in parts for i in part}


def test_two_views_are_a_function_of_the_key(few: Source) -> None:
    views = ViewsSettings(groups=[ViewGroup(count=1, size=20), ViewGroup(size=8)])
    image, video = few.train[0][0], MemoryVideo(torch.randint(0, 256, (9, 3, 30, 40)).byte())
    for item, data, shape in (
        (image, CONFIG, (3, 20, 20)),
        (np.asarray(image), CONFIG, (3, 20, 20)),
        (video, CONFIG.replace(frames=4), (4, 3, 20, 20)),
    ):
        one, other = two_views(item, views, data, (0, 7))
        assert one.shape == other.shape == shape
        assert not torch.equal(one, other)
        assert torch.equal(one, two_views(item, views, data, (0, 7))[0])
        assert not torch.equal(one, two_views(item, views, data, (0, 8))[0])


def test_a_label_without_a_class_is_named_when_it_is_loaded(few: Source) -> None:
    source = replace(few, classes=())
    with pytest.raises(ValueError, match=r"The label of train digit \d+ must be -1, as"):
        next(iter(train_loader(source, CONFIG, ViewsSettings(), seed=0)))


def test_fewer_images_than_a_batch_is_an_error(few: Source) -> None:
    with pytest.raises(ValueError, match="must be at most 50, as there are 100 training"):
        train_loader(few, CONFIG.replace(batch_size=64), ViewsSettings(), seed=0, world_size=2)


def test_test_images_come_whole_in_order_and_none_is_dropped(few: Source) -> None:
    batches = list(test_loader(few.test, CONFIG.replace(image_size=32)))
    assert [len(b.labels) for b in batches] == [16, 16, 8]
    assert torch.cat([b.labels for b in batches]).tolist() == [few.test[i][1] for i in range(40)]
    assert (batches[0].images.shape, batches[0].images.dtype) == ((16, 3, 32, 32), torch.uint8)


def test_test_images_are_the_center_of_a_wide_frame(shared_data: Path) -> None:
    folder = shared_data / "camvid" / "val" / "images"
    source = open_source(DataSettings(source="unlabelled", path=str(folder)))
    batch = next(iter(test_loader(source.train, DataSettings(image_size=90, batch_size=2))))
    frame, _ = source.train[0]
    center = frame.resize((120, 90), Image.Resampling.BILINEAR).crop((15, 0, 105, 90))
    assert batch.images.shape == (2, 3, 90, 90)
    assert (batch.images[0].int() - pil_to_tensor(center).int()).abs().max() <= 1


@pytest.fixture
def damaged(class_folders: Path, tmp_path: Path) -> Source:
    """199 digits and an image that is none, first in order."""
    (tmp_path / "digits").mkdir()
    images = [Image.open(path) for path in sorted(class_folders.rglob("*.png"))]
    for i in range(199):
        images[i % 20].save(tmp_path / "digits" / f"{i:03}.png")
    (tmp_path / "digits" / "000.jpg").write_bytes(b"not an image")
    for split in ("train", "test"):
        (tmp_path / "all" / split).mkdir(parents=True)
        (tmp_path / "all" / split / "digits").symlink_to(tmp_path / "digits")
    return open_source(DataSettings(source="folder", path=str(tmp_path / "all")))


def test_a_corrupt_image_is_left_out_and_named(damaged: Source) -> None:
    config = CONFIG.replace(batch_size=50)
    batches = list(train_loader(damaged, config, ViewsSettings(), seed=0))
    assert sorted(len(batch.labels) for batch in batches) == [49, 50, 50, 50]
    assert sorted(batch.views[0].shape[1] for batch in batches) == [49, 50, 50, 50]
    (name,) = [name for batch in batches for name in batch.corrupt]
    assert name.endswith("000.jpg")
    assert sum(len(batch.labels) for batch in test_loader(damaged.test, config)) == 199


def test_a_test_batch_of_corrupt_images_alone_is_empty(damaged: Source) -> None:
    batch = next(iter(test_loader(damaged.test, CONFIG.replace(batch_size=1))))
    assert (batch.images.shape, batch.labels.shape) == ((0, 3, 28, 28), (0,))
    assert len(batch.corrupt) == 1
