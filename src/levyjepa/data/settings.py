"""Settings of data and of views."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from levyjepa.settings import Settings

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class DataSettings(Settings):
    """Where images or clips come from; `data=NAME` picks a preset."""

    source: str = Field(default="mnist5k", description="A registered source.")
    path: str | None = Field(default=None, description="A folder, or the id of a hub data set.")
    subset: str | None = Field(default=None, description="Configuration of a hub data set.")
    train_split: str = Field(default="train", description="Name of the training split.")
    test_split: str = Field(default="test", description="Name of the test split.")
    image_column: str | None = Field(default=None, description="Column of images; null: by type.")
    label_column: str | None = Field(default=None, description="Column of labels; null: by type.")
    mask_column: str | None = Field(default=None, description="Column of masks; null: by type.")
    classes: list[str] | None = Field(default=None, description="Names of mask ids, in order.")
    void: int | None = Field(default=None, description="Mask id of pixels that are ignored.")
    holdout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the training split to test on instead."
    )
    limit: Count | None = Field(default=None, description="Most images of each split.")
    image_size: Count = Field(default=28, description="Pixels of test images, and of most views.")
    frames: int | None = Field(default=None, ge=2, description="Frames of a clip; null: images.")
    stride: Count = Field(default=1, description="Steps between frames of a clip; video only.")
    rate: float | None = Field(
        default=None, gt=0, description="Frames per second, in place of stride; video only."
    )
    digits: tuple[int, int] = Field(
        default=(1, 2), description="Least and most digits; moving_digits only."
    )
    batch_size: Count = Field(default=96, description="Images or clips per rank, before views.")
    workers: int = Field(default=0, ge=0, description="Processes that load data.")

    @model_validator(mode="after")
    def _check(self) -> "DataSettings":
        for name, default in (("stride", 1), ("rate", None)):
            if self.frames is None and (value := getattr(self, name)) != default:
                images = f"and data.source={self.source} gives images"
                raise ValueError(f"`data.{name}` only applies to video, {images}; got {value}.")
        least, most = self.digits
        if not 1 <= least <= most:
            wanted = "[least, most], 1 <= least <= most"
            raise ValueError(f"`data.digits` must be {wanted}, got {[least, most]}.")
        return self


class ViewGroup(Settings):
    """`count` views of each image, `size` pixels wide, cropped to `scale` of its area."""

    count: Count = Field(default=4, description="Views of each image.")
    size: Count | None = Field(default=None, description="Pixels; null: data.image_size.")
    frames: int | None = Field(default=None, ge=2, description="Frames; null: data.frames.")
    scale: tuple[float, float] = Field(
        default=(0.08, 1.0), description="Least and most share of the area."
    )

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"must rise within (0, 1], got {list(scale)}.")
        return scale


class ViewsSettings(Settings):
    """How views differ; the first group holds the global views."""

    groups: list[ViewGroup] = Field(
        default=[ViewGroup()], min_length=1, description="Groups of views."
    )
    flip: Probability = Field(default=0.5, description="Probability of a horizontal flip.")
    jitter: Probability = Field(default=0.8, description="Probability of color jitter.")
    brightness: Strength = Field(default=0.8, description="Strength of the jitter in brightness.")
    contrast: Strength = Field(default=0.8, description="Strength in contrast.")
    saturation: Strength = Field(default=0.8, description="Strength in saturation.")
    hue: float = Field(default=0.2, ge=0, le=0.5, description="Strength in hue, in turns.")
    gray: Probability = Field(default=0.2, description="Probability of a gray view.")
    blur: Probability = Field(default=0.5, description="Probability of a Gaussian blur.")
    blur_kernel: Count = Field(default=7, description="Width of the blur in pixels, odd.")
    blur_sigma: tuple[float, float] = Field(
        default=(0.1, 2.0), description="Range of the blur's sigma."
    )
    solarize: Probability = Field(default=0.2, description="Probability of solarization.")
    rotation: Strength = Field(default=0.0, description="Largest rotation in degrees, either way.")

    @field_validator("blur_kernel")
    @classmethod
    def _check_kernel(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"must be odd, got {kernel}.")
        return kernel
