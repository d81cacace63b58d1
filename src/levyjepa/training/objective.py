"""From settings to the loss, and to the laws that it compares increments with."""

from functools import partial
from typing import Any

from torch import Tensor

from levyjepa.ecf import Quadrature, equispaced, gauss_laguerre
from levyjepa.lattice import Stencil, parse_stencils
from levyjepa.laws import Law, parse_law
from levyjepa.objectives import LeJEPA, LevyRegularizer, SIGReg, TotalVariation, VideoRegularizer
from levyjepa.objectives.video import KINDS
from levyjepa.training.settings import Config


def build_objective(config: Config) -> LeJEPA:
    """Return the loss; without a prior where gamma is 0."""
    settings, prior = config.objective, None
    if settings.gamma > 0:
        prior = TotalVariation() if settings.prior == "total_variation" else build_prior(config)
    sigreg = SIGReg(num_directions=settings.num_directions, knots=settings.knots)
    return LeJEPA(
        levy=prior, sigreg=sigreg, gamma=settings.gamma, lamb=settings.lamb, kappa=settings.kappa
    )


def build_prior(config: Config) -> LevyRegularizer | VideoRegularizer:
    """Return the Lévy prior for images or clips."""
    settings = config.objective
    stencils = parse_stencils(settings.stencils)
    options: dict[str, Any] = {
        "quadrature": partial(_quadrature, settings.quadrature, settings.nodes),
        "calibrated": settings.calibrated,
        "scale": settings.scale,
        "unbiased": settings.unbiased,
        "learnable": settings.learnable,
        "cells": settings.cells,
    }
    if not config.clips:
        return LevyRegularizer(parse_law(settings.law), stencils, **options)
    terms = {kind: getattr(settings, kind) for kind in KINDS}
    return VideoRegularizer(
        {kind: parse_law(term.law or settings.law) for kind, term in terms.items()},
        stencils,
        settings.time_step,
        {kind: term.weight for kind, term in terms.items()},
        **options,
    )


def laws_of(objective: LeJEPA, config: Config) -> dict[str, tuple[Stencil, Law]]:
    """Return each stencil with the law of its increments, by name, such as "space box(2)".

    A learned law is returned as it is now. Without the Lévy prior, these are the laws that it would
    have used.
    """
    prior = objective.levy
    if prior is None or isinstance(prior, TotalVariation):
        prior = build_prior(config)
    priors: Any = prior.priors.items() if isinstance(prior, VideoRegularizer) else [("", prior)]
    laws = {}
    for kind, part in priors:
        texts = [""]
        if kind in ("", "space"):
            several = (parse_stencils(text) for text in config.objective.stencils)
            pairs = zip(config.objective.stencils, several, strict=True)
            texts = [text for text, stencils in pairs for _ in stencils]
        for text, term in zip(texts, part.terms, strict=True):
            laws[f"{kind} {text}".strip()] = term.stencil, part.law
    return laws


def valid_tokens(valid: Tensor, field: Tensor) -> Tensor:
    """Return which tokens show no frame that repeats the last one of a video.

    Args:
        valid: (count, B, T) bool, of the frames of a batch.
        field: (count * B, t, h, w, C), its tokens, of T / t frames each.

    Returns:
        (count * B, t, h, w) bool.
    """
    whole = valid.flatten(0, 1).unflatten(1, (field.shape[1], -1)).all(2)
    return whole[:, :, None, None].expand(field.shape[:-1])


def _quadrature(name: str, nodes: int, law: Law, volume: float) -> Quadrature:
    if name == "equispaced":
        return equispaced(law, nodes, volume)
    return gauss_laguerre(law, nodes)  # as in the original: one range for cells of every volume
