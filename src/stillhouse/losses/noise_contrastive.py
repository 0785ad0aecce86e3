"""Noise-contrastive estimation: tell one stored partner from many that were drawn at random.

Letters: B anchors, K negatives, N stored rows, D width.
"""

import torch
from torch import Tensor

EPSILON = 1e-7


def partner_scores(anchor: Tensor, bank: Tensor, index: Tensor, temperature: float) -> Tensor:
    """`exp(cosine / temperature)` of every anchor and the stored rows that are named for it, `[B, K + 1]`.

    All N products are made and the named ones picked, so that memory grows with B x N and not with B x K x D.

    Args:
        anchor: unit rows, `[B, D]`.
        bank: unit rows, `[N, D]`; no gradient flows into them.
        index: places in the bank, `[B, K + 1]`; the first of every row is the partner.
        temperature: divides the cosines; above 0. The exponential needs float32 or more, which is seen to here.
    """
    dtype = torch.promote_types(anchor.dtype, torch.float32)
    with torch.autocast(anchor.device.type, enabled=False):
        products = anchor.to(dtype) @ bank.detach().to(dtype).T
        return (products.gather(1, index) / temperature).exp()


def noise_contrastive(scores: Tensor, normalizer: Tensor, num_images: int) -> Tensor:
    """Binary cross-entropy of partner against noise, summed over the K + 1 candidates.

    `log(K + 1) + K log((K + 1) / K)` when all scores are equal and the normalizer is N times their mean.

    Args:
        scores: above 0, `[B, K + 1]`; the first of every row is the partner's.
        normalizer: what scores are divided by: N times their mean at the start of training, scalar.
        num_images: N; noise is uniform over them.

    Returns:
        Mean over the B anchors, in nats.

    Source: Gutmann and Hyvarinen 2010; Tian et al. 2020 (CRD), in the form of the official code.
    """
    shares = scores / normalizer
    noise = (scores.shape[1] - 1) / num_images
    partner = (shares[:, 0] / (shares[:, 0] + noise + EPSILON)).log()
    others = (noise / (shares[:, 1:] + noise + EPSILON)).log().sum(1)
    return -(partner + others).mean()
