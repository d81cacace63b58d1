import pytest
from torch.utils.data import Subset

from levyjepa.conf.compose import compose
from levyjepa.conf.schema import DataConfig
from levyjepa.data import Source, load_source
from levyjepa.training import run

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
)


@pytest.fixture(scope="session")
def digits() -> Source:
    """96 real digits to train on and 60 to test on: four steps an epoch."""
    whole = load_source(DataConfig())
    train, test = Subset(whole.train, range(0, 96 * 41, 41)), Subset(whole.test, range(0, 960, 16))
    return Source("digits", train, test, whole.classes, whole.mean, whole.std)


@pytest.fixture
def small(digits, monkeypatch, tmp_path):
    """Settings of a run of eight steps on those digits, in a folder of the test's own."""
    monkeypatch.setattr(run, "load_source", lambda config: digits)
    monkeypatch.chdir(tmp_path)

    def settings(*overrides: str):
        return compose([*SMALL, *overrides])

    return settings


@pytest.fixture
def overrides() -> list[str]:
    """What `small` puts before a test's own settings."""
    return list(SMALL)
