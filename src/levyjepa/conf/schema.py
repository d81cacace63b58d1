"""Every setting of a run, with its type and its default."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class DataConfig:
    """Where images or clips come from; `data=NAME` picks a preset."""

    # mnist5k, cifar10, imagenette, hub, parquet, folder, unlabelled, segmentation, moving_digits,
    # videofolder, davis
    source: str = "mnist5k"
    path: str | None = None  # a folder, or the id of a hub data set
    subset: str | None = None  # the hub data set's configuration, as "160px" of Imagenette
    train_split: str = "train"
    test_split: str = "test"
    image_column: str | None = None  # None: found from the features
    label_column: str | None = None
    mask_column: str | None = None
    classes: list[str] | None = None  # names of a mask's ids, in their order; None: numbers
    void: int | None = None  # the id of a mask's pixels that count for nothing
    holdout: float = 0.0  # this share of the training images is judged instead of the test images
    limit: int | None = None  # at most so many images of each split, for a quick look; None: all
    image_size: int = 28  # pixels, of test images and of views that name no size
    frames: int | None = None  # of a clip; None: images
    stride: int = 1  # from one frame of a clip to the next
    rate: float | None = None  # of a clip, frames a second by their times, in place of stride
    digits: tuple[int, int] = (1, 2)  # the least and the most in a scene of moving_digits
    batch_size: int = 96  # images or clips, before views, on each rank
    workers: int = 0  # loader processes


@dataclass
class ViewGroup:
    """`count` views of each image, `size` pixels wide, cropped to `scale` of its area."""

    count: int = 4
    size: int | None = None  # None: data.image_size
    frames: int | None = None  # of a clip; None: data.frames
    scale: tuple[float, float] = (0.08, 1.0)


@dataclass
class ViewsConfig:
    """How views differ; the first group holds the global views."""

    groups: list[ViewGroup] = field(default_factory=lambda: [ViewGroup()])
    flip: float = 0.5  # probabilities
    jitter: float = 0.8
    brightness: float = 0.8  # strengths of the jitter
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    gray: float = 0.2
    blur: float = 0.5
    blur_kernel: int = 7
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.2
    rotation: float = 0.0  # degrees, either way


@dataclass
class ModelConfig:
    """The encoder and its heads."""

    # Any ViT of timm, applied to each frame of clips; of clips also videomae, vjepa2, or a folder
    # or hub id of transformers.
    name: str = "vit_small_patch8_224"
    mixer_depth: int = 1  # blocks that mix the frames of a clip, after a ViT of timm
    patch_size: int | None = None  # None: the name's own
    pooling: str = "attention"  # attention, cls, mean
    embedding_dim: int = 512
    drop_path: float = 0.1
    pretrained: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)  # further arguments of the ViT
    projection_hidden: int = 2048
    projection_dim: int = 16
    patch_projection: str = "mlp"  # what the prior sees of the tokens: mlp, linear, none
    patch_projection_hidden: int = 2048
    patch_projection_dim: int = 16


@dataclass
class TermConfig:
    """One kind of increments of a clip."""

    weight: float = 1.0  # 0 leaves it out
    law: str | None = None  # None: objective.law


@dataclass
class ObjectiveConfig:
    """gamma * levy + lamb * sigreg + kappa * (1 - lamb) * invariance."""

    prior: str = "levy"  # levy, total_variation (a control: smoothness without a law)
    gamma: float = 1.0
    kappa: float = 1.0
    lamb: float = 0.02
    law: str = "Brownian(sigma=0.125) + CompoundPoisson(rate=2.0, jumps=LaplaceJumps(alpha=1.0))"
    stencils: list[str] = field(default_factory=lambda: ["box(2)", "diamond()"])  # of each frame
    space: TermConfig = field(default_factory=TermConfig)  # of clips: the stencils in every frame
    time: TermConfig = field(default_factory=TermConfig)  # of clips: lines of time at every place
    spacetime: TermConfig = field(default_factory=TermConfig)  # of clips: boxes of both
    pace: float = 1.0  # of a clip: a step of time, in steps of space
    quadrature: str = "equispaced"  # equispaced, gauss_laguerre
    nodes: int = 64
    calibrated: bool = False  # measure in null deviations above the null mean
    learnable: bool = False  # the law's shape trains with the network, its scale held
    cells: str = "overlapping"  # overlapping, one, every: of the disjoint tilings
    num_directions: int = 256
    knots: int = 17


@dataclass
class OptimizerConfig:
    """AdamW, a linear warm-up, then a cosine."""

    lr: float = 5e-4  # at batch 256; scaled by sqrt(batch / 256), batch over all ranks
    weight_decay: float = 5e-2
    probe_lr: float = 1e-3
    probe_weight_decay: float = 1e-7
    warmup_epochs: float = 1.0


@dataclass
class TrainerConfig:
    """What Lightning's Trainer is told."""

    max_epochs: int = 20
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"  # auto: bf16-mixed on a GPU, 32-true elsewhere
    gradient_clip: float | None = None
    compile: bool = False
    progress: bool = True
    evaluate: bool = True  # after training; the same command with true evaluates later
    max_steps: int = -1


@dataclass
class LoggerConfig:
    """Beside CSV and TensorBoard, which are always written."""

    wandb: bool = False
    trackio: bool = False
    project: str = "levyjepa"


@dataclass
class ExperimentConfig:
    """A grid of runs, paired by seed: every combination of the values in `sweep`."""

    name: str = "demo"
    sweep: dict[str, list[Any]] = field(default_factory=dict)  # override: its values
    published: dict[str, float] = field(default_factory=dict)  # accuracy seen elsewhere, by cell


@dataclass
class Config:
    """A run, or the grid of runs around it."""

    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    experiment: ExperimentConfig | None = None
    seed: int = 0
    run_dir: str | None = None  # None: runs/<data>-<time>
