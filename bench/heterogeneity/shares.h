/* SPDX-License-Identifier: MIT
 * shares.h: whose images are whose, as the published codes of decentralised learning on heterogeneous data have it.
 * Agents are in groups of at most ten, each with its part of the images. Within a group the images of one class after
 * the other are dealt out by proportions drawn from Dirichlet(alpha), but none to an agent that has its fair share
 * already; all over again until each agent has at least half of it. Then what the agents have is laid end to end and
 * cut into equal parts: so all have as many, and a few classes more than they drew.
 * (T. Lin et al., arXiv 2102.04761, and the codes that follow it.) Where nobody who may get some of a class has drawn
 * any, which happens at alpha 0.001, it goes to whoever has least. */
#ifndef HETEROGENEITY_SHARES_H
#define HETEROGENEITY_SHARES_H

#include "train/data.h"
#include "train/rng.h"
#include "train/util.h"

#include <stdlib.h>
#include <string.h>

enum { SHARES_GROUP = 10, SHARES_MOST = 64, SHARES_CLASSES = MAX_CLASSES };
enum { STREAM_POOL = 100, STREAM_SHARES, STREAM_POWER }; /* of rng_make */

/* The end of each agent's part of `n` images of a class; `has` is how many it has, and grows. */
static inline void shares_deal(rng *r, double alpha, size_t agents, size_t fair, size_t n, size_t *has, size_t *end) {
    double p[SHARES_GROUP], sum = 0, upto = 0;
    size_t least = 0, from = 0;
    dirichlet(r, alpha, agents, p);
    for (size_t a = 0; a < agents; a++) {
        if (has[a] >= fair) p[a] = 0;
        if (has[a] < has[least]) least = a;
        sum += p[a];
    }
    if (!(sum > 0)) {
        for (size_t a = 0; a < agents; a++) p[a] = a == least;
        sum = 1;
    }
    for (size_t a = 0; a < agents; a++) {
        upto += p[a] / sum;
        end[a] = a + 1 == agents || upto >= 1 ? n : (size_t)(upto * (double)n);
        has[a] += end[a] - from;
        from = end[a];
    }
}

/* Images of a group, in any order, are put in the order of agents; within one, of classes. */
static inline void shares_group(rng *r, const uint8_t *label, uint32_t *image, size_t n, size_t agents, double alpha) {
    uint32_t *of_class[SHARES_CLASSES], *out = image;
    size_t count[SHARES_CLASSES] = {0}, end[SHARES_CLASSES][SHARES_GROUP], has[SHARES_GROUP], poorest;
    const size_t fair = n / agents;
    for (size_t c = 0; c < SHARES_CLASSES; c++) of_class[c] = (uint32_t *)new_array(n, sizeof **of_class);
    for (size_t i = 0; i < n; i++) of_class[label[image[i]]][count[label[image[i]]]++] = image[i];
    do {
        memset(has, 0, sizeof has);
        for (size_t c = 0; c < SHARES_CLASSES; c++) shares_deal(r, alpha, agents, fair, count[c], has, end[c]);
        poorest = n;
        for (size_t a = 0; a < agents; a++)
            if (has[a] < poorest) poorest = has[a];
    } while (poorest < fair / 2);
    for (size_t a = 0; a < agents; a++)
        for (size_t c = 0; c < SHARES_CLASSES; c++)
            for (size_t i = a ? end[c][a - 1] : 0; i < end[c][a]; i++) *out++ = of_class[c][i];
    for (size_t c = 0; c < SHARES_CLASSES; c++) free(of_class[c]);
}

/* The images of all agents, laid end to end, in equal parts. */
static inline void shares_cut(partition *p, const uint32_t *image, size_t agents, size_t each) {
    memset(p, 0, sizeof *p);
    p->workers = agents;
    p->index = (uint32_t **)new_array(agents, sizeof *p->index);
    p->count = (size_t *)new_array(agents, sizeof *p->count);
    for (size_t a = 0; a < agents; a++) {
        p->index[a] = (uint32_t *)new_array(each, sizeof **p->index);
        p->count[a] = each;
        memcpy(p->index[a], image + a * each, each * sizeof *image);
    }
}

/* `each` of those in `image` (agents times each, shuffled; put in order) for every agent. */
static inline void shares_make(partition *p, const uint8_t *label, uint32_t *image, size_t agents, size_t each,
                               double alpha, uint64_t seed) {
    rng r = rng_make(seed, STREAM_SHARES, 0);
    for (size_t from = 0; from < agents; from += SHARES_GROUP) {
        const size_t n = agents - from < SHARES_GROUP ? agents - from : SHARES_GROUP;
        shares_group(&r, label, image + from * each, n * each, n, alpha);
    }
    shares_cut(p, image, agents, each);
    p->alpha = alpha;
}

/* Of how many classes an agent has more than one image in a hundred, mean over agents. */
static inline double shares_classes(const partition *p, const uint8_t *label) {
    double sum = 0;
    for (size_t a = 0; a < p->workers; a++) {
        size_t count[SHARES_CLASSES] = {0};
        for (size_t i = 0; i < p->count[a]; i++) count[label[p->index[a][i]]]++;
        for (size_t c = 0; c < SHARES_CLASSES; c++) sum += count[c] * 100 > p->count[a];
    }
    return sum / (double)p->workers;
}

#endif
