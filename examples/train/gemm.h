/* SPDX-License-Identifier: MIT
 * gemm.h: C = A B or C += A B for float matrices whose rows and columns may lie at any stride, so that one function
 * serves the forward pass and both products of the backward pass (a transpose is a swap of strides). */
#ifndef TRAIN_GEMM_H
#define TRAIN_GEMM_H

#include <stdbool.h>
#include <stddef.h>

typedef struct matrix {
    const float *data;
    size_t row; /* distance from one row to the next */
    size_t col; /* distance from one column to the next */
} matrix;

static inline matrix matrix_of(const float *data, size_t columns) {
    const matrix m = {data, columns, 1};
    return m;
}

static inline matrix matrix_transposed(const float *data, size_t columns) {
    const matrix m = {data, 1, columns};
    return m;
}

/* c (m x n, row-major, rows c_row apart) = or += a (m x k) times b (k x n). c overlaps neither a nor b.
 * Every element is summed in the order of k, one rounding a product and one a sum, whatever the machine's vector
 * length: with contraction off (-ffp-contract=off) a training run gives the same bits everywhere. */
void gemm(size_t m, size_t n, size_t k, matrix a, matrix b, float *c, size_t c_row, bool accumulate);

#endif
