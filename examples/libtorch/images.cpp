/* SPDX-License-Identifier: MIT */
#include "images.h"

#include <algorithm>
#include <numeric>

enum { RNG_AUGMENT = 201, SHIFT = 4 };

// The first `count`, all different files of which the data sets consist are shuffled.
static void keep(const char *option, image_set *set, size_t count) {
    if (set->count < count)
        bad_input("%s: expected at most %zu, the images there are, got %zu", option, set->count, count);
    set->count = count;
}

Images::Images(const Options &o) {
    if (o.data) {
        dataset_load(&data, o.data);
        keep("--train", &data.train, o.train);
        keep("--test", &data.test, o.test);
        dataset_normalise(&data);
    } else
        glyphs_make(&data, o.train, o.test, 1); // the same whatever --seed: runs stay comparable
    partition_make(&shares, &data, o.workers, 0.0, o.seed);
}

Images::~Images() {
    partition_free(&shares);
    dataset_free(&data);
}

static void gather(const dataset &d, const image_set &set, const std::vector<uint32_t> &index,
                   std::vector<uint8_t> &label, float *x, int64_t *y) {
    label.resize(index.size());
    dataset_gather(&d, &set, index.data(), index.size(), x, label.data());
    std::copy(label.begin(), label.end(), y);
}

void Images::test(size_t first, size_t n, float *x, int64_t *y) const {
    std::vector<uint32_t> index(n);
    std::vector<uint8_t> label;
    std::iota(index.begin(), index.end(), (uint32_t)first);
    gather(data, data.test, index, label, x, y);
}

uint64_t Images::hash() const {
    uint64_t h = rng_mix(data.features) ^ rng_mix(data.train.count + 1);
    for (size_t i = 0; i < data.train.count; i++)
        h = rng_mix(h + data.train.label[i] + data.train.pixel[i * data.features + data.features / 2]);
    return h;
}

Stream::Stream(const Images &im, const Options &o, size_t f, size_t count)
    : images(im), seed(o.seed), share(o.batch / o.workers), batch(o.batch), first(f), of(count), index(share) {
    for (size_t i = 0; i < count; i++) sampler_init(&of[i], &im.shares, first + i, &im.data, o.seed);
}

Stream::~Stream() {
    for (sampler &s : of) sampler_free(&s);
}

// Photographs, not digits: mirrored or not, and moved by up to SHIFT pixels; what is then empty is the mean colour. A
// sample's fate depends on its place in the run alone, not on who trains on it.
void Stream::augment(float *x, uint64_t sample) const {
    const dataset &d = images.data;
    const int w = (int)d.width, h = (int)d.height;
    rng r = rng_make(seed, RNG_AUGMENT, sample);
    const int across = rng_range(&r, -SHIFT, SHIFT), down = rng_range(&r, -SHIFT, SHIFT);
    const bool mirror = rng_below(&r, 2) == 1;
    std::vector<float> from(x, x + d.width * d.height);
    for (size_t c = 0; c < d.channels; c++, x += w * h) {
        std::copy(x, x + w * h, from.begin());
        for (int j = 0; j < h; j++)
            for (int i = 0; i < w; i++) {
                const int row = j + down, column = (mirror ? w - 1 - i : i) + across;
                const bool inside = row >= 0 && row < h && column >= 0 && column < w;
                x[j * w + i] = inside ? from[(size_t)(row * w + column)] : 0.0f;
            }
    }
}

void Stream::next(float *x, int64_t *y) {
    const size_t features = images.data.features;
    for (size_t k = 0; k < of.size(); k++, x += share * features, y += share) {
        sampler_next(&of[k], share, index.data());
        gather(images.data, images.data.train, index, label, x, y);
        for (size_t i = 0; images.data.channels == 3 && i < share; i++)
            augment(x + i * features, step * batch + (first + k) * share + i);
    }
    step++;
}
