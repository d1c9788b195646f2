"""A training loop over a DataLoader with forked workers, which leave by os._exit.

    train.py EPOCHS WORKERS
"""

import sys

import torch
from torch.utils.data import DataLoader, Dataset


class Lists(Dataset):
    """Items as Python objects, as many data sets keep them."""

    def __init__(self):
        self.items = [[float(i % 7), float(i % 11), float(i)] * 20 for i in range(4000)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return torch.tensor(self.items[i]), i


def main():
    torch.manual_seed(1)
    torch.set_num_threads(2)
    model = torch.nn.Linear(60, 1)
    for epoch in range(int(sys.argv[1])):
        loader = DataLoader(Lists(), batch_size=100, num_workers=int(sys.argv[2]), shuffle=True)
        seen = 0
        for batch, indices in loader:
            model(batch).sum().backward()
            seen += int(indices.sum())
        print(epoch, seen)


main()
