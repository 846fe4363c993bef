/* SPDX-License-Identifier: MIT
 * kernels.h: what the units of bench-kernels have in common: the arrays that everybody works on, and what a contestant
 * is. For C and C++. A new row takes an entry here, one in kernels[] (rows.c), a case in ours.c and a form in each
 * peer that can do it. */
#ifndef BENCH_KERNELS_H
#define BENCH_KERNELS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kernel_id {
    KERNEL_AXPY,         /* x0 = x0 + a x1 */
    KERNEL_PULL,         /* x0 = (1 - pull) x0 + pull x1 */
    KERNEL_SQNORM,       /* result[0] = x0.x0 */
    KERNEL_DOT,          /* result[0] = x0.x1 */
    KERNEL_DOTS,         /* result[0..2] = x0.x1, x0.x0, x1.x1 */
    KERNEL_WEIGHTED_SUM, /* out = w0 x0 + ... + w7 x7 */
    KERNEL_CENTER_PULL,  /* the same, and then x0 = (1 - pull) x0 + pull out */
    KERNEL_SGD,          /* d = x1 + decay x0; x2 = momentum x2 + d; x0 = x0 - rate x2; result[0] = x1.x1 */
    KERNEL_SAM,          /* result[0] = x1.x1; out = x0; x0 = x0 + rho / (sqrt(result[0]) + eps) x1 */
    KERNEL_LAUNCH,       /* out = x0 - x1; x1 = x1 + x2 / count; x0 = x1 */
    KERNEL_LAUNCH_CARRY, /* d = x0 - (x1 + carry x3); x1 = x1 + x2 / count; x0 = x1 + carry d; x3 = d */
    KERNELS
} kernel_id;

enum { MODELS = 8, RESULTS = 3 };

typedef struct arrays {
    size_t d;         /* elements */
    float *x[MODELS]; /* the rows of one matrix */
    size_t stride;    /* elements from one row to the next */
    float *out;
    double w[MODELS];
    double a, pull, rate, momentum, decay, rho, eps, count, carry;
    double result[RESULTS];
    int threads;
} arrays;

/* One way in which a peer computes a kernel. */
enum {
    FORM_TEMPORARIES = 1, /* allocates arrays: run with malloc as it comes, and with malloc tuned */
    FORM_MATRIX = 2,      /* only if the models are the rows of one matrix: shown, but no goal is against it */
    FORM_LESS = 4,        /* does less than is asked for: the last result is missing */
    FORM_OWN_OUT = 8      /* `out` goes to an array of its own */
};

typedef struct form {
    kernel_id kernel;
    const char *how; /* what it calls */
    unsigned flags;
    void (*run)(arrays *);
} form;

typedef struct peer {
    const char *name;
    int judged; /* goals are against it */
    void (*version)(char *text, size_t size);
    void (*begin)(const arrays *);  /* other arrays, or another number of threads; may be NULL */
    void (*allocator)(int tuned);   /* before each measurement; NULL where no form has FORM_TEMPORARIES */
    const form *forms;
    size_t count;
} peer;

extern const peer peer_plain, peer_openblas, peer_torch;

/* ---- ours: the drivers of the header, a set of instructions at a time ---- */
const char *ours_isa_name(int isa);          /* NULL: there is none of this number */
int ours_isa_of(const char *name);           /* -1: no such name */
int ours_isa_available(int isa);
int ours_isa_best(void);                     /* what AUTO stands for */
void ours_threads(int threads);              /* the pool; 1: none */
/* Chooses the tables for what follows, as an object does when it is made: `isa`, and threads or not. */
void ours_begin(kernel_id kernel, int isa, int threads, const arrays *);
void ours_run(kernel_id kernel, arrays *);
int ours_streams(void); /* have the chosen tables stores that bypass the cache? */

/* ---- ceilings: the same reads and writes, and nothing else ---- */
typedef struct streams {
    int read, update, write; /* arrays only read, read and written in place, only written */
} streams;

enum { CEILINGS = 6 };
const char *ceiling_name(int which);
int ceiling_bypasses(int which); /* by its stores, the cache */
void ceiling_threads(int threads);
/* Around the passes: the calling thread goes to a processor of its own, and may leave it again. */
void ceiling_begin(void);
void ceiling_end(void);
/* One pass over x[0..], of which the first `update` are those that are updated (their contents stay), and out. */
void ceiling_run(int which, streams, arrays *);

#ifdef __cplusplus
}
#endif
#endif
