# Copyright 2026 timebill_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""The heads that the length predictor is compared with, on the same backbone (TimeBill, arXiv 2512.21859, table 1).

They are trained beside the bucket classifier, on the same hidden states and examples. So two rows of the comparison
differ only by the head and what it is trained to predict.

    regression          the length itself, by least squares
    N buckets           fewer and wider buckets of equal width
    5 classes           classes of equally many training lengths (after ProxyModel, arXiv 2404.08509)
    10 classes          ten classes of equal width up to the longest training length (after S3, arXiv 2306.06000)
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

WEIGHTS_FILE, FACTS_FILE = 'baselines.safetensors', 'baselines.json'


class Baselines(nn.Module):
    """Linear heads from `hidden` to n classes, or to 1 value for the regression, and what their outputs stand for.

    hidden:   width of the backbone's hidden states.
    classes:  head's name -> upper edges (tokens) of its classes, ascending; the last edge is N_max.
    values:   head's name -> (median, mean) of the training lengths in each class, in tokens.
    scale:    (mean, standard deviation) of the training lengths; the regression predicts (length - mean) / deviation.
    """

    def __init__(self, hidden: int, classes: dict[str, list[int]], values: dict[str, list[list[float]]],
                 scale: tuple[float, float]):
        super().__init__()
        self.classes, self.values, self.scale = classes, values, scale
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, len(edges)) for name, edges in classes.items()})
        self.regression = nn.Linear(hidden, 1)

    @classmethod
    def for_lengths(cls, hidden: int, lengths: list[int], bucket_size: int, n_buckets: int) -> 'Baselines':
        """Build untrained heads to compare with a predictor of `n_buckets` buckets of `bucket_size` tokens.

        lengths: of the training responses, in tokens; the classes follow from them. Longer ones count as N_max =
        bucket_size * n_buckets. A class without a training length stands for its middle.
        """
        n_max = bucket_size * n_buckets
        given = np.sort(np.minimum(lengths, n_max))
        classes = {}
        for factor in (2, 4, 8):
            count = -(-n_buckets // factor)
            classes[f'{count} buckets'] = [min(n_max, bucket_size * factor * (i + 1)) for i in range(count)]
        fifths = np.unique(np.quantile(given, (0.2, 0.4, 0.6, 0.8)).round().astype(int))
        classes['5 classes'] = [*fifths.tolist(), n_max]
        classes['10 classes'] = [*(int(given[-1] * i / 10) for i in range(1, 10)), n_max]
        values = {}
        for name, edges in classes.items():
            values[name] = []
            for low, high in zip([0, *edges], edges, strict=False):
                cell = given[(given > low) & (given <= high)]
                values[name].append([float(np.median(cell)), float(cell.mean())] if len(cell)
                                    else [(low + high + 1) / 2] * 2)
        return cls(hidden, classes, values, (float(given.mean()), float(given.std()) or 1.0))

    def loss(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the sum of the heads' losses: squared error for the regression, cross-entropy for the others.

        hidden: [n, hidden]; lengths: [n] in tokens.
        """
        mean, deviation = self.scale
        total = functional.mse_loss(self.regression(hidden)[:, 0].float(), (lengths - mean) / deviation)
        for name, head in self.heads.items():
            edges = torch.tensor(self.classes[name], device=lengths.device)
            labels = torch.searchsorted(edges, lengths.clamp(max=self.classes[name][-1]))
            total = total + functional.cross_entropy(head(hidden).float(), labels)
        return total

    @torch.inference_mode()
    def predict(self, hidden: torch.Tensor) -> dict[str, tuple[float, float]]:
        """Predict the length in tokens: head's name -> (median, mean). hidden: [hidden], of the prompt's last token.

        A class stands for the training lengths in it. The median is that of the class in which the probabilities'
        cumulative sum reaches one half; the mean is the classes' means weighted by their probabilities. The
        regression's one length is both.
        """
        mean, deviation = self.scale
        length = float(self.regression(hidden)[0]) * deviation + mean
        predicted = {'regression': (length, length)}
        for name, head in self.heads.items():
            p = head(hidden).double().softmax(-1).cpu().numpy()
            values = np.asarray(self.values[name])
            predicted[name] = (float(values[int((p.cumsum() >= 0.5).argmax()), 0]), float(p @ values[:, 1]))
        return predicted

    def save(self, directory: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, directory / WEIGHTS_FILE)
        (directory / WEIGHTS_FILE).chmod(0o644)
        facts = {'classes': self.classes, 'values': self.values, 'scale': self.scale}
        (directory / FACTS_FILE).write_text(json.dumps(facts) + '\n', encoding='utf-8')

    @classmethod
    def load(cls, directory: Path) -> 'Baselines':
        """Load the heads beside a predictor. FileNotFoundError where it was trained without them."""
        for name in (WEIGHTS_FILE, FACTS_FILE):
            if not (directory / name).is_file():
                raise FileNotFoundError(f'{directory / name} is missing: the predictor was trained without --baselines')
        facts = json.loads((directory / FACTS_FILE).read_text(encoding='utf-8'))
        weights = load_file(directory / WEIGHTS_FILE)
        baselines = cls(weights['regression.weight'].shape[1], facts['classes'], facts['values'], facts['scale'])
        baselines.load_state_dict(weights)
        return baselines.eval()
