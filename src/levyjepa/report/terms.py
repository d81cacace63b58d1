"""What tables are called, and their terms in plain words."""

HEADS = {
    "": "Labels told from frozen features",
    "mean_token": "Labels told from the mean patch token",
    "low_shot": "With few labels",
    "segmentation": "Segmentation by a linear head on frozen tokens",
    "boundaries": "Boundaries of masks, found without labels",
    "tracking": "Objects followed by their tokens from their first mask",
    "jumps": "Jumps in time, found by the size of a step",
    "representation": "Health of the representation",
    "levy": "Distance of increments from the law, of each stencil",
    "levy_rescaled": "The same, the field brought to the law’s scale first",
}
SHORT = "In short"
CLASSES = "IoU of each class"
SPOKEN = {
    "linear_probe": "linear probe accuracy",
    "knn": "kNN accuracy",
    "online_last": "the online probe’s last accuracy",
    "online_best": "the online probe’s best accuracy",
    "tracking/there": "J&F of objects followed, while they are there",
    "jumps/tokens/objects/average_precision": "average precision of jumps found at objects",
}
NOTES = {
    "": "Accuracy on test {unit}s: of a linear probe and a vote of nearest neighbours (kNN) on "
    "features that no longer change, and of a probe that learns alongside the encoder (online).",
    "mean_token": "The same, from the mean of the patch tokens in the place of the embedding.",
    "low_shot": "A linear probe that sees the labels of few training {unit}s; of a single run, "
    "± is the standard deviation over draws of these labels.",
    "segmentation": "A linear head names each pixel’s class by its token. IoU is intersection over "
    "union; mIoU is its mean over classes.",
    "boundaries": "How well changes from token to token show where one class ends and another "
    "begins; F at the best threshold, and average precision over all of them.",
    "tracking": "An object is given by its mask in the first frame that shows it; after that, each "
    "place takes the label of the earlier tokens most like its own. J is the overlap with the true "
    "mask (intersection over union), F how well outlines meet, and J&F their mean: 100 % is "
    "perfect. There: in frames that show the object. Gone: in frames that don’t, 100 % without a "
    "pixel of it, 0 % with one. Nothing taken across cuts: where the tokens’ jumps say that the "
    "scene was cut, no label is carried over.",
    "jumps": "A step is how far a token moves from one frame to the next; a large one is called a "
    "jump. Tokens are the encoder’s, the field is what the prior sees: tokens after their "
    "projection. Everywhere: all tokens. Objects: tokens that an object covers, away from cuts, so "
    "that a jump must be told from smooth motion. Frames: whether anything jumps in a frame. "
    "Average precision says how well steps rank jumps, F1 how well a threshold chosen on training "
    "clips finds them. Chance is what steps that know nothing get.",
    "representation": "Effective rank: how many directions embeddings use (centred: about their "
    "mean); higher is better. Spread: their variance over their mean square, 0 if all are one "
    "point; higher is better. Uniformity: how unevenly they cover the sphere; lower is better. "
    "Alignment: how far apart two views of one {unit} are; lower is better. Gaussian: how far "
    "projections are from a Gaussian, which itself scores 0 ± 1; lower is better.",
    "levy": "A field of the law itself scores 0 ± 1; lower is closer to the law.",
    "levy_rescaled": "Scale no longer counts, only the shape of the increments’ distribution.",
    SHORT: "",
    CLASSES: "",
}
SHORT_OF_CLIPS = (
    "J&F while there: how well objects are followed in frames that show them, 100 % is perfect. "
    "Jumps at objects: how well the size of tokens’ steps tells a jump from smooth motion. Linear "
    "probe: the share of test clips whose label a linear probe on frozen features gets right."
)
