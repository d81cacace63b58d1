import pytest

from levyjepa.data import DataSettings, Rows, Source, open_source
from levyjepa.training import Config, compose

SMALL = (
    "model.overrides.depth=1",
    "model.overrides.embed_dim=48",
    "model.projection_hidden=32",
    "model.patch_projection_hidden=32",
    "model.drop_path=0.1",
    "data.batch_size=24",
    "trainer.max_epochs=2",
    "trainer.progress=false",
    "trainer.accelerator=cpu",
    "trainer.evaluate=false",
)


@pytest.fixture(scope="session")
def digits() -> Source:
    """96 real digits to train on and 60 to test on: four steps an epoch."""
    whole = open_source(DataSettings())
    train, test = Rows(whole.train, range(0, 96 * 41, 41)), Rows(whole.test, range(0, 960, 16))
    return Source("digits", train, test, whole.classes, whole.mean, whole.std)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Settings of a run of eight steps, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)

    def settings(*words: str) -> Config:
        return compose([*SMALL, *words])

    return settings


@pytest.fixture(scope="session")
def unlabelled(digits) -> Source:
    """The same training images without labels and without a test split."""
    images = [(digits.train[index][0], -1) for index in range(len(digits.train))]
    return Source("unlabelled", images, mean=digits.mean, std=digits.std)
