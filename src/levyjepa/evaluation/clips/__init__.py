"""What clips with known truth say of video networks: digits, objects followed, jumps in time."""

from levyjepa.evaluation.clips.judge import judge_clips

__all__ = ["judge_clips"]
