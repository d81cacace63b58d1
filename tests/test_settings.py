"""Settings: presets say what they promise, and wrong settings are named."""

import pytest
import yaml

from levyjepa.settings import ConfigError, describe
from levyjepa.training.config import change_data, compose, from_dict, presets, short_keys, sweep


@pytest.mark.parametrize(
    ("name", "kappa", "rate", "lr", "published"),
    [
        ("exp1", 1.0, "2.0", 5e-4, {"gamma=0": 0.90726, "gamma=1": 0.91287}),
        ("exp2", 0.0, "1.0", 5e-5, {"gamma=0": 0.56943, "gamma=1": 0.59057}),
    ],
)
def test_experiments_hold_the_original_hyper_parameters(name, kappa, rate, lr, published):
    config = compose([f"experiment={name}"])
    data, views, model = config.data, config.views, config.model
    objective, optimizer, trainer = config.objective, config.optimizer, config.trainer
    assert (data.source, data.image_size, data.batch_size) == ("imagenette", 128, 96)
    assert [(g.count, g.size or data.image_size, tuple(g.scale)) for g in views.groups] == [
        (4, 128, (0.08, 1.0))
    ]
    assert (views.jitter, views.brightness, views.contrast) == (0.8, 0.8, 0.8)
    assert (views.saturation, views.hue, views.gray, views.flip) == (0.8, 0.2, 0.2, 0.5)
    assert (views.blur, views.blur_kernel, tuple(views.blur_sigma)) == (0.5, 7, (0.1, 2.0))
    assert (views.solarize, views.rotation) == (0.2, 0.0)
    assert (model.name, model.patch_size, model.pooling) == (
        "vit_small_patch8_224",
        None,
        "attention",
    )
    assert (model.embedding_dim, model.drop_path, model.pretrained) == (512, 0.1, False)
    assert model.overrides == {}
    assert (model.projection_hidden, model.projection_dim) == (2048, 16)
    assert (model.patch_projection_hidden, model.patch_projection_dim) == (2048, 16)
    assert objective.law == (
        f"Brownian(sigma=0.125) + CompoundPoisson(rate={rate}, jumps=LaplaceJumps(alpha=1.0))"
    )
    assert (objective.quadrature, objective.nodes) == ("gauss_laguerre", 17)
    assert objective.stencils == ["box(2)", "diamond()"]
    assert (objective.kappa, objective.lamb) == (kappa, 0.02)
    assert (objective.num_directions, objective.knots) == (256, 17)
    assert (optimizer.lr, optimizer.probe_lr) == (lr, 1e-3)
    assert (optimizer.weight_decay, optimizer.probe_weight_decay) == (5e-2, 1e-7)
    assert optimizer.warmup_epochs == 1
    assert (trainer.max_epochs, trainer.precision) == (800, "auto")
    assert trainer.gradient_clip is None
    assert config.experiment is not None
    assert config.experiment.sweep["objective.gamma"] == [0, 1]
    assert config.experiment.published == published


def test_data_chooses_a_model_and_views_that_fit_unless_told_otherwise():
    assert compose([]).model.patch_size == 4
    assert compose(["data=imagenette"]).model.name == "vit_small_patch8_224"
    assert compose(["experiment=demo"]).model.patch_size == 8
    assert compose(["data=imagenette", "model=tiny"]).model.patch_size == 4
    assert compose(["model.overrides.depth=2"]).model.overrides["depth"] == 2
    law = "Brownian(sigma=1.0) + CompoundPoisson(rate=1.0, jumps=GaussianJumps(sigma=2.0))"
    assert compose([f"objective.law={law}"]).objective.law == law
    stencils = compose(["objective.stencils=[box(2), line(2, axis=0)]"]).objective.stencils
    assert stencils == ["box(2)", "line(2, axis=0)"]
    assert compose(["model.overrides.reg_tokens=4"]).model.overrides["reg_tokens"] == 4


def test_a_model_named_by_hand_keeps_nothing_of_another_that_a_preset_shaped():
    size = "data.image_size=32"
    model = compose([size, "model.name=vit_small_patch8_224"]).model
    assert (model.patch_size, model.overrides) == (None, {})
    model = compose(["model.name=vit_small_patch8_224", "model.patch_size=4"]).model
    assert (model.patch_size, model.overrides) == (4, {})
    words = ["model.name=vit_small_patch8_224", "model.overrides.depth=2", "model.patch_size=4"]
    assert compose(words).model.overrides == {"depth": 2}
    assert compose([*words[::2], "model.overrides={depth:3}"]).model.overrides == {"depth": 3}
    assert compose(["model.embedding_dim=64"]).model.overrides["embed_dim"] == 96


def test_settings_describe_themselves_in_yaml():
    config = compose(["experiment=demo", "views.groups=[{count:1},{count:2,size:20}]"])
    text = describe(config)
    assert yaml.safe_load(text) == config.as_dict()
    assert "# Learning rate at batch 256; scaled by sqrt(batch / 256)." in text
    undescribed = [line for line in text.splitlines() if "#" not in line]
    assert not [line for line in undescribed if line.rstrip().endswith(("null", "true", "false"))]


def test_settings_survive_a_file():
    config = compose(["experiment=exp1"])
    assert from_dict(yaml.safe_load(yaml.safe_dump(config.as_dict()))) == config


@pytest.mark.parametrize("group", ["data", "views", "model", "objective", "experiment"])
def test_every_preset_has_a_line_of_help_and_composes(group):
    for name, help_line in presets(group).items():
        assert len(help_line) > 20, name
        words = [f"{group}={name}"]
        if group != "data" and name.startswith(("clips", "video")):
            words.append("data=moving_digits")
        compose(words)


@pytest.mark.parametrize(
    "path", ["archive (1)", "日本語", "a=b", "C#", "it's", "x{1}", "a, b", "[x]", "1e3", "C:\\x"]
)
def test_a_folder_may_have_any_name(path):
    assert compose([f"data.path={path}"]).data.path == path
    assert compose([f"run_dir={path}"]).run_dir == path


def test_values_are_read_as_their_setting_asks():
    config = compose(["optimizer.lr=3e-3", "data.limit=null", "trainer.progress=false", "seed=7"])
    assert (config.optimizer.lr, config.data.limit) == (3e-3, None)
    assert (config.trainer.progress, config.seed) == (False, 7)
    assert compose(["views.groups.0.count=2"]).views.groups[0].count == 2
    assert compose(["views.blur_sigma=[0.1, 1]"]).views.blur_sigma == (0.1, 1.0)
    assert compose(["objective.law='Brownian(0.2)'"]).objective.law == "Brownian(0.2)"
    with_classes = compose(["data=camvid", "data.classes=[sky, road]", "data.void=2"])
    assert with_classes.data.classes == ["sky", "road"]


def test_several_values_make_a_grid():
    single, several = sweep(["data=cifar10", "seed=0,1", "objective.stencils=[box(2),diamond()]"])
    assert single == ["data=cifar10", "objective.stencils=[box(2),diamond()]"]
    assert several == {"seed": ["0", "1"]}


def test_short_keys_tell_settings_apart():
    short = short_keys(["objective.gamma", "objective.time.weight", "seed", "model.name"])
    assert list(short.values()) == ["gamma", "time.weight", "seed", "model.name"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("objective.gama=1", "Unknown key `objective.gama`; did you mean `objective.gamma`"),
        ("gamma=1", "did you mean `objective.gamma`"),
        ("data=mnist6k", "did you mean `data=mnist5k`.* Presets: .*mnist5k"),
        ("experiment=exp3", "Presets: camvid, cifar10, demo, exp1, exp2"),
        ("objective.gamma=abc", "`objective.gamma` must be a number, got 'abc'"),
        ("seed=1.5", "`seed` must be an integer, got 1.5"),
        ("trainer.progress=maybe", "`trainer.progress` must be true or false"),
        ("seed=0,1", "`seed` must be one value, got 0,1"),
        ("seed", "must read KEY=VALUE"),
        ("cifar10", "such as data=cifar10"),
        ("objective=levy objective.time={weight: 2}", "is a group of settings"),
        ("experiment.name=mine", "need a preset"),
        ("objective.gamma=-1", "`objective.gamma` must be at least 0, got -1"),
        ("objective.gamma=nan", "`objective.gamma`"),
        ("objective.kappa=inf", "`objective.kappa`"),
        ("objective.lamb=1.5", "`objective.lamb` must be at most 1, got 1.5"),
        ("objective.law=Gauss()", "`objective.law`: .*Gauss"),
        ("objective.law=Browian(1)", "there is no `Browian`; did you mean `Brownian`"),
        ("objective.law=Brownian(-0.2)", r"must be positive, got -0\.2"),
        ("objective.stencils=[bux(2)]", r"`objective.stencils\[0\]`: .*bux"),
        ("objective.stencils=[box(3)]", r"`objective.stencils\[0\]` must have 2 dimensions"),
        ("objective.quadrature=simpson", "must be one of 'equispaced', 'gauss_laguerre'"),
        ("optimizer.lr=0", "`optimizer.lr` must be greater than 0"),
        ("trainer.gradient_clip=-1", "`trainer.gradient_clip` must be greater than 0"),
        ("trainer.devices=0", "`trainer.devices` must be at least 1, got 0"),
        ("data.batch_size=0", "`data.batch_size` must be at least 1"),
        ("data.holdout=1", "`data.holdout` must be less than 1"),
        ("data.digits=[3, 2]", "`data.digits` must be"),
        ("views.groups=[{count:0}]", r"`views.groups\[0\].count` must be at least 1"),
        ("views.groups=[{scale:[0.5,0.1]}]", r"`views.groups\[0\].scale`: must rise"),
        ("views.groups=[{sise:4}]", "Unknown key `.*sise`"),
        ("views.blur=2", "`views.blur` must be at most 1"),
        ("views.blur_kernel=4", "`views.blur_kernel`: must be odd"),
        ("model.pooling=max", "`model.pooling` must be one of 'attention', 'cls', 'mean'"),
    ],
)
def test_a_wrong_setting_is_named(words, message):
    parts = words.split(" ", 1) if words.startswith("objective=") else [words]
    with pytest.raises(ConfigError, match=message):
        compose(parts)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("data=moving_digits views=lejepa", "`views=lejepa` is for images, .*gives clips"),
        (
            "data=hub data.path=x data.frames=8",
            "`views=lejepa` is for images, .* choose views=clips",
        ),
        ("views=clips", "`views=clips` is for video, and data=mnist5k gives images"),
        (
            "data=cifar10 model=video_tiny",
            "`model=video_tiny` is for video, and data=cifar10 gives images",
        ),
        ("data.stride=2", "`data.stride` only applies to video"),
        ("data.rate=5", "`data.rate` only applies to video"),
        ("objective.time_step=2", "`objective.time_step` only applies to video"),
        ("objective.time.weight=2", "`objective.time` only applies to video"),
        ("model.mixer_depth=3", "`model.mixer_depth` only applies to video"),
        ("data=moving_digits data.rate=0", "`data.rate` must be greater than 0"),
        (
            "data=moving_digits views.groups.0.frames=9",
            r"`views.groups\[0\].frames` must be at most",
        ),
        (
            "data=moving_digits objective.space.weight=0 objective.time.weight=0 "
            "objective.spacetime.weight=0",
            "a weight above 0",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(words, message):
    with pytest.raises(ConfigError, match=message):
        compose(words.split())


def test_only_data_changes_in_an_evaluation():
    config = compose(["data=cifar10", "data.path=here"])
    assert change_data(config, []) is config
    moved = change_data(config, ["data.path=there", "data.limit=5"])
    assert (moved.data.path, moved.data.limit, moved.data.image_size) == ("there", 5, 32)
    other = change_data(config, ["data=camvid", "data.path=street"])
    assert (other.data.source, other.data.image_size) == ("segmentation", 96)
    assert other.model == config.model
    with pytest.raises(ConfigError, match=r"`objective.gamma` can't change here"):
        change_data(config, ["objective.gamma=0"])
    with pytest.raises(ConfigError, match="`data` must give images, as in training, got clips"):
        change_data(config, ["data=moving_digits"])
