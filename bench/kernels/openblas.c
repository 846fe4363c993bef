/* SPDX-License-Identifier: MIT
 * openblas.c: OpenBLAS through cblas, with as many threads as are under test. Where there are two ways, both. */
#include "kernels.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>

static blasint n_of(const arrays *a) { return (blasint)a->d; }

static double by_nrm2(const arrays *a, const float *x) {
    const double norm = (double)cblas_snrm2(n_of(a), x, 1);
    return norm * norm;
}

static double by_dot(const arrays *a, const float *x, const float *y) {
    return (double)cblas_sdot(n_of(a), x, 1, y, 1);
}

static void axpy(arrays *a) { cblas_saxpy(n_of(a), (float)a->a, a->x[1], 1, a->x[0], 1); }

static void pull_to(arrays *a, const float *c) {
    cblas_saxpby(n_of(a), (float)a->pull, c, 1, (float)(1 - a->pull), a->x[0], 1);
}

static void pull(arrays *a) { pull_to(a, a->x[1]); }
static void sqnorm_nrm2(arrays *a) { a->result[0] = by_nrm2(a, a->x[0]); }
static void sqnorm_dot(arrays *a) { a->result[0] = by_dot(a, a->x[0], a->x[0]); }
static void dot(arrays *a) { a->result[0] = by_dot(a, a->x[0], a->x[1]); }

static void dots_nrm2(arrays *a) {
    dot(a);
    a->result[1] = by_nrm2(a, a->x[0]);
    a->result[2] = by_nrm2(a, a->x[1]);
}

static void dots_dot(arrays *a) {
    dot(a);
    a->result[1] = by_dot(a, a->x[0], a->x[0]);
    a->result[2] = by_dot(a, a->x[1], a->x[1]);
}

static void dots_two(arrays *a) {
    dot(a);
    a->result[1] = by_dot(a, a->x[0], a->x[0]);
}

static void weighted_sum(arrays *a) {
    int i;
    cblas_saxpby(n_of(a), (float)a->w[0], a->x[0], 1, 0, a->out, 1);
    for (i = 1; i < MODELS; i++) cblas_saxpy(n_of(a), (float)a->w[i], a->x[i], 1, a->out, 1);
}

static void weighted_sum_gemv(arrays *a) {
    float w[MODELS];
    int i;
    for (i = 0; i < MODELS; i++) w[i] = (float)a->w[i];
    cblas_sgemv(CblasColMajor, CblasNoTrans, n_of(a), MODELS, 1, a->x[0], (blasint)a->stride, w, 1, 0, a->out, 1);
}

static void center_pull(arrays *a) {
    weighted_sum(a);
    pull_to(a, a->out);
}

static void center_pull_gemv(arrays *a) {
    weighted_sum_gemv(a);
    pull_to(a, a->out);
}

/* no array for d is needed: v = momentum v + g, then v += decay x */
static void sgd(arrays *a) {
    cblas_saxpby(n_of(a), 1, a->x[1], 1, (float)a->momentum, a->x[2], 1);
    cblas_saxpy(n_of(a), (float)a->decay, a->x[0], 1, a->x[2], 1);
    cblas_saxpy(n_of(a), (float)-a->rate, a->x[2], 1, a->x[0], 1);
    a->result[0] = by_dot(a, a->x[1], a->x[1]);
}

static void sam(arrays *a) {
    a->result[0] = by_dot(a, a->x[1], a->x[1]);
    cblas_scopy(n_of(a), a->x[0], 1, a->out, 1);
    cblas_saxpy(n_of(a), (float)(a->rho / (sqrt(a->result[0]) + a->eps)), a->x[1], 1, a->x[0], 1);
}

static void launch(arrays *a) {
    cblas_scopy(n_of(a), a->x[0], 1, a->out, 1);
    cblas_saxpy(n_of(a), -1, a->x[1], 1, a->out, 1);
    cblas_saxpy(n_of(a), (float)(1 / a->count), a->x[2], 1, a->x[1], 1);
    cblas_scopy(n_of(a), a->x[1], 1, a->x[0], 1);
}

/* d is formed where the last payload was */
static void launch_carry(arrays *a) {
    cblas_saxpby(n_of(a), 1, a->x[0], 1, (float)-a->carry, a->x[3], 1);
    cblas_saxpy(n_of(a), -1, a->x[1], 1, a->x[3], 1);
    cblas_saxpy(n_of(a), (float)(1 / a->count), a->x[2], 1, a->x[1], 1);
    cblas_scopy(n_of(a), a->x[1], 1, a->x[0], 1);
    cblas_saxpy(n_of(a), (float)a->carry, a->x[3], 1, a->x[0], 1);
}

static const form forms[] = {
    {KERNEL_AXPY, "saxpy", 0, axpy},
    {KERNEL_PULL, "saxpby", 0, pull},
    {KERNEL_SQNORM, "snrm2", 0, sqnorm_nrm2},
    {KERNEL_SQNORM, "sdot", 0, sqnorm_dot},
    {KERNEL_DOT, "sdot", 0, dot},
    {KERNEL_DOTS, "sdot, snrm2 twice", 0, dots_nrm2},
    {KERNEL_DOTS, "sdot three times", 0, dots_dot},
    {KERNEL_DOTS, "sdot twice, without y.y", FORM_LESS, dots_two},
    {KERNEL_WEIGHTED_SUM, "saxpby, 7 saxpy", 0, weighted_sum},
    {KERNEL_WEIGHTED_SUM, "sgemv", FORM_MATRIX, weighted_sum_gemv},
    {KERNEL_CENTER_PULL, "saxpby, 7 saxpy, saxpby", 0, center_pull},
    {KERNEL_CENTER_PULL, "sgemv, saxpby", FORM_MATRIX, center_pull_gemv},
    {KERNEL_SGD, "saxpby, saxpy twice, sdot", 0, sgd},
    {KERNEL_SAM, "sdot, scopy, saxpy", 0, sam},
    {KERNEL_LAUNCH, "scopy, saxpy twice, scopy", 0, launch},
    {KERNEL_LAUNCH_CARRY, "saxpby, saxpy twice, scopy, saxpy", 0, launch_carry},
};

static void begin(const arrays *a) { openblas_set_num_threads(a->threads); }

/* "OpenBLAS 0.3.21 NO_LAPACKE ... Zen MAX_THREADS=64" */
static void version(char *text, size_t size) {
    char number[32];
    if (sscanf(openblas_get_config(), "OpenBLAS %31s", number) != 1) snprintf(number, sizeof number, "?");
    snprintf(text, size, "%s, kernels for %s", number, openblas_get_corename());
}

const peer peer_openblas = {"OpenBLAS", 1, version, begin, NULL, forms, sizeof forms / sizeof *forms};
