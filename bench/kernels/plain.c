/* SPDX-License-Identifier: MIT
 * plain.c: the loops that one writes without thinking of it, for -O3 -march=native. One thread, sums in double. */
#include "kernels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double product(size_t d, const float *x, const float *y) {
    double sum = 0;
    size_t i;
    for (i = 0; i < d; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

static void axpy(arrays *a) {
    const float *restrict x = a->x[1];
    float *restrict y = a->x[0];
    const float s = (float)a->a;
    size_t i;
    for (i = 0; i < a->d; i++) y[i] += s * x[i];
}

static void pull_to(const arrays *a, const float *restrict c) {
    float *restrict x = a->x[0];
    const float l = (float)a->pull, keep = (float)(1 - a->pull);
    size_t i;
    for (i = 0; i < a->d; i++) x[i] = keep * x[i] + l * c[i];
}

static void pull(arrays *a) { pull_to(a, a->x[1]); }
static void sqnorm(arrays *a) { a->result[0] = product(a->d, a->x[0], a->x[0]); }
static void dot(arrays *a) { a->result[0] = product(a->d, a->x[0], a->x[1]); }

static void dots(arrays *a) {
    const float *x = a->x[0], *y = a->x[1];
    double xy = 0, xx = 0, yy = 0;
    size_t i;
    for (i = 0; i < a->d; i++) {
        xy += (double)x[i] * (double)y[i];
        xx += (double)x[i] * (double)x[i];
        yy += (double)y[i] * (double)y[i];
    }
    a->result[0] = xy;
    a->result[1] = xx;
    a->result[2] = yy;
}

static void weighted_sum(arrays *a) {
    float *restrict out = a->out;
    size_t i, m;
    for (i = 0; i < a->d; i++) {
        float sum = 0;
        for (m = 0; m < MODELS; m++) sum += (float)a->w[m] * a->x[m][i];
        out[i] = sum;
    }
}

static void center_pull(arrays *a) {
    weighted_sum(a);
    pull_to(a, a->out);
}

static void sgd(arrays *a) {
    float *restrict x = a->x[0], *restrict v = a->x[2];
    const float *restrict g = a->x[1];
    const float rate = (float)a->rate, momentum = (float)a->momentum, decay = (float)a->decay;
    double sum = 0;
    size_t i;
    for (i = 0; i < a->d; i++) {
        sum += (double)g[i] * (double)g[i];
        v[i] = momentum * v[i] + (g[i] + decay * x[i]);
        x[i] -= rate * v[i];
    }
    a->result[0] = sum;
}

static void sam(arrays *a) {
    float *restrict x = a->x[0], *restrict backup = a->out;
    const float *restrict g = a->x[1];
    float s;
    size_t i;
    a->result[0] = product(a->d, g, g);
    s = (float)(a->rho / (sqrt(a->result[0]) + a->eps));
    for (i = 0; i < a->d; i++) {
        backup[i] = x[i];
        x[i] += s * g[i];
    }
}

static void launch(arrays *a) {
    float *restrict x = a->x[0], *restrict w = a->x[1], *restrict out = a->out;
    const float *restrict sum = a->x[2];
    const float share = (float)(1 / a->count);
    size_t i;
    for (i = 0; i < a->d; i++) {
        out[i] = x[i] - w[i];
        w[i] += sum[i] * share;
        x[i] = w[i];
    }
}

static void launch_passes(arrays *a) {
    float *restrict x = a->x[0], *restrict w = a->x[1], *restrict out = a->out;
    const float *restrict sum = a->x[2];
    const float share = (float)(1 / a->count);
    size_t i;
    for (i = 0; i < a->d; i++) out[i] = x[i] - w[i];
    for (i = 0; i < a->d; i++) w[i] += sum[i] * share;
    memcpy(x, w, a->d * sizeof *x);
}

static void launch_carry(arrays *a) {
    float *restrict x = a->x[0], *restrict w = a->x[1], *restrict own = a->x[3];
    const float *restrict sum = a->x[2];
    const float share = (float)(1 / a->count), carry = (float)a->carry;
    size_t i;
    for (i = 0; i < a->d; i++) {
        const float d = x[i] - (w[i] + carry * own[i]);
        w[i] += sum[i] * share;
        x[i] = w[i] + carry * d;
        own[i] = d;
    }
}

static const form forms[] = {
    {KERNEL_AXPY, "loop", 0, axpy},
    {KERNEL_PULL, "loop", 0, pull},
    {KERNEL_SQNORM, "loop", 0, sqnorm},
    {KERNEL_DOT, "loop", 0, dot},
    {KERNEL_DOTS, "loop", 0, dots},
    {KERNEL_WEIGHTED_SUM, "loop", 0, weighted_sum},
    {KERNEL_CENTER_PULL, "two loops", 0, center_pull},
    {KERNEL_SGD, "loop", 0, sgd},
    {KERNEL_SAM, "two loops", 0, sam},
    {KERNEL_LAUNCH, "loop", 0, launch},
    {KERNEL_LAUNCH, "two loops, memcpy", 0, launch_passes},
    {KERNEL_LAUNCH_CARRY, "loop", 0, launch_carry},
};

static void version(char *text, size_t size) {
#if defined __clang__
    snprintf(text, size, "clang %d.%d, -O3 -march=native, one thread", __clang_major__, __clang_minor__);
#else
    snprintf(text, size, "gcc %d.%d, -O3 -march=native, one thread", __GNUC__, __GNUC_MINOR__);
#endif
}

const peer peer_plain = {"plain C", 0, version, NULL, NULL, forms, sizeof forms / sizeof *forms};
