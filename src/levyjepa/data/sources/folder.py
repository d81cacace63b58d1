"""Images in class folders."""

import numpy as np

from levyjepa.data.folders import class_names, existing, labeled_files, split_folders
from levyjepa.data.images import Images
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source, stratified


@register_source("folder")
def folder(settings: DataSettings) -> Source:
    """Class folders, below train/ and test/ or val/; without these, 20 % of each are tested on."""
    root = existing(settings)
    if split := split_folders(settings, class_names):
        *folders, classes = split
        train, test = (labeled_files(part, classes) for part in folders)
    else:
        classes = class_names(root)
        paths, labels = labeled_files(root, classes)
        train, test = (
            ([paths[i] for i in part], [labels[i] for i in part])
            for part in stratified(np.array(labels), 0.2)
        )
    return Source(root.name, Images(*train), Images(*test), classes)
