/* SPDX-License-Identifier: MIT
 * subspace_model.h: AdaCons once more, in plain arithmetic and without any network: what the tests compare with.
 * Written from the specification, not from the library.
 *
 *     model m;
 *     model_open(&m, 4, elements, 1, NULL);         // 4 workers, one group
 *     m.momentum = 0.9; m.scale = SUBSPACE_SCALE_OFF;
 *     fill(m.g, [worker][element]); m.samples[w] = 1;
 *     model_round(&m);                              // m.alpha, m.weight, ..., m.out
 *     model_close(&m);
 *
 * A worker whose gradient of a group is not finite is left out of that group; the average over steps then sits the
 * round out. Include after ../subspace.h, for its enumerations. */
#ifndef SUBSPACE_MODEL_H
#define SUBSPACE_MODEL_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct model {
    uint32_t workers;
    size_t elements, groups;
    uint32_t *group_of; /* of an element */
    subspace_rule rule;
    subspace_assignment assignment;
    subspace_scale scale; /* none of them the default */
    subspace_negative negative;
    double momentum, epsilon;
    double *g;       /* [worker][element] */
    double *samples; /* [worker] */
    double *slots;   /* [group][worker] */
    uint32_t *slot_count;
    /* of the last round; [group][worker] */
    double *norm, *dot, *alpha, *weight, *coefficient;
    unsigned char *excluded;
    double *factor; /* [group] */
    double *out;    /* [element] */
    double *size;   /* [element]: sum of |c_i g_i|, times the factor: what an error is to be measured by */
    uint64_t zero_sums, fallbacks, restarts;
    int nobody; /* a group without any worker: the round is rejected */
} model;

static inline double *model_room(size_t n) {
    double *p = (double *)calloc(n + 1, sizeof *p);
    if (!p) abort();
    return p;
}

/* group_of: of each element; NULL: 0. */
static inline void model_open(model *m, uint32_t workers, size_t elements, size_t groups, const uint32_t *group_of) {
    size_t i, each = workers * groups;
    memset(m, 0, sizeof *m);
    m->workers = workers;
    m->elements = elements;
    m->groups = groups;
    m->group_of = (uint32_t *)calloc(elements + 1, sizeof *m->group_of);
    for (i = 0; group_of && i < elements; i++) m->group_of[i] = group_of[i];
    m->scale = SUBSPACE_SCALE_PROJECTION;
    m->epsilon = 1e-8;
    m->g = model_room(workers * elements);
    m->samples = model_room(workers);
    for (i = 0; i < workers; i++) m->samples[i] = 1;
    m->slots = model_room(each);
    m->slot_count = (uint32_t *)calloc(groups + 1, sizeof *m->slot_count);
    m->norm = model_room(each);
    m->dot = model_room(each);
    m->alpha = model_room(each);
    m->weight = model_room(each);
    m->coefficient = model_room(each);
    m->excluded = (unsigned char *)calloc(each + 1, 1);
    m->factor = model_room(groups);
    m->out = model_room(elements);
    m->size = model_room(elements);
}

static inline void model_close(model *m) {
    free(m->group_of);
    free(m->g);
    free(m->samples);
    free(m->slots);
    free(m->slot_count);
    free(m->norm);
    free(m->dot);
    free(m->alpha);
    free(m->weight);
    free(m->coefficient);
    free(m->excluded);
    free(m->factor);
    free(m->out);
    free(m->size);
    memset(m, 0, sizeof *m);
}

static inline void model_group(model *m, size_t group) {
    const size_t d = m->elements, at = group * m->workers;
    double *alpha = m->alpha + at, *w = m->weight + at, *c = m->coefficient + at, *slots = m->slots + at;
    uint32_t who[64], order[64], n = 0, i, k;
    double v[64], samples = 0, sum = 0, size = 0, least = 0;
    long double mean = 0, along = 0, length = 0;
    size_t e;
    for (i = 0; i < m->workers; i++) {
        m->excluded[at + i] = 0;
        for (e = 0; e < d; e++)
            if (m->group_of[e] == group && !isfinite(m->g[i * d + e])) m->excluded[at + i] = 1;
        w[i] = c[i] = 0;
        if (m->excluded[at + i]) continue;
        who[n++] = i;
        samples += m->samples[i];
    }
    if (!n) {
        m->nobody = 1;
        return;
    }
    for (k = 0; k < n; k++) {
        long double dot = 0, square = 0;
        i = who[k];
        for (e = 0; e < d; e++) {
            long double s = 0;
            uint32_t j;
            if (m->group_of[e] != group) continue;
            for (j = 0; j < n; j++) s += (long double)m->samples[who[j]] * m->g[who[j] * d + e];
            dot += m->g[i * d + e] * s;
            square += (long double)m->g[i * d + e] * m->g[i * d + e];
        }
        m->dot[at + i] = (double)dot;
        m->norm[at + i] = (double)sqrtl(square);
        alpha[i] = m->norm[at + i] + m->epsilon > 0 ? (double)dot / (m->norm[at + i] + m->epsilon) / samples : 0;
    }
    if (m->rule == SUBSPACE_NORMALISED) {
        /* ascending, ties by rank */
        for (k = 0; k < n; k++) {
            uint32_t smaller = 0;
            for (i = 0; i < n; i++)
                smaller += alpha[who[i]] < alpha[who[k]] || (alpha[who[i]] == alpha[who[k]] && i < k);
            order[smaller] = k;
        }
        for (k = 0; k < n; k++) v[k] = alpha[who[order[k]]];
        if (n == m->workers) {
            if (m->slot_count[group] && m->slot_count[group] != n) m->restarts++;
            for (k = 0; k < n; k++) {
                if (m->slot_count[group] == n) v[k] = m->momentum * slots[k] + (1 - m->momentum) * v[k];
                slots[k] = v[k];
            }
            m->slot_count[group] = n;
        }
        for (k = 0; k < n; k++) {
            if (m->assignment == SUBSPACE_INVERSE)
                w[who[order[k]]] = v[k];
            else
                w[who[k]] = v[order[k]];
        }
        for (k = 0; k < n; k++)
            if (w[who[k]] < least) least = w[who[k]];
        for (k = 0; k < n; k++) {
            i = who[k];
            if (m->negative == SUBSPACE_NEGATIVE_SHIFT) w[i] -= least;
            if (m->negative == SUBSPACE_NEGATIVE_CLAMP && w[i] < 0) w[i] = 0;
            w[i] *= m->samples[i];
            sum += w[i];
            size += fabs(w[i]);
        }
        if (m->assignment == SUBSPACE_FORWARD ? sum == 0 || !isfinite(sum) : !(sum > 1e-6 * size)) {
            m->zero_sums++;
            for (k = 0; k < n; k++) w[who[k]] = m->samples[who[k]] / samples;
        } else {
            for (k = 0; k < n; k++) w[who[k]] /= sum;
        }
        for (k = 0; k < n; k++) {
            double l = m->norm[at + who[k]] + m->epsilon;
            c[who[k]] = l > 0 ? w[who[k]] / l : 0;
        }
    } else {
        for (k = 0; k < n; k++) {
            double p = m->samples[who[k]] / samples;
            i = who[k];
            c[i] = w[i] = m->rule == SUBSPACE_MEAN ? p : n * p * (m->dot[at + i] / samples);
        }
    }
    for (k = 0; k < n; k++) {
        i = who[k];
        mean += m->samples[i] / samples * m->dot[at + i] / samples;
        along += c[i] * (m->dot[at + i] / samples);
        length += m->samples[i] / samples * m->norm[at + i];
    }
    m->factor[group] = 1;
    if (m->scale == SUBSPACE_SCALE_PROJECTION && along > 0) {
        m->factor[group] = (double)(mean / along);
    } else if (m->scale != SUBSPACE_SCALE_OFF) {
        m->fallbacks += m->scale == SUBSPACE_SCALE_PROJECTION;
        m->factor[group] = (double)length;
    }
    for (e = 0; e < d; e++) {
        long double s = 0, most = 0;
        if (m->group_of[e] != group) continue;
        for (k = 0; k < n; k++) {
            s += (long double)c[who[k]] * m->g[who[k] * d + e];
            most += fabsl((long double)c[who[k]] * m->g[who[k] * d + e]);
        }
        m->out[e] = (double)(m->factor[group] * s);
        m->size[e] = (double)(m->factor[group] * most);
    }
}

/* Counts start anew. */
static inline void model_round(model *m) {
    size_t k;
    m->zero_sums = m->fallbacks = m->restarts = 0;
    m->nobody = 0;
    for (k = 0; k < m->groups; k++) model_group(m, k);
}

/* Other workers from now on (not more than at first). */
static inline void model_shrink(model *m, uint32_t workers) {
    size_t k;
    uint32_t i;
    for (k = 0; k < m->groups; k++)
        for (i = 0; i < workers; i++) m->slots[k * workers + i] = m->slots[k * m->workers + i];
    m->workers = workers;
}

#endif /* SUBSPACE_MODEL_H */
