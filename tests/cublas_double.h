/* SPDX-License-Identifier: MIT
 * cublas_double.h: as much of cuBLAS as examples/train/gpu.cu uses, on the CPU, beside cuda_shim.h. A product is work
 * of a stream like any other, and is added up by examples/train/gemm.c: with the bits of the trainer without a GPU. Its
 * operands must lie in device memory wholly. */
#ifndef WEFT_TESTS_CUBLAS_DOUBLE_H
#define WEFT_TESTS_CUBLAS_DOUBLE_H

#include "cuda_events.h"

extern "C" {
#include "train/gemm.h"
}

typedef enum cublasStatus_t {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_INVALID_VALUE = 7
} cublasStatus_t;
typedef enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 } cublasOperation_t;
typedef struct cublas_double {
    cudaStream_t stream;
} * cublasHandle_t;

inline cublasStatus_t cublasCreate(cublasHandle_t *h) {
    *h = new cublas_double();
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasDestroy(cublasHandle_t h) {
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetStream(cublasHandle_t h, cudaStream_t s) {
    h->stream = s;
    return CUBLAS_STATUS_SUCCESS;
}

/* Matrices lie column by column: C (m x n) = op(A) (m x k) op(B) (k x n), or is added to. gemm.h's rows are C's
 * columns, so what it computes is the transpose. */
inline cublasStatus_t cublasSgemm(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                                  const float *alpha, const float *a, int lda, const float *b, int ldb,
                                  const float *beta, float *c, int ldc) {
    CUSHIM_TURN;
    const int a_rows = ta == CUBLAS_OP_N ? m : k, a_columns = ta == CUBLAS_OP_N ? k : m;
    const int b_rows = tb == CUBLAS_OP_N ? k : n, b_columns = tb == CUBLAS_OP_N ? n : k;
    const bool add = *beta != 0.0f;
    const size_t rows = (size_t)n, columns = (size_t)m, depth = (size_t)k, apart = (size_t)ldc;
    if (m < 1 || n < 1 || k < 1 || lda < a_rows || ldb < b_rows || ldc < m || *alpha != 1.0f || (add && *beta != 1.0f))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (cushim::where(a, sizeof *a * (size_t)lda * (size_t)a_columns) != 1 ||
        cushim::where(b, sizeof *b * (size_t)ldb * (size_t)b_columns) != 1 ||
        cushim::where(c, sizeof *c * apart * rows) != 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    const matrix at = ta == CUBLAS_OP_N ? matrix{a, (size_t)lda, 1} : matrix{a, 1, (size_t)lda};
    const matrix bt = tb == CUBLAS_OP_N ? matrix{b, (size_t)ldb, 1} : matrix{b, 1, (size_t)ldb};
    cushim::of(h->stream)->waiting.push_back([=]() {
        cushim::done().products++;
        gemm(rows, columns, depth, bt, at, c, apart, add);
        return cudaSuccess;
    });
    return CUBLAS_STATUS_SUCCESS;
}

/* For tests in C. */
extern "C" __attribute__((used)) inline void cuda_work_done(uint64_t *launches, uint64_t *copies, uint64_t *products) {
    CUSHIM_TURN;
    *launches = cushim::done().launches;
    *copies = cushim::done().copies;
    *products = cushim::done().products;
}

#endif
