"""Forms that save time or memory equal the plain ones, which are written here as the papers tell them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.dcama.dcama import HEADS, SkipMixer, attended_mask
from model.hdmnet.decoder import LinearBlock
from model.hdmnet.transformer import SHARPNESS, match
from model.parts.aspp import ASPPDecoder
from model.parts.layers import fuse, two_convolutions
from model.parts.prototype import COSINE_EPS, greatest_cosine, object_directions
from model.sccan.sccan import pseudo_mask
from model.tensors.mask import Mask
from model.tensors.ops import min_max, resize
from model.tensors.products import bin_means_by_products, resized_by_products
from model.tensors.tokens import linear_over_map
from tests.model.seeded import seed_weights

WIDTH, GRID = 8, (7, 9)
assert_close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def plainly():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def in_order(layers: nn.Sequential, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def test_a_prototype_and_maps_are_fused_as_one_convolution_of_all() -> None:
    weight = torch.randn(WIDTH, 2 * WIDTH + 3, 1, 1)
    feature, prototype, two_maps, one_map = (torch.randn(2, n, *GRID) for n in (WIDTH, WIDTH, 2, 1))
    everywhere = prototype.mean((2, 3))[:, :, None, None].expand(-1, -1, *GRID)
    plain = F.conv2d(torch.cat([feature, everywhere, two_maps, one_map], dim=1), weight)
    assert_close(fuse(weight, feature, prototype.mean((2, 3)), two_maps, one_map), plain)


def test_the_average_of_aspp_is_merged_as_a_map() -> None:
    decoder = seed_weights(ASPPDecoder(WIDTH)).eval()
    x = torch.randn(2, WIDTH, *GRID)
    average, maps = decoder.aspp(x)
    merged = decoder.merge(torch.cat([average.expand(-1, -1, *GRID), maps], dim=1))
    assert_close(decoder(x), decoder.head(decoder.refine(F.relu(merged))))


def test_dcama_mixes_skips_as_convolutions_of_the_resized_concatenation() -> None:
    mixer = seed_weights(SkipMixer(*two_convolutions(WIDTH + 4, 6, 5), nn.ReLU()))
    coarse, fine = torch.randn(2, WIDTH, 4, 5), torch.randn(2, 4, *GRID)
    plain = in_order(mixer, torch.cat([resize(coarse, GRID), fine], dim=1))
    assert_close(mixer(coarse, fine), plain, rtol=1e-4, atol=1e-5)


def test_dcama_aggregates_masks_by_attention() -> None:
    query, key = torch.randn(2, HEADS, 12, 4), torch.randn(2, HEADS, 10, 4)
    value = torch.rand(2, 10)
    attention = (query @ key.transpose(2, 3) / 4**0.5).softmax(3)
    plain = (attention @ value[:, None, :, None])[..., 0].mean(1)
    assert_close(attended_mask(query, key, value, dropout=0.0), plain)


def test_hdmnet_decodes_by_three_convolutions_with_norms() -> None:
    block = seed_weights(LinearBlock(WIDTH, 5, last_norm=True))
    x = torch.randn(2, WIDTH, *GRID)
    entered = block.enter_norm(block.enter(x))
    mixed = block.mix_norm(block.mix(entered))
    assert_close(block(x), block.leave_norm(block.leave(mixed)), rtol=1e-3, atol=1e-3)


def test_hdmnet_matches_with_an_attention_over_the_query() -> None:
    query, key, value = (torch.randn(2, 2, n, 4) for n in (12, 7, 7))
    key, is_object = F.normalize(key, dim=3), torch.rand(2, 1, 7, 1) > 0.3
    score = SHARPNESS * F.normalize(query, dim=3) @ key.transpose(2, 3)  # s_ij, (2, 2, 12, 7)
    plain = score.softmax(2) @ (value * is_object)
    mean = (score * is_object.transpose(2, 3)).sum(3) / is_object.sum(2)
    matched, correlation = match(query, key * is_object, value * is_object, is_object.sum((1, 2, 3)))
    assert_close(matched, plain, rtol=1e-4, atol=1e-5)
    assert_close(correlation, mean.mean(1), rtol=1e-4, atol=1e-4)


def labels() -> Tensor:
    label = torch.zeros(2, 28, 36, dtype=torch.uint8)
    label[0, 4:20, 8:30] = 1
    label[1, 10:12, 3:20] = 1
    return label


def test_the_prior_is_the_greatest_cosine_to_the_masked_support() -> None:
    query, support = torch.randn(2, 2, WIDTH, *GRID)
    mask = Mask(labels())
    masked = support * mask.on(GRID)
    cosine = torch.einsum(
        "bcs,bcq->bsq",
        F.normalize(masked.flatten(2), dim=1, eps=COSINE_EPS),
        F.normalize(query.flatten(2), dim=1, eps=COSINE_EPS),
    )
    plain = cosine.amax(1).unflatten(1, GRID)
    assert_close(greatest_cosine(query, object_directions(support, mask)), plain)


@pytest.mark.parametrize("shots", [1, 3])
def test_sccans_pseudo_mask_is_an_attention_over_all_positions_of_each_support(shots: int) -> None:
    grid = (8, 8)
    query = torch.randn(2, WIDTH, *GRID)
    supports, masks = torch.randn(shots * 2, WIDTH, *GRID), torch.rand(shots * 2, 1, *grid)
    plain = []
    for number, (support, mask) in enumerate(zip(supports, masks, strict=True)):
        key = F.normalize(resize(support[None], grid)[0].flatten(1), dim=0)
        attention = (F.normalize(query[number % 2].flatten(1), dim=0).T @ key).softmax(1)
        prior = min_max(attention @ mask.flatten(), 1e-7).view(1, 1, *GRID)
        plain.append(resize(prior, grid))
    assert_close(pseudo_mask(query, supports, masks), torch.cat(plain), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(3, 4), (7, 9), (20, 11)])
def test_products_resize_and_pool(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *GRID)
    plain = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    assert_close(resized_by_products(x, size), plain)
    assert_close(bin_means_by_products(x, size), F.adaptive_avg_pool2d(x, size))


def test_a_linear_layer_over_a_map_is_one_of_its_positions() -> None:
    x, weight, bias = torch.randn(2, 63, WIDTH), torch.randn(5, WIDTH), torch.randn(5)
    assert_close(linear_over_map(x, GRID, weight, bias), F.linear(x, weight, bias))
