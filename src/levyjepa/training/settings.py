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

    weight: Strength = Field(1.0, description="Weight of this kind; 0 leaves it out.")
    law: str | None = Field(None, description="Its law; null: objective.law.")

    @field_validator("law")
    @classmethod
    def _check_law(cls, text: str | None) -> str | None:
        return text if text is None else _law(text)


class ObjectiveSettings(Settings):
    """gamma * levy + lamb * sigreg + kappa * (1 - lamb) * invariance."""

    prior: Literal["levy", "total_variation"] = Field(
        "levy", description="levy, or total_variation: a control without a law."
    )
    gamma: Strength = Field(1.0, description="Weight of the prior; 0 is LeJEPA.")
    kappa: Strength = Field(1.0, description="Weight of the invariance.")
    lamb: Probability = Field(0.02, description="Weight of SIGReg.")
    law: str = Field(LAW, description="Law of increments per unit volume.")
    stencils: list[str] = Field(
        ["box(2)", "diamond()"], min_length=1, description="Stencils of an image or frame."
    )
    space: TermSettings = Field(TermSettings(), description="Stencils in every frame; video only.")
    time: TermSettings = Field(TermSettings(), description="Lines along time; video only.")
    spacetime: TermSettings = Field(TermSettings(), description="Boxes of both; video only.")
    time_step: float = Field(
        1.0, gt=0, description="Length of a step in time, in steps of space; video only."
    )
    quadrature: Literal["equispaced", "gauss_laguerre"] = Field(
        "equispaced", description="Frequencies and weights: equispaced, gauss_laguerre."
    )
    nodes: int = Field(64, ge=1, description="Number of frequencies.")
    calibrated: bool = Field(False, description="Report null deviations above the null mean.")
    learnable: bool = Field(False, description="Train the law's shape with the network.")
    cells: Literal["overlapping", "one", "every"] = Field(
        "overlapping", description="Cells: overlapping, one disjoint tiling, or every tiling."
    )
    num_directions: int = Field(256, ge=1, description="Random directions of SIGReg.")
    knots: int = Field(17, ge=2, description="Frequencies of SIGReg.")

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
        5e-4, gt=0, description="Learning rate at batch 256; scaled by sqrt(batch / 256)."
    )
    weight_decay: Strength = Field(5e-2, description="Weight decay of the network.")
    probe_lr: float = Field(1e-3, gt=0, description="Learning rate of the online probe, scaled too.")
    probe_weight_decay: Strength = Field(1e-7, description="Weight decay of the online probe.")
    warmup_epochs: Strength = Field(1.0, description="Epochs of linear warm-up.")


class TrainerSettings(Settings):
    """Arguments of Lightning's Trainer."""

    max_epochs: int = Field(20, ge=1, description="Epochs.")
    accelerator: str = Field("auto", description="auto, cpu, gpu, mps.")
    devices: int = Field(1, ge=1, description="Devices on each node.")
    num_nodes: int = Field(1, ge=1, description="Nodes.")
    strategy: str = Field("auto", description="Lightning's strategy.")
    precision: str = Field("auto", description="auto: bf16-mixed on a GPU, 32-true elsewhere.")
    gradient_clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Largest norm of the gradient."
    )
    compile: bool = Field(False, description="Compile the network.")
    progress: bool = Field(True, description="Show progress bars.")
    evaluate: bool = Field(True, description="Evaluate after training.")
    max_steps: int = Field(-1, ge=-1, description="Stop after this many steps; -1: no limit.")


class LoggerSettings(Settings):
    """Loggers beside CSV and TensorBoard, which are always on."""

    wandb: bool = Field(False, description="Log to Weights & Biases.")
    trackio: bool = Field(False, description="Log to trackio.")
    project: str = Field("levyjepa", description="Name of the project there.")


class ExperimentSettings(Settings):
    """A grid of runs, paired by seed: every combination of the values in `sweep`."""

    name: str = Field("demo", description="Name of the experiment; its folder is runs/NAME.")
    sweep: dict[str, list[Any]] = Field({}, description="Values of each setting of the grid.")
    published: dict[str, float] = Field(
        {}, description="Accuracy of the online probe reported elsewhere, by cell."
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
    experiment: ExperimentSettings | None = Field(None, description="The grid, in experiments.")
    seed: int = Field(0, ge=0, description="Seed of everything random.")
    run_dir: str | None = Field(None, description="Run folder; null: runs/DATA-TIME.")

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
        only_video = {f"objective.{name}": (term, TermSettings()) for name, term in terms.items()}
        only_video["objective.time_step"] = objective.time_step, 1.0
        only_video["model.mixer_depth"] = self.model.mixer_depth, 1
        for key, (value, default) in only_video.items():
            if value != default:
                raise ValueError(
                    f"`{key}` only applies to video, and data.source={self.data.source} gives "
                    "images."
                )
        return self
