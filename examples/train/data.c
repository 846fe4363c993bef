/* SPDX-License-Identifier: MIT */
#include "data.h"

#include "rng.h"
#include "util.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef WEFT_HAVE_ZLIB
#include <zlib.h>
#endif

/* ---- Files ---- */

/* A whole file in memory, and the name to put into messages. */
typedef struct whole_file {
    char name[4096];
    unsigned char *bytes;
    size_t count;
} whole_file;

/* No data set this program reads has a larger file; a hostile .gz could otherwise unpack without end. */
static const size_t LARGEST_FILE = (size_t)1 << 30;

static bool exists(const char *name) {
    FILE *f = fopen(name, "rb");
    if (f) fclose(f);
    return f != NULL;
}

static void join(char *out, size_t capacity, const char *folder, const char *name, const char *suffix) {
    int n = snprintf(out, capacity, "%s/%s%s", folder, name, suffix);
    if (n < 0 || (size_t)n >= capacity) bad_input("the path %.60s... is too long", folder);
}

/* Adds room for at least one more byte; the size doubles, so that reading stays linear. */
static void grow(whole_file *f, size_t *capacity) {
    *capacity = *capacity ? *capacity * 2 : (size_t)1 << 20;
    unsigned char *p = realloc(f->bytes, *capacity);
    if (!p) broken("out of memory (%zu bytes for %s)", *capacity, f->name);
    f->bytes = p;
}

static void read_plain(whole_file *f) {
    size_t capacity = 0, got;
    FILE *in = fopen(f->name, "rb");
    if (!in) bad_input("%s: %s", f->name, strerror(errno));
    do {
        if (f->count == capacity) grow(f, &capacity);
        got = fread(f->bytes + f->count, 1, capacity - f->count, in);
        f->count += got;
        if (f->count > LARGEST_FILE) bad_input("%s: longer than %zu bytes", f->name, LARGEST_FILE);
    } while (got > 0);
    if (ferror(in)) bad_input("%s: %s", f->name, strerror(errno));
    fclose(in);
}

static void read_gz(whole_file *f) {
#ifdef WEFT_HAVE_ZLIB
    size_t capacity = 0;
    int got;
    gzFile in = gzopen(f->name, "rb");
    if (!in) bad_input("%s: %s", f->name, strerror(errno));
    do {
        if (f->count == capacity) grow(f, &capacity);
        size_t room = capacity - f->count < ((size_t)1 << 20) ? capacity - f->count : (size_t)1 << 20;
        got = gzread(in, f->bytes + f->count, (unsigned)room);
        if (got > 0) f->count += (size_t)got;
        if (f->count > LARGEST_FILE) bad_input("%s: longer than %zu bytes", f->name, LARGEST_FILE);
    } while (got > 0);
    /* A truncated file reads short without an error of gzread; only closing tells. */
    if (gzclose(in) != Z_OK || got < 0) bad_input("%s: not a complete gzip file", f->name);
#else
    bad_input("%s: this build has no zlib; unpack the file with gunzip first", f->name);
#endif
}

static bool dataset_file_exists(const char *folder, const char *name) {
    char path[4096];
    join(path, sizeof path, folder, name, "");
    if (exists(path)) return true;
    join(path, sizeof path, folder, name, ".gz");
    return exists(path);
}

/* The file `name` in the folder, or name.gz. */
static void file_read(whole_file *f, const char *folder, const char *name) {
    memset(f, 0, sizeof *f);
    join(f->name, sizeof f->name, folder, name, "");
    if (exists(f->name)) {
        read_plain(f);
        return;
    }
    join(f->name, sizeof f->name, folder, name, ".gz");
    if (!exists(f->name)) bad_input("%s/%s: no such file (nor with .gz)", folder, name);
    read_gz(f);
}

/* ---- IDX (MNIST and its successors) ---- */

static uint32_t big_endian(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

/* Checks magic, dimensions and length of an IDX file of unsigned bytes; returns where the data starts. */
static const unsigned char *idx_check(const whole_file *f, uint32_t dimensions, uint32_t size[3]) {
    const uint32_t magic = 0x800u + dimensions;
    const size_t header = 4u + 4u * dimensions;
    uint64_t expected = 1;
    if (f->count < header) bad_input("%s: expected an IDX header of %zu bytes, got %zu", f->name, header, f->count);
    if (big_endian(f->bytes) != magic)
        bad_input("%s: expected the magic number 0x%08x, got 0x%08x", f->name, magic, big_endian(f->bytes));
    for (uint32_t i = 0; i < dimensions; i++) {
        size[i] = big_endian(f->bytes + 4 + 4 * i);
        if (size[i] == 0 || size[i] > 100000000u || (i > 0 && size[i] > 1024))
            bad_input("%s: dimension %u of %u is out of range", f->name, i, size[i]);
        expected *= size[i]; /* at most 10^8 x 2^20: fits */
    }
    if (f->count - header != expected)
        bad_input("%s: expected %llu bytes of data, got %zu", f->name, (unsigned long long)expected, f->count - header);
    return f->bytes + header;
}

static void check_labels(const char *name, const uint8_t *label, size_t count, size_t classes) {
    for (size_t i = 0; i < count; i++)
        if (label[i] >= classes)
            bad_input("%s: label %u of image %zu: expected less than %zu", name, label[i], i, classes);
}

static void idx_read(image_set *set, const char *folder, const char *images, const char *labels, uint32_t shape[2]) {
    whole_file f;
    uint32_t size[3];
    file_read(&f, folder, images);
    const unsigned char *data = idx_check(&f, 3, size);
    set->count = size[0];
    if (shape[0] == 0) memcpy(shape, size + 1, 2 * sizeof *shape);
    if (shape[0] != size[1] || shape[1] != size[2])
        bad_input("%s: expected images of %ux%u, got %ux%u", f.name, shape[0], shape[1], size[1], size[2]);
    set->pixel = new_array(set->count, (size_t)size[1] * size[2]);
    memcpy(set->pixel, data, set->count * size[1] * size[2]);
    free(f.bytes);

    file_read(&f, folder, labels);
    data = idx_check(&f, 1, size);
    if (size[0] != set->count) bad_input("%s: expected %zu labels, got %u", f.name, set->count, size[0]);
    check_labels(f.name, data, set->count, MAX_CLASSES);
    set->label = new_array(set->count, 1);
    memcpy(set->label, data, set->count);
    free(f.bytes);
}

static void idx_load(dataset *d, const char *folder) {
    uint32_t shape[2] = {0, 0};
    idx_read(&d->train, folder, "train-images-idx3-ubyte", "train-labels-idx1-ubyte", shape);
    idx_read(&d->test, folder, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", shape);
    d->height = shape[0];
    d->width = shape[1];
    d->channels = 1;
    d->classes = MAX_CLASSES;
}

/* ---- CIFAR-10 (binary version): records of one label byte and 3 x 32 x 32 pixels ---- */

enum { CIFAR_PIXELS = 3 * 32 * 32, CIFAR_RECORD = 1 + CIFAR_PIXELS };

static void cifar_append(image_set *set, const char *folder, const char *name) {
    whole_file f;
    file_read(&f, folder, name);
    if (f.count == 0 || f.count % CIFAR_RECORD != 0)
        bad_input("%s: expected a multiple of %d bytes, got %zu", f.name, CIFAR_RECORD, f.count);
    size_t more = f.count / CIFAR_RECORD, all = set->count + more;
    uint8_t *pixel = new_array(all, CIFAR_PIXELS), *label = new_array(all, 1);
    if (set->count) {
        memcpy(pixel, set->pixel, set->count * CIFAR_PIXELS);
        memcpy(label, set->label, set->count);
    }
    for (size_t i = 0; i < more; i++) {
        const unsigned char *record = f.bytes + i * CIFAR_RECORD;
        label[set->count + i] = record[0];
        memcpy(pixel + (set->count + i) * CIFAR_PIXELS, record + 1, CIFAR_PIXELS);
    }
    check_labels(f.name, label + set->count, more, MAX_CLASSES);
    free(set->pixel);
    free(set->label);
    free(f.bytes);
    *set = (image_set){pixel, label, all};
}

static void cifar_load(dataset *d, const char *folder) {
    char name[] = "data_batch_1.bin";
    for (char i = '1'; i <= '5'; i++) { /* whichever of the five are there: one is enough to try it */
        name[11] = i;
        if (dataset_file_exists(folder, name)) cifar_append(&d->train, folder, name);
    }
    cifar_append(&d->test, folder, "test_batch.bin");
    d->height = d->width = 32;
    d->channels = 3;
    d->classes = MAX_CLASSES;
}

/* ---- Data sets ---- */

/* The last part of the path; only what neither a terminal nor an SVG minds. */
static void name_after_folder(dataset *d, const char *folder) {
    size_t end = strlen(folder), n = 0;
    while (end > 0 && folder[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && folder[begin - 1] != '/') begin--;
    for (; begin < end && n + 1 < sizeof d->name; begin++)
        if (isalnum((unsigned char)folder[begin]) || strchr("-_. ", folder[begin])) d->name[n++] = folder[begin];
    d->name[n] = 0;
}

void dataset_load(dataset *d, const char *folder) {
    memset(d, 0, sizeof *d);
    if (dataset_file_exists(folder, "train-images-idx3-ubyte"))
        idx_load(d, folder);
    else if (dataset_file_exists(folder, "data_batch_1.bin"))
        cifar_load(d, folder);
    else
        bad_input("%s: no data set found (expected train-images-idx3-ubyte[.gz] or data_batch_1.bin)", folder);
    d->features = d->width * d->height * d->channels;
    name_after_folder(d, folder);
    dataset_normalise(d);
}

void dataset_normalise(dataset *d) {
    const size_t plane = d->width * d->height;
    for (size_t c = 0; c < d->channels; c++) {
        uint64_t sum = 0, squares = 0; /* integers: exact, whatever the order */
        for (size_t i = 0; i < d->train.count; i++) {
            const uint8_t *p = d->train.pixel + (i * d->channels + c) * plane;
            for (size_t j = 0; j < plane; j++) {
                sum += p[j];
                squares += (uint64_t)p[j] * p[j];
            }
        }
        double n = (double)d->train.count * (double)plane;
        double mean = (double)sum / n, variance = (double)squares / n - mean * mean;
        double deviation = variance > 1.0 ? sqrt(variance) : 1.0; /* images of one colour: no division by nothing */
        d->scale[c] = (float)(1.0 / deviation);
        d->shift[c] = (float)(-mean / deviation);
    }
}

void dataset_free(dataset *d) {
    free(d->train.pixel);
    free(d->train.label);
    free(d->test.pixel);
    free(d->test.label);
    memset(d, 0, sizeof *d);
}

void dataset_gather(const dataset *d, const image_set *set, const uint32_t *index, size_t n, float *x, uint8_t *y) {
    const size_t plane = d->width * d->height;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *from = set->pixel + (size_t)index[i] * d->features;
        y[i] = set->label[index[i]];
        for (size_t c = 0; c < d->channels; c++) {
            float scale = d->scale[c], shift = d->shift[c];
            for (size_t j = 0; j < plane; j++) *x++ = (float)*from++ * scale + shift;
        }
    }
}

/* ---- Shares ---- */

/* log of a Gamma(alpha, 1) variate, after Marsaglia and Tsang; the log, because for small alpha the variate itself is
 * below the smallest double most of the time. */
static double log_gamma_variate(rng *r, double alpha) {
    double boost = 0.0;
    if (alpha < 1.0) { /* Gamma(a) = Gamma(a + 1) x U^(1/a) */
        boost = log(1.0 - rng_uniform(r)) / alpha;
        alpha += 1.0;
    }
    const double d = alpha - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        const double two_pi = 6.283185307179586;
        double radius = sqrt(-2.0 * log(1.0 - rng_uniform(r)));
        double normal = radius * cos(two_pi * rng_uniform(r));
        double v = 1.0 + c * normal;
        if (v <= 0.0) continue;
        v = v * v * v;
        if (log(1.0 - rng_uniform(r)) < 0.5 * normal * normal + d - d * v + d * log(v)) return log(d * v) + boost;
    }
}

void dirichlet(rng *r, double alpha, size_t n, double *p) {
    double largest = -HUGE_VAL, sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        p[i] = log_gamma_variate(r, alpha);
        if (p[i] > largest) largest = p[i];
    }
    for (size_t i = 0; i < n; i++) sum += p[i] = exp(p[i] - largest);
    for (size_t i = 0; i < n; i++) p[i] /= sum;
}

/* A worker without a single image cannot train: the richest gives it one. */
static void nobody_empty(partition *p) {
    for (size_t w = 0; w < p->workers; w++) {
        size_t richest = 0;
        if (p->count[w]) continue;
        for (size_t v = 1; v < p->workers; v++)
            if (p->count[v] > p->count[richest]) richest = v;
        p->index[w][p->count[w]++] = p->index[richest][--p->count[richest]];
    }
}

void partition_make(partition *p, const dataset *d, size_t workers, double alpha, uint64_t seed) {
    const size_t n = d->train.count;
    memset(p, 0, sizeof *p);
    p->alpha = alpha;
    p->workers = workers;
    if (n < workers) bad_input("%zu workers cannot share %zu training images", workers, n);
    if (alpha <= 0.0) return;

    uint32_t *of_class = new_array(n, sizeof *of_class);
    double *proportion = new_array(workers, sizeof *proportion);
    p->index = new_array(workers, sizeof *p->index);
    p->count = new_array(workers, sizeof *p->count);
    for (size_t w = 0; w < workers; w++) p->index[w] = new_array(n, sizeof **p->index);
    for (size_t c = 0; c < d->classes; c++) {
        rng r = rng_make(seed, RNG_PARTITION, c);
        size_t found = 0, dealt = 0;
        double upto = 0.0;
        for (size_t i = 0; i < n; i++)
            if (d->train.label[i] == c) of_class[found++] = (uint32_t)i;
        rng_shuffle(&r, of_class, found);
        dirichlet(&r, alpha, workers, proportion);
        for (size_t w = 0; w < workers; w++) {
            upto += proportion[w];
            size_t end = w + 1 == workers ? found : (size_t)(upto * (double)found + 0.5);
            if (end > found) end = found;
            while (dealt < end) p->index[w][p->count[w]++] = of_class[dealt++];
        }
    }
    nobody_empty(p);
    free(proportion);
    free(of_class);
}

void partition_free(partition *p) {
    for (size_t w = 0; p->index && w < p->workers; w++) free(p->index[w]);
    free(p->index);
    free(p->count);
    memset(p, 0, sizeof *p);
}

/* ---- Samplers ---- */

/* Orders the next epoch. Without fixed shares all workers shuffle the whole set alike (same stream) and each keeps
 * every workers-th image; with them each shuffles its own (a stream of its own). */
static void sampler_refill(sampler *s) {
    const partition *p = s->share;
    s->next = 0;
    if (p->index) {
        rng r = rng_make(s->seed, RNG_SHUFFLE, s->epoch++ * p->workers + s->worker);
        memcpy(s->order, p->index[s->worker], s->count * sizeof *s->order);
        rng_shuffle(&r, s->order, s->count);
    } else {
        rng r = rng_make(s->seed, RNG_SHUFFLE, s->epoch++);
        for (size_t i = 0; i < s->total; i++) s->order[i] = (uint32_t)i;
        rng_shuffle(&r, s->order, s->total);
        for (size_t i = 0; i < s->count; i++) s->order[i] = s->order[i * p->workers + s->worker];
    }
}

void sampler_init(sampler *s, const partition *p, size_t worker, const dataset *d, uint64_t seed) {
    memset(s, 0, sizeof *s);
    s->share = p;
    s->worker = worker;
    s->seed = seed;
    s->total = d->train.count;
    s->count = p->index ? p->count[worker] : s->total / p->workers;
    s->order = new_array(s->total, sizeof *s->order);
    sampler_refill(s);
}

void sampler_next(sampler *s, size_t n, uint32_t *index) {
    for (size_t i = 0; i < n; i++) {
        if (s->next == s->count) sampler_refill(s);
        index[i] = s->order[s->next++];
    }
}

void sampler_free(sampler *s) {
    free(s->order);
    memset(s, 0, sizeof *s);
}
