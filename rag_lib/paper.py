"""What the paper reports."""

import pandas as pd

# Table 1: accuracy on MNIST in percent. Table 2 (CIFAR-10) is not available to us.
TABLE_1 = pd.DataFrame(
    {
        "generated": [96.49, 96.93, 97.26, 96.43, 96.73],
        "original": [97.84, 97.92, 98.02, 97.65, 97.17],
        "mixed": [98.36, 98.52, 98.95, 98.35, 97.96],
    },
    index=pd.Index(["cnn", "resnet18", "resnet34", "resnet50", "resnet101"], name="classifier"),
)

DATASETS_OF_TABLE_1 = ("mnist", "mnist5k")  # mnist5k: a part of it


def beside_paper(ours: pd.DataFrame) -> pd.DataFrame:
    """Our accuracies (classifiers x arms, percent, on MNIST) beside Table 1's, for its groups and classifiers."""
    ours = ours[[group for group in TABLE_1 if group in ours]]
    table = pd.concat({"ours": ours, "paper": TABLE_1.reindex(ours.index)}, axis=1)
    return table.swaplevel(axis=1).reindex(columns=pd.MultiIndex.from_product([ours.columns, ["ours", "paper"]]))
