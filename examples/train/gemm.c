/* SPDX-License-Identifier: MIT
 * gemm.c: a register-blocked matrix product. A tile of C (TILE_M rows by two vectors) stays in registers while it runs
 * along k; k is cut into blocks so that the strip of B that all tiles of a column share stays in the L1 cache. */
#include "gemm.h"

#include <string.h>

/* As many floats a vector as the compiler was told the machine has. Plain arrays elsewhere: same results, slower. */
#if defined __GNUC__ || defined __clang__
#if defined __AVX512F__
enum { LANES = 16, TILE_M = 8 };
#elif defined __AVX__
enum { LANES = 8, TILE_M = 4 };
#else
enum { LANES = 4, TILE_M = 4 };
#endif
typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
static inline vec vec_mul_add(vec sum, float a, vec b) {
    return sum + a * b;
}
static inline vec vec_zero(void) {
    return (vec){0};
}
#else
enum { LANES = 8, TILE_M = 4 };
typedef struct vec {
    float lane[LANES];
} vec;
static inline vec vec_mul_add(vec sum, float a, vec b) {
    for (int i = 0; i < LANES; i++) sum.lane[i] += a * b.lane[i];
    return sum;
}
static inline vec vec_zero(void) {
    vec v;
    memset(&v, 0, sizeof v);
    return v;
}
#endif

enum { TILE_N = 2 * LANES, BLOCK_K = 256 };

/* memcpy, because rows start anywhere; it compiles to one unaligned load or store. */
static inline vec vec_load(const float *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vec_store(float *p, vec v) {
    memcpy(p, &v, sizeof v);
}

/* One full tile: c[TILE_M][TILE_N] (+)= a[TILE_M][k] b[k][TILE_N]; the columns of b and c are contiguous. */
static void tile(size_t k, const float *const a[TILE_M], size_t a_col, const float *b, size_t b_row, float *c,
                 size_t c_row, bool accumulate) {
    vec sum[TILE_M][2];
    for (int i = 0; i < TILE_M; i++) {
        sum[i][0] = accumulate ? vec_load(c + (size_t)i * c_row) : vec_zero();
        sum[i][1] = accumulate ? vec_load(c + (size_t)i * c_row + LANES) : vec_zero();
    }
    for (size_t p = 0; p < k; p++) {
        vec b0 = vec_load(b + p * b_row), b1 = vec_load(b + p * b_row + LANES);
        for (int i = 0; i < TILE_M; i++) {
            float x = a[i][p * a_col];
            sum[i][0] = vec_mul_add(sum[i][0], x, b0);
            sum[i][1] = vec_mul_add(sum[i][1], x, b1);
        }
    }
    for (int i = 0; i < TILE_M; i++) {
        vec_store(c + (size_t)i * c_row, sum[i][0]);
        vec_store(c + (size_t)i * c_row + LANES, sum[i][1]);
    }
}

/* A tile that sticks out of C is computed whole, in a copy; rows beyond the end repeat the last one and are dropped. */
static void tile_at_edge(size_t rows, size_t columns, size_t k, const float *const a[TILE_M], size_t a_col,
                         const float *b, size_t b_row, float *c, size_t c_row, bool accumulate) {
    float copy[TILE_M * TILE_N] = {0};
    if (accumulate)
        for (size_t i = 0; i < rows; i++) memcpy(copy + i * TILE_N, c + i * c_row, columns * sizeof *c);
    tile(k, a, a_col, b, b_row, copy, TILE_N, accumulate);
    for (size_t i = 0; i < rows; i++) memcpy(c + i * c_row, copy + i * TILE_N, columns * sizeof *c);
}

/* b[k][columns] with the columns made contiguous and padded with zeros to a full tile. */
static void pack(size_t k, size_t columns, matrix b, float *out) {
    if (columns < TILE_N) memset(out, 0, k * TILE_N * sizeof *out);
    if (b.col == 1) {
        for (size_t p = 0; p < k; p++) memcpy(out + p * TILE_N, b.data + p * b.row, columns * sizeof *out);
        return;
    }
    for (size_t j = 0; j < columns; j++) /* a transpose, in the order that reads in sequence */
        for (size_t p = 0; p < k; p++) out[p * TILE_N + j] = b.data[p * b.row + j * b.col];
}

void gemm(size_t m, size_t n, size_t k, matrix a, matrix b, float *c, size_t c_row, bool accumulate) {
    float packed[BLOCK_K * TILE_N];
    if (k == 0 && !accumulate)
        for (size_t i = 0; i < m; i++) memset(c + i * c_row, 0, n * sizeof *c);
    for (size_t p = 0; p < k; p += BLOCK_K) {
        size_t depth = k - p < BLOCK_K ? k - p : BLOCK_K;
        bool add = accumulate || p > 0;
        for (size_t j = 0; j < n; j += TILE_N) {
            size_t columns = n - j < TILE_N ? n - j : TILE_N;
            matrix strip = {b.data + p * b.row + j * b.col, b.row, b.col};
            if (b.col != 1 || columns < TILE_N) {
                pack(depth, columns, strip, packed);
                strip = (matrix){packed, TILE_N, 1};
            }
            for (size_t i = 0; i < m; i += TILE_M) {
                size_t rows = m - i < TILE_M ? m - i : TILE_M;
                const float *row[TILE_M];
                for (size_t r = 0; r < TILE_M; r++)
                    row[r] = a.data + (i + (r < rows ? r : rows - 1)) * a.row + p * a.col;
                float *out = c + i * c_row + j;
                if (rows == TILE_M && columns == TILE_N)
                    tile(depth, row, a.col, strip.data, strip.row, out, c_row, add);
                else
                    tile_at_edge(rows, columns, depth, row, a.col, strip.data, strip.row, out, c_row, add);
            }
        }
    }
}
