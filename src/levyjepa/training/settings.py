"""Settings of the objective, the optimizer, the trainer and of a whole run."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from levyjepa.data.settings import DataSettings, Probability, Strength, ViewsSettings
from levyjepa.models.settings import ModelSettings
from levyjepa.settings import Settings

LAW = "Brownian(sigma=0.125) + CompoundPoisson(rate=2.0, jumps=LaplaceJumps(alpha=1.0))"


def _law(text: str) -> str:
    """Check the text of one law for all channels."""
    from levyjepa import laws

    law = laws.parse_law(text)
    if not isinstance(law, laws.Law):
        raise ValueError(f"must be one law for all channels, got {text}.")
    return text


class TermSettings(Settings):
    """One kind of increments of a clip."""

    weight: Strength = Field(default=1.0, description="Weight of this kind; 0 leaves it out.")
    law: str | None = Field(default=None, description="Its law; null: objective.law.")

    @field_validator("law")
    @classmethod
    def _check_law(cls, text: str | None) -> str | None:
        return text if text is None else _law(text)


class ObjectiveSettings(Settings):
    """gamma * levy + lamb * sigreg + kappa * (1 - lamb) * invariance."""

    prior: Literal["levy", "total_variation"] = Field(
        default="levy", description="levy, or total_variation: a control without a law."
    )
    gamma: Strength = Field(default=1.0, description="Weight of the prior; 0 is LeJEPA.")
    kappa: Strength = Field(default=1.0, description="Weight of the invariance.")
    lamb: Probability = Field(default=0.02, description="Weight of SIGReg.")
    law: str = Field(default=LAW, description="Law of increments per unit volume.")
    stencils: list[str] = Field(
        default=["box(2)", "diamond()"], min_length=1, description="Stencils of an image or frame."
    )
    space: TermSettings = Field(
        default=TermSettings(), description="Stencils of a frame; video only."
    )
    time: TermSettings = Field(default=TermSettings(), description="Lines in time; video only.")
    spacetime: TermSettings = Field(
        default=TermSettings(), description="Boxes of both; video only."
    )
    time_step: float = Field(
        default=1.0, gt=0, description="Length of a step in time, in steps of space; video only."
    )
    quadrature: Literal["equispaced", "gauss_laguerre"] = Field(
        default="equispaced", description="Frequencies and weights: equispaced, gauss_laguerre."
    )
    nodes: int = Field(default=64, ge=1, description="Number of frequencies.")
    scale: Literal["fixed", "tokens", "free"] = Field(
        default="fixed",
        description="Units of the law: fixed (the field's values), tokens (their deviation), free "
        "(the increments' own).",
    )
    unbiased: bool = Field(default=True, description="Take the noise floor out of the prior.")
    calibrated: bool = Field(default=False, description="Use null deviations above the null mean.")
    learnable: bool = Field(default=False, description="Train the law's shape with the network.")
    cells: Literal["overlapping", "one", "every"] = Field(
        default="overlapping", description="Cells: overlapping, one disjoint tiling, every tiling."
    )
    num_directions: int = Field(default=256, ge=1, description="Random directions of SIGReg.")
    knots: int = Field(default=17, ge=2, description="Frequencies of SIGReg.")

    @field_validator("law")
    @classmethod
    def _check_law(cls, text: str) -> str:
        return _law(text)

    @field_validator("stencils")
    @classmethod
    def _check_stencils(cls, texts: list[str]) -> list[str]:
        from levyjepa.lattice import parse_stencils

        for i, text in enumerate(texts):
            try:
                ndims = {stencil.ndim for stencil in parse_stencils(text)}
            except ValueError as error:
                raise ValueError(f"`objective.stencils[{i}]`: {error}") from error
            if ndims != {2}:
                raise ValueError(f"`objective.stencils[{i}]` must have 2 dimensions, got {text}.")
        return texts


class OptimizerSettings(Settings):
    """AdamW, a linear warm-up, then a cosine."""

    lr: float = Field(
        default=5e-4, gt=0, description="Learning rate at batch 256; scaled by sqrt(batch / 256)."
    )
    weight_decay: Strength = Field(default=5e-2, description="Weight decay of the network.")
    probe_lr: float = Field(default=1e-3, gt=0, description="Learning rate of the online probe.")
    probe_weight_decay: Strength = Field(default=1e-7, description="Its weight decay.")
    warmup_epochs: Strength = Field(default=1.0, description="Epochs of linear warm-up.")


class TrainerSettings(Settings):
    """Arguments of Lightning's Trainer."""

    max_epochs: int = Field(default=20, ge=1, description="Epochs.")
    accelerator: str = Field(default="auto", description="auto, cpu, gpu, mps.")
    devices: int = Field(default=1, ge=1, description="Devices on each node.")
    num_nodes: int = Field(default=1, ge=1, description="Nodes.")
    strategy: str = Field(default="auto", description="Lightning's strategy.")
    precision: str = Field(default="auto", description="auto: bf16-mixed on GPUs, else 32-true.")
    gradient_clip: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Largest norm of the gradient."
    )
    compile: bool = Field(default=False, description="Compile the network.")
    progress: bool = Field(default=True, description="Show progress bars.")
    evaluate: bool = Field(default=True, description="Evaluate after training.")
    max_steps: int = Field(default=-1, ge=-1, description="Stop after this many steps; -1: never.")


class LoggerSettings(Settings):
    """Loggers beside CSV and TensorBoard, which are always on."""

    wandb: bool = Field(default=False, description="Log to Weights & Biases.")
    trackio: bool = Field(default=False, description="Log to trackio.")
    project: str = Field(default="levyjepa", description="Name of the project there.")


class ExperimentSettings(Settings):
    """A grid of runs, paired by seed: every combination of the values in `sweep`."""

    name: str = Field(default="demo", description="Its folder is runs/NAME.")
    sweep: dict[str, list[Any]] = Field(default={}, description="Values of settings.")
    published: dict[str, float] = Field(
        default={}, description="Accuracy of the online probe reported elsewhere, by cell."
    )


class Config(Settings):
    """All settings of a run, or of the grid of runs around it."""

    data: DataSettings = DataSettings()
    views: ViewsSettings = ViewsSettings()
    model: ModelSettings = ModelSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    trainer: TrainerSettings = TrainerSettings()
    logger: LoggerSettings = LoggerSettings()
    experiment: ExperimentSettings | None = Field(default=None, description="A grid of runs.")
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    run_dir: str | None = Field(default=None, description="Run folder; null: runs/DATA-TIME.")

    @property
    def clips(self) -> bool:
        """Whether the data is video."""
        return self.data.frames is not None

    @model_validator(mode="after")
    def _check(self) -> "Config":
        objective, frames = self.objective, self.data.frames
        for i, group in enumerate(self.views.groups):
            if group.frames is not None and group.frames > (frames or 0):
                raise ValueError(
                    f"`views.groups[{i}].frames` must be at most data.frames={frames}, "
                    f"got {group.frames}."
                )
        terms = {name: getattr(objective, name) for name in ("space", "time", "spacetime")}
        if frames is not None:
            if not any(term.weight for term in terms.values()):
                raise ValueError(
                    "`objective` must give space, time or spacetime a weight above 0, got none."
                )
            return self
        only_video: dict[str, Any] = {
            f"objective.{name}": (term, TermSettings()) for name, term in terms.items()
        }
        only_video["objective.time_step"] = objective.time_step, 1.0
        only_video["model.mixer_depth"] = self.model.mixer_depth, 1
        for key, (value, default) in only_video.items():
            if value != default:
                raise ValueError(
                    f"`{key}` only applies to video, and data.source={self.data.source} gives "
                    "images."
                )
        return self
