"""Settings: presets say what they promise, and wrong settings are named."""

import pytest
import yaml

from levyjepa.conf.compose import ConfigError, amend, compose, from_dict, to_dict
from levyjepa.conf.explain import explain


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
    assert compose(["experiment=demo"]).model.patch_size == 4
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
    given = ["model.name=vit_small_patch8_224", "model.overrides.depth=2", "model.patch_size=4"]
    assert compose(given).model.overrides == {"depth": 2}
    assert compose([*given[::2], "model.overrides={depth:3}"]).model.overrides == {"depth": 3}
    assert compose(["model.embedding_dim=64"]).model.overrides["embed_dim"] == 96


def test_settings_explain_themselves_in_yaml():
    config = compose(["experiment=demo", "views.groups=[{count:1},{count:2,size:20}]"])
    text = explain(config)
    assert yaml.safe_load(text) == to_dict(config)
    assert "lr: 0.01  # at batch 256; scaled by sqrt(batch / 256)" in text
    assert "optimizer:  # AdamW, a linear warm-up, then a cosine." in text


def test_settings_survive_a_file():
    config = compose(["experiment=demo"])
    assert to_dict(from_dict(to_dict(config))) == to_dict(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.gama=1", "Unknown key `objective.gama`; did you mean `objective.gamma`"),
        ("gamma=1", "did you mean `objective.gamma`"),
        ("+foo=1", "Unknown key `foo`"),
        ("data=mnist6k", "did you mean `data=mnist5k`.* There are: .*mnist5k"),
        ("experiment=exp3", "There are: camvid, cifar10, demo, exp1, exp2"),
        ("objective.gamma=abc", "`objective.gamma` must be a number, got 'abc'"),
        ("seed=1.5", "`seed` must be an integer, got '1.5'"),
        ("trainer.progress=maybe", "`trainer.progress` must be true or false"),
        ("seed=0,1", "`seed` must be one value, got 0,1"),
        ("seed", "An override must read `key=value`"),
        ("cifar10", "An override must read `key=value`, as data=cifar10"),
        ("experiment.name=mine", "needs a preset"),
        ("objective.gamma=-1", "`objective.gamma` must"),
        ("objective.gamma=nan", "`objective.gamma` must"),
        ("objective.kappa=-0.1", "`objective.kappa` must"),
        ("objective.lamb=1.5", "`objective.lamb` must be between 0 and 1, got 1.5"),
        ("objective.law=Gauss()", "`objective.law`: .*Gauss"),
        ("objective.law=Browian(1)", "there is no `Browian`; did you mean `Brownian`"),
        ("objective.law=Brownian(-0.2)", r"must be positive, got -0\.2\.$"),
        ("objective.law=Brownian(1),Brownian(2)", "`objective.law` must be one value, got"),
        ("hydra/launcher=elsewhere", "needs `pip install hydra-elsewhere-launcher`"),
        ("objective.stencils=[bux(2)]", r"`objective.stencils\[0\]`: .*bux"),
        ("objective.stencils=[box(3)]", r"`objective.stencils\[0\]` must be of 2 dimensions"),
        ("objective.quadrature=simpson", "must be one of equispaced, gauss_laguerre"),
        ("optimizer.lr=0", "`optimizer.lr` must be positive"),
        ("trainer.gradient_clip=-1", "`trainer.gradient_clip` must be positive"),
        ("trainer.devices=0", "`trainer.devices` must be at least 1, got 0"),
        ("data.batch_size=0", "`data.batch_size` must be at least 1"),
        ("data.source=nowhere", "`data.source` must be one of mnist5k, "),
        ("data.image_size=30", "`data.image_size` must be a multiple of the patch size 4, got 30"),
        ("data.image_size=8", "must give a grid of at least 3 x 3 patches"),
        ("views.groups=[{count:0}]", r"`views.groups\[0\].count` must be at least 1"),
        ("views.groups=[{size:10}]", r"`views.groups\[0\].size` must be a multiple"),
        ("views.groups=[{scale:[0.5,0.1]}]", r"`views.groups\[0\].scale` must rise"),
        ("views.groups=[{sise:4}]", "Unknown key `.*sise`"),
        ("views.blur=2", "`views.blur` must be between 0 and 1"),
        ("model.pooling=max", "`model.pooling` must be one of attention, cls, mean"),
    ],
)
def test_a_wrong_setting_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        compose([override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("data=moving_digits views=lejepa", "`views=lejepa` is of images, .* write views=clips"),
        ("data=hub data.path=x data.frames=8", "`views=lejepa` is of images, .* write views=clips"),
        ("data=moving_digits views=multicrop", "`views=multicrop` is of images"),
        ("views=clips", "`views=clips` is of clips, and data.source=mnist5k gives images"),
        ("data=cifar10 model=video_tiny", "`model=video_tiny` is of clips, .* write model=tiny"),
        ("data=cifar10 data.frames=8", "`data.frames` must be null for data.source=cifar10"),
        ("data=moving_digits data.frames=null", "`data.frames` must be a number of frames"),
        ("data=moving_digits data.rate=0", "`data.rate` must be positive"),
        ("data=cifar10 data.rate=5", "`data.rate` is of clips, which data.source=cifar10 has not"),
        ("model.mixer_depth=2", "`model.mixer_depth` is of clips"),
        ("model.name=videomae", "`model.name=videomae` is of clips"),
        ("data=videofolder data.digits=[1,3]", "`data.digits` is of moving_digits"),
    ],
)
def test_what_is_of_clips_is_refused_for_images_and_the_reverse(overrides, message):
    with pytest.raises(ConfigError, match=message):
        compose(overrides.split())


def test_views_that_fit_both_images_and_clips_are_taken_by_both():
    for views in ("plain", "digits"):
        assert compose(["data=moving_digits", f"views={views}"]).data.frames == 8
        assert compose([f"views={views}"]).data.frames is None
    assert compose(["data=moving_digits", "model=tiny"]).model.patch_size == 4
    with pytest.raises(ConfigError, match="`data` must be clips, as the checkpoint's own, got im"):
        amend(compose(["data=moving_digits"]), ["data=mnist5k"])
    with pytest.raises(ConfigError, match="`data` must be images, as the checkpoint's own"):
        amend(compose([]), ["data=moving_digits"])


def test_a_grid_too_small_matters_only_with_the_prior():
    small = ["data.image_size=8", "views.groups=[{size:8}]"]
    assert compose([*small, "objective.gamma=0"]).data.image_size == 8


def test_only_the_images_of_a_checkpoint_may_change():
    config = compose(["objective.gamma=0"])
    amended = amend(config, ["data=imagenette", "data.batch_size=7"])
    assert (amended.data.source, amended.data.batch_size) == ("imagenette", 7)
    assert amended.objective.gamma == 0
    with pytest.raises(ConfigError, match=r"`objective.gamma` is the checkpoint's own"):
        amend(config, ["objective.gamma=1"])


def test_a_checkpoint_of_clips_is_judged_by_clips_of_either_kind_of_data():
    own = compose(["data=moving_digits"])
    config = amend(own, ["data=davis", "data.path=DAVIS", "data.frames=4"])
    assert (config.data.source, config.data.frames, config.views) == ("davis", 4, own.views)
    with pytest.raises(ConfigError, match="`data` must be clips"):
        amend(own, ["data=davis", "data.path=DAVIS"])
