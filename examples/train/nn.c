/* SPDX-License-Identifier: MIT */
#include "nn.h"

#include "gemm.h"

#include <math.h>
#include <string.h>

/* ---- Dense ---- */

void dense_forward(size_t n, size_t in, size_t out, const float *x, const float *w, const float *b, float *y) {
    for (size_t i = 0; i < n; i++) memcpy(y + i * out, b, out * sizeof *y);
    gemm(n, out, in, matrix_of(x, in), matrix_of(w, out), y, out, true);
}

void dense_backward(size_t n, size_t in, size_t out, const float *x, const float *w, const float *dy, float *dw,
                    float *db, float *dx) {
    gemm(in, out, n, matrix_transposed(x, in), matrix_of(dy, out), dw, out, false);
    memset(db, 0, out * sizeof *db);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < out; j++) db[j] += dy[i * out + j];
    if (dx) gemm(n, in, out, matrix_of(dy, out), matrix_transposed(w, out), dx, in, false);
}

/* ---- ReLU ---- */

void relu_forward(size_t n, float *y) {
    for (size_t i = 0; i < n; i++) y[i] = y[i] > 0.0f ? y[i] : 0.0f;
}

void relu_backward(size_t n, const float *y, float *dy) {
    for (size_t i = 0; i < n; i++) dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

/* ---- Convolution, as a matrix product ---- */

/* One row of `columns` for each input channel and each of the nine neighbours: the plane, shifted by that much. */
static void take_apart(size_t in, size_t h, size_t w, const float *x, float *columns) {
    for (size_t c = 0; c < in; c++, x += h * w)
        for (size_t ky = 0; ky < 3; ky++)
            for (size_t kx = 0; kx < 3; kx++)
                for (size_t y = 0; y < h; y++, columns += w) {
                    if (y + ky < 1 || y + ky > h) {
                        memset(columns, 0, w * sizeof *columns);
                        continue;
                    }
                    const float *row = x + (y + ky - 1) * w;
                    if (kx == 0) {
                        columns[0] = 0.0f;
                        memcpy(columns + 1, row, (w - 1) * sizeof *row);
                    } else if (kx == 1) {
                        memcpy(columns, row, w * sizeof *row);
                    } else {
                        memcpy(columns, row + 1, (w - 1) * sizeof *row);
                        columns[w - 1] = 0.0f;
                    }
                }
}

/* The transpose of that: every copy's gradient is added to the pixel it came from. */
static void put_together(size_t in, size_t h, size_t w, const float *columns, float *x) {
    memset(x, 0, in * h * w * sizeof *x);
    for (size_t c = 0; c < in; c++, x += h * w)
        for (size_t ky = 0; ky < 3; ky++)
            for (size_t kx = 0; kx < 3; kx++)
                for (size_t y = 0; y < h; y++, columns += w) {
                    if (y + ky < 1 || y + ky > h) continue;
                    float *row = x + (y + ky - 1) * w;
                    size_t from = kx == 0 ? 1 : 0, upto = kx == 2 ? w - 1 : w;
                    for (size_t i = from; i < upto; i++) row[i + kx - 1] += columns[i];
                }
}

/* In sixteen partial sums, which the compiler may keep in one vector without changing the result. */
static float sum_of(size_t n, const float *x) {
    enum { PARTS = 16 };
    float part[PARTS] = {0}, sum = 0.0f;
    size_t i = 0;
    for (; i + PARTS <= n; i += PARTS)
        for (size_t k = 0; k < PARTS; k++) part[k] += x[i + k];
    for (size_t k = 0; k < PARTS; k++) sum += part[k];
    for (; i < n; i++) sum += x[i];
    return sum;
}

void conv_forward(size_t in, size_t out, size_t h, size_t w, const float *x, const float *weight, const float *bias,
                  float *y, float *columns) {
    take_apart(in, h, w, x, columns);
    for (size_t c = 0; c < out; c++)
        for (size_t i = 0; i < h * w; i++) y[c * h * w + i] = bias[c];
    gemm(out, h * w, in * 9, matrix_of(weight, in * 9), matrix_of(columns, h * w), y, h * w, true);
}

void conv_backward(size_t in, size_t out, size_t h, size_t w, const float *x, const float *weight, const float *dy,
                   float *dweight, float *dbias, float *dx, float *columns) {
    take_apart(in, h, w, x, columns);
    gemm(out, in * 9, h * w, matrix_of(dy, h * w), matrix_transposed(columns, h * w), dweight, in * 9, true);
    for (size_t c = 0; c < out; c++) dbias[c] += sum_of(h * w, dy + c * h * w);
    if (!dx) return;
    gemm(in * 9, h * w, out, matrix_transposed(weight, in * 9), matrix_of(dy, h * w), columns, h * w, false);
    put_together(in, h, w, columns, dx);
}

/* ---- Pooling ---- */

void pool_forward(size_t channels, size_t h, size_t w, const float *x, float *y, uint8_t *which) {
    for (size_t c = 0; c < channels; c++, x += h * w)
        for (size_t i = 0; i < h; i += 2)
            for (size_t j = 0; j < w; j += 2) {
                const float four[4] = {x[i * w + j], x[i * w + j + 1], x[(i + 1) * w + j], x[(i + 1) * w + j + 1]};
                /* Without a branch: which pixel wins is anybody's guess. The first of equals does. */
                unsigned right0 = four[1] > four[0], right1 = four[3] > four[2];
                float top = right0 ? four[1] : four[0], bottom = right1 ? four[3] : four[2];
                *y++ = bottom > top ? bottom : top;
                *which++ = (uint8_t)(bottom > top ? 2 + right1 : right0);
            }
}

void pool_backward(size_t channels, size_t h, size_t w, const float *dy, const uint8_t *which, float *dx) {
    memset(dx, 0, channels * h * w * sizeof *dx);
    for (size_t c = 0; c < channels; c++, dx += h * w)
        for (size_t i = 0; i < h; i += 2)
            for (size_t j = 0; j < w; j += 2, which++) dx[(i + *which / 2u) * w + j + *which % 2u] = *dy++;
}

/* ---- Softmax ---- */

/* exp(x) for x <= 0, to about 1e-15, from additions and multiplications only: the C library's differs in the last digit
 * from one system to the next, and with it every training run would. */
static double exp_negative(double x) {
    if (!(x >= -700.0)) return 0.0; /* NaN, too: a model that has burst is not worth more care */
    double n = (double)(int)(x * 1.4426950408889634 - 0.5); /* x = n log(2) + r, |r| <= log(2) / 2 */
    double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double sum = 1.0;
    for (int k = 13; k >= 1; k--) sum = 1.0 + r / (double)k * sum;
    uint64_t bits = (uint64_t)(1023 + (int)n) << 52; /* 2^n */
    double power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

double softmax_loss(size_t n, size_t classes, const float *logits, const uint8_t *label, float *dlogits,
                    size_t *correct) {
    double loss = 0.0;
    for (size_t i = 0; i < n; i++, logits += classes) {
        size_t best = 0;
        for (size_t j = 1; j < classes; j++)
            if (logits[j] > logits[best]) best = j;
        *correct += best == label[i];
        double sum = 0.0, mine = (double)(logits[label[i]] - logits[best]);
        for (size_t j = 0; j < classes; j++) sum += exp_negative((double)(logits[j] - logits[best]));
        loss += log(sum) - mine;
        if (!dlogits) continue;
        for (size_t j = 0; j < classes; j++) {
            double p = exp_negative((double)(logits[j] - logits[best])) / sum;
            *dlogits++ = (float)((p - (j == label[i] ? 1.0 : 0.0)) / (double)n);
        }
    }
    return loss;
}
