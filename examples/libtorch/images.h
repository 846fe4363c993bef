/* SPDX-License-Identifier: MIT
 * images.h: the images, and the stream of them that a worker trains on. */
#ifndef LIBTORCH_IMAGES_H
#define LIBTORCH_IMAGES_H

#include "c.h"
#include "options.h"

#include <vector>

class Images {
  public:
    explicit Images(const Options &o);
    ~Images();
    Images(const Images &) = delete;
    Images &operator=(const Images &) = delete;

    const dataset &set() const {
        return data;
    }
    // Test images first .. first + n - 1, as floats, and their labels.
    void test(size_t first, size_t n, float *x, int64_t *y) const;
    uint64_t hash() const;

  private:
    friend class Stream;
    dataset data;
    partition shares;
};

// What shares first .. first + count - 1 of every batch hold. One worker takes one share; who trains alone takes all,
// one after the other, and so has the samples that the workers have together.
class Stream {
  public:
    Stream(const Images &images, const Options &o, size_t first, size_t count);
    ~Stream();
    Stream(const Stream &) = delete;
    Stream &operator=(const Stream &) = delete;

    size_t samples() const {
        return share * of.size();
    }
    // The next batch.
    void next(float *x, int64_t *y);

  private:
    void augment(float *x, uint64_t sample) const;

    const Images &images;
    uint64_t seed;
    size_t share, batch, first, step = 0;
    std::vector<sampler> of;
    std::vector<uint32_t> index;
    std::vector<uint8_t> label;
};

#endif
