/* SPDX-License-Identifier: MIT
 * collectives.h: what the units of bench-collectives have in common. For C and C++. */
#ifndef BENCH_COLLECTIVES_H
#define BENCH_COLLECTIVES_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what is summed: float, in place ----
 * Sums in place grow with each operation. Up to here all elements are zero, above they begin so small that a block of
 * MOST_OPERATIONS stays finite for up to eight ranks: nothing that a processor could treat as a special case. */
#define SMALL_BYTES ((size_t)1 << 16)
enum { MOST_OPERATIONS = 80 };

static inline void vector_fill(float *x, size_t bytes) {
    size_t i;
    for (i = 0; i < bytes / sizeof *x; i++) x[i] = bytes <= SMALL_BYTES ? 0.0f : 1e-36f * (float)(1 + i % 7);
}

static inline void vector_fill_check(float *x, size_t bytes, int rank) {
    size_t i;
    for (i = 0; i < bytes / sizeof *x; i++) x[i] = (float)((rank + 1) * (int)(1 + i % 7));
}

/* Is it the sum of these over all ranks? */
static inline int vector_check(const float *x, size_t bytes, int ranks) {
    size_t i;
    for (i = 0; i < bytes / sizeof *x; i++)
        if (x[i] != (float)(ranks * (ranks + 1) / 2 * (int)(1 + i % 7))) return 0;
    return 1;
}

/* Operations before the clock is started. */
static inline int warm_up(int operations) { return operations < 10 ? 1 : operations < 1000 ? operations / 10 : 100; }

/* ---- ours: threads of this process ---- */
enum ours_mode {
    OURS_SUM,       /* the transport's all_reduce, as one calls MPI_Allreduce */
    OURS_HOST,      /* the collective object, over that one */
    OURS_MESSAGES,  /* the collective object, over send and recv */
    OURS_MODES
};

typedef struct ours ours;
/* Ends the program where something fails; NULL if the transport has nothing for this mode. `vector`: one a rank. */
ours *ours_open(enum ours_mode mode, int ranks, size_t bytes, float *const *vector);
int ours_check(ours *);
double ours_block(ours *, int operations); /* seconds an operation */
void ours_close(ours *);

#ifdef __cplusplus
}
#endif
#endif
