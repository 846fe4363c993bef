/* SPDX-License-Identifier: MIT
 * data.h: image data sets, how they are split over workers, and mini-batches drawn from them. */
#ifndef TRAIN_DATA_H
#define TRAIN_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_CHANNELS = 3, MAX_CLASSES = 10 };

/* Images stay bytes, as in the files (60,000 of 28x28: 47 MB, not 188); a batch is converted as it is gathered. */
typedef struct image_set {
    uint8_t *pixel; /* count x channels x height x width */
    uint8_t *label;
    size_t count;
} image_set;

typedef struct dataset {
    char name[64]; /* for headings */
    size_t width, height, channels;
    size_t features; /* width x height x channels */
    size_t classes;
    image_set train, test;
    /* A pixel p of channel c becomes p * scale[c] + shift[c]: mean 0 and variance 1 over the training images. */
    float scale[MAX_CHANNELS], shift[MAX_CHANNELS];
} dataset;

/* Reads the data set in a folder: MNIST's IDX files (train-images-idx3-ubyte, ...; also .gz where zlib is compiled
 * in), or CIFAR-10's binary ones (data_batch_*.bin, test_batch.bin). Every magic and length is checked before it is
 * used; what does not fit ends the program with one line that names the file. */
void dataset_load(dataset *d, const char *folder);

/* Fills in scale and shift from the training images. */
void dataset_normalise(dataset *d);

void dataset_free(dataset *d);

/* x (n x features) and y (n) from the images at `index`. */
void dataset_gather(const dataset *d, const image_set *set, const uint32_t *index, size_t n, float *x, uint8_t *y);

/* ---- Shares of the training set ---- */

/* Which training images each worker holds. With alpha = 0 they are not divided: each epoch is a new shuffle of the
 * whole set, dealt out to the workers. With alpha > 0 the images of every class are divided once, by proportions
 * drawn from a Dirichlet(alpha) distribution: the smaller alpha, the more one-sided the workers' labels. */
typedef struct partition {
    double alpha;
    size_t workers;
    uint32_t **index; /* per worker; NULL with alpha = 0 */
    size_t *count;
} partition;

void partition_make(partition *p, const dataset *d, size_t workers, double alpha, uint64_t seed);
void partition_free(partition *p);

/* n proportions that sum to 1, drawn from Dirichlet(alpha, ..., alpha). */
struct rng;
void dirichlet(struct rng *r, double alpha, size_t n, double *p);

/* The endless stream of training images of one worker, in a fresh order every epoch of its own. */
typedef struct sampler {
    const partition *share;
    size_t worker;
    uint64_t seed;
    uint64_t epoch;
    uint32_t *order; /* this epoch's images */
    size_t count, next;
    size_t total; /* images in the whole training set */
} sampler;

void sampler_init(sampler *s, const partition *p, size_t worker, const dataset *d, uint64_t seed);
void sampler_next(sampler *s, size_t n, uint32_t *index);
void sampler_free(sampler *s);

#endif
