"""The law of a video's increments."""

from dataclasses import dataclass

import numpy as np


@dataclass
class JumpLaw:
    """Brownian motion of a variance that changes slowly, and Poisson jumps, Gaussian in size.

    Sizes are the lengths of increments of a vector that moves in `dim` directions. Rate and mean
    square of the jumps begin at what other videos had and follow the video's own, as more and more
    of it is seen; the motion's variance comes from the increments nearby.
    """

    dim: float = 6.4
    noise: float = 0.064**2  # mean square of an increment in which nothing moves
    jump: float = 0.8**2  # mean square of a jump
    rate: float = 0.01  # jumps a frame
    jumps_seen: float = 8.0  # the weight of the first two guesses
    frames_seen: float = 800.0

    def log_odds(self, size: np.ndarray, motion: np.ndarray) -> np.ndarray:
        """log P(a jump | x) / P(none | x), by Bayes: x is N(0, motion + noise [+ jump]).

        Args:
            size: |x|.
            motion: mean square of |x| by motion alone, of the shape of `size`.
        """
        calm = motion + self.noise
        wild = calm + self.jump
        prior = np.log(self.rate / (1 - self.rate))
        return prior + self.dim / 2 * (np.log(calm / wild) + size**2 * (1 / calm - 1 / wild))

    def learn(self, sizes: np.ndarray, probabilities: np.ndarray, frames: int) -> None:
        """Take into account the jumps of so many further frames, by conjugate updates."""
        found = probabilities.sum()
        before, self.jumps_seen = self.jumps_seen, self.jumps_seen + found
        self.jump = (before * self.jump + (probabilities * sizes**2).sum()) / self.jumps_seen
        rates = self.frames_seen * self.rate + found
        self.frames_seen += frames
        self.rate = float(np.clip(rates / self.frames_seen, 1e-4, 0.1))
