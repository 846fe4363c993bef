/* SPDX-License-Identifier: MIT */
#include "model.h"

#include "exp.h"
#include "train/gemm.h"
#include "train/nn.h"
#include "train/rng.h"
#include "train/util.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Tensors ---- */

enum { EMBEDDING, POSITION, BLOCKS };
enum {
    NORM1_GAIN,
    NORM1_BIAS,
    QKV,
    QKV_BIAS,
    OUT,
    OUT_BIAS,
    NORM2_GAIN,
    NORM2_BIAS,
    UP,
    UP_BIAS,
    DOWN,
    DOWN_BIAS,
    PER_BLOCK
};
enum { NORM_GAIN, NORM_BIAS, HEAD, HEAD_BIAS };

static size_t of_block(size_t layer, size_t which) {
    return BLOCKS + layer * PER_BLOCK + which;
}

static size_t of_end(const model *m, size_t which) {
    return BLOCKS + m->layers * PER_BLOCK + which;
}

static void add_tensor(model *m, size_t count, double spread, float initial, const char *name, ...) {
    va_list args;
    va_start(args, name);
    vsnprintf(m->tensor[m->tensors].name, sizeof m->tensor[0].name, name, args);
    va_end(args);
    m->tensor[m->tensors].offset = m->parameters;
    m->tensor[m->tensors].count = count;
    m->tensor[m->tensors].spread = spread;
    m->tensor[m->tensors].initial = initial;
    m->tensors++;
    m->parameters += count;
}

void model_make(model *m, size_t layers, size_t width, size_t heads, size_t context, size_t vocabulary) {
    const size_t c = width, hidden = 4 * width;
    /* what goes back into the stream is made smaller: it is added up over the blocks */
    const double in = 1.0 / sqrt((double)c), back = 1.0 / sqrt(2.0 * (double)layers);
    memset(m, 0, sizeof *m);
    m->layers = layers;
    m->width = width;
    m->heads = heads;
    m->context = context;
    m->vocabulary = vocabulary;
    add_tensor(m, vocabulary * c, 0.1, 0.0f, "embedding");
    add_tensor(m, context * c, 0.1, 0.0f, "positions");
    for (size_t i = 0; i < layers; i++) {
        add_tensor(m, c, 0.0, 1.0f, "block %zu norm 1 gain", i);
        add_tensor(m, c, 0.0, 0.0f, "block %zu norm 1 bias", i);
        add_tensor(m, c * 3 * c, in, 0.0f, "block %zu q k v", i);
        add_tensor(m, 3 * c, 0.0, 0.0f, "block %zu q k v bias", i);
        add_tensor(m, c * c, in * back, 0.0f, "block %zu out", i);
        add_tensor(m, c, 0.0, 0.0f, "block %zu out bias", i);
        add_tensor(m, c, 0.0, 1.0f, "block %zu norm 2 gain", i);
        add_tensor(m, c, 0.0, 0.0f, "block %zu norm 2 bias", i);
        add_tensor(m, c * hidden, in, 0.0f, "block %zu up", i);
        add_tensor(m, hidden, 0.0, 0.0f, "block %zu up bias", i);
        add_tensor(m, hidden * c, 0.5 * in * back, 0.0f, "block %zu down", i);
        add_tensor(m, c, 0.0, 0.0f, "block %zu down bias", i);
    }
    add_tensor(m, c, 0.0, 1.0f, "norm gain");
    add_tensor(m, c, 0.0, 0.0f, "norm bias");
    add_tensor(m, c * vocabulary, 0.5 * in, 0.0f, "head");
    add_tensor(m, vocabulary, 0.0, 0.0f, "head bias");
}

void model_init(const model *m, float *params, uint64_t seed) {
    for (size_t t = 0; t < m->tensors; t++) {
        rng r = rng_make(seed, RNG_INIT, t);
        const double limit = m->tensor[t].spread * 1.7320508075688772;
        for (size_t i = 0; i < m->tensor[t].count; i++)
            params[m->tensor[t].offset + i] =
                limit > 0.0 ? (float)(limit * (2.0 * rng_uniform(&r) - 1.0)) : m->tensor[t].initial;
    }
}

/* ---- Scratch memory: what the backward pass wants to know of the forward pass, and gradients on their way ---- */

/* A row a character, of so many floats: */
typedef struct block_state {
    float *in;                     /* width */
    float *flat1, *scale1, *norm1; /* width, 1, width: see norm_forward */
    float *qkv;                    /* 3 width */
    float *attention;              /* heads * length: how much of each character goes into it */
    float *mixed;                  /* width: what attention gives */
    float *middle;                 /* width */
    float *flat2, *scale2, *norm2;
    float *up, *hidden; /* 4 width: before and after GELU */
} block_state;

struct workspace {
    size_t sequences;
    block_state block[MODEL_LAYERS];
    float *end, *flat, *scale, *norm; /* width, ... */
    float *logits;                    /* vocabulary */
    float *d, *d_part, *d_wide;       /* width, width, 4 width */
    float *d_attention;               /* of one head of one sequence */
};

static float *take(size_t count) {
    return new_array(count, sizeof(float));
}

workspace *workspace_new(const model *m, size_t sequences) {
    workspace *s = new_array(1, sizeof *s);
    const size_t rows = sequences * m->context, c = m->width;
    s->sequences = sequences;
    for (size_t i = 0; i < m->layers; i++) {
        block_state *b = &s->block[i];
        b->in = take(rows * c);
        b->flat1 = take(rows * c);
        b->scale1 = take(rows);
        b->norm1 = take(rows * c);
        b->qkv = take(rows * 3 * c);
        b->attention = take(rows * m->heads * m->context);
        b->mixed = take(rows * c);
        b->middle = take(rows * c);
        b->flat2 = take(rows * c);
        b->scale2 = take(rows);
        b->norm2 = take(rows * c);
        b->up = take(rows * 4 * c);
        b->hidden = take(rows * 4 * c);
    }
    s->end = take(rows * c);
    s->flat = take(rows * c);
    s->scale = take(rows);
    s->norm = take(rows * c);
    s->logits = take(rows * m->vocabulary);
    s->d = take(rows * c);
    s->d_part = take(rows * c);
    s->d_wide = take(rows * (4 * c > m->vocabulary ? 4 * c : m->vocabulary));
    s->d_attention = take(m->context * m->context);
    return s;
}

void workspace_free(workspace *s) {
    for (size_t i = 0; i < MODEL_LAYERS; i++) {
        block_state *b = &s->block[i];
        free(b->in);
        free(b->flat1);
        free(b->scale1);
        free(b->norm1);
        free(b->qkv);
        free(b->attention);
        free(b->mixed);
        free(b->middle);
        free(b->flat2);
        free(b->scale2);
        free(b->norm2);
        free(b->up);
        free(b->hidden);
    }
    free(s->end);
    free(s->flat);
    free(s->scale);
    free(s->norm);
    free(s->logits);
    free(s->d);
    free(s->d_part);
    free(s->d_wide);
    free(s->d_attention);
    free(s);
}

/* ---- Layers ---- */

static void add(size_t n, const float *x, float *y) {
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

/* y = gain * flat + bias, flat: x with mean 0 and variance 1, that is (x - mean) * scale. */
static void norm_forward(size_t rows, size_t n, const float *x, const float *gain, const float *bias, float *flat,
                         float *scale, float *y) {
    for (size_t r = 0; r < rows; r++, x += n, flat += n, y += n) {
        double mean = 0.0, square = 0.0;
        for (size_t i = 0; i < n; i++) mean += (double)x[i];
        mean /= (double)n;
        for (size_t i = 0; i < n; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean);
        const double s = 1.0 / sqrt(square / (double)n + 1e-5);
        scale[r] = (float)s;
        for (size_t i = 0; i < n; i++) {
            flat[i] = (float)(((double)x[i] - mean) * s);
            y[i] = gain[i] * flat[i] + bias[i];
        }
    }
}

/* Adds to dx, dgain and dbias. */
static void norm_backward(size_t rows, size_t n, const float *flat, const float *scale, const float *gain,
                          const float *dy, float *dx, float *dgain, float *dbias) {
    for (size_t r = 0; r < rows; r++, flat += n, dy += n, dx += n) {
        double mean = 0.0, along = 0.0;
        for (size_t i = 0; i < n; i++) {
            const double g = (double)(dy[i] * gain[i]);
            mean += g;
            along += g * (double)flat[i];
        }
        const float a = (float)(mean / (double)n), b = (float)(along / (double)n);
        for (size_t i = 0; i < n; i++) {
            dx[i] += scale[r] * (dy[i] * gain[i] - a - flat[i] * b);
            dgain[i] += dy[i] * flat[i];
            dbias[i] += dy[i];
        }
    }
}

/* GELU as x times a sigmoid (which is its formula with the tangens hyperbolicus, rewritten). */
static const float GELU_SLOPE = 1.5957691216f /* 2 sqrt(2 / pi) */, GELU_CUBE = 0.044715f;

static void gelu_forward(size_t n, const float *x, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] / (1.0f + llm_exp(-GELU_SLOPE * (x[i] + GELU_CUBE * x[i] * x[i] * x[i])));
}

static void gelu_backward(size_t n, const float *x, float *dy) {
    for (size_t i = 0; i < n; i++) {
        const float s = 1.0f / (1.0f + llm_exp(-GELU_SLOPE * (x[i] + GELU_CUBE * x[i] * x[i] * x[i])));
        dy[i] *= s + x[i] * s * (1.0f - s) * GELU_SLOPE * (1.0f + 3.0f * GELU_CUBE * x[i] * x[i]);
    }
}

/* One head of one sequence; q, k and v are columns of the rows of qkv. */
static void attend_forward(size_t length, size_t width, size_t size, const float *q, float *attention, float *mixed) {
    const size_t row = 3 * width;
    const float *k = q + width, *v = k + width;
    const float scale = (float)(1.0 / sqrt((double)size));
    gemm(length, length, size, (matrix){q, row, 1}, (matrix){k, 1, row}, attention, length, false);
    for (size_t i = 0; i < length; i++) {
        float *a = attention + i * length, most = a[0], sum = 0.0f;
        for (size_t j = 1; j <= i; j++) most = a[j] > most ? a[j] : most;
        for (size_t j = 0; j <= i; j++) a[j] = llm_exp(scale * (a[j] - most));
        for (size_t j = 0; j <= i; j++) sum += a[j];
        for (size_t j = 0; j <= i; j++) a[j] /= sum;
        for (size_t j = i + 1; j < length; j++) a[j] = 0.0f; /* what comes later is not known yet */
    }
    gemm(length, size, length, matrix_of(attention, length), (matrix){v, row, 1}, mixed, width, false);
}

static void attend_backward(size_t length, size_t width, size_t size, const float *q, const float *attention,
                            const float *d_mixed, float *dq, float *d) {
    const size_t row = 3 * width;
    const float *k = q + width, *v = k + width;
    float *dk = dq + width, *dv = dk + width;
    const float scale = (float)(1.0 / sqrt((double)size));
    gemm(length, size, length, matrix_transposed(attention, length), (matrix){d_mixed, width, 1}, dv, row, false);
    gemm(length, length, size, (matrix){d_mixed, width, 1}, (matrix){v, 1, row}, d, length, false);
    for (size_t i = 0; i < length; i++) { /* through the softmax */
        const float *a = attention + i * length;
        float *di = d + i * length, sum = 0.0f;
        for (size_t j = 0; j <= i; j++) sum += a[j] * di[j];
        for (size_t j = 0; j < length; j++) di[j] = scale * a[j] * (di[j] - sum);
    }
    gemm(length, size, length, matrix_of(d, length), (matrix){k, row, 1}, dq, row, false);
    gemm(length, size, length, matrix_transposed(d, length), (matrix){q, row, 1}, dk, row, false);
}

/* ---- The whole ---- */

#define P(tensor_) (params + m->tensor[tensor_].offset)
#define G(tensor_) (grads + m->tensor[tensor_].offset)
#define B(which_) of_block(i, which_)

static void block_forward(const model *m, block_state *b, const float *params, size_t i, size_t sequences,
                          size_t length, float *out) {
    const size_t c = m->width, rows = sequences * length, size = c / m->heads;
    norm_forward(rows, c, b->in, P(B(NORM1_GAIN)), P(B(NORM1_BIAS)), b->flat1, b->scale1, b->norm1);
    dense_forward(rows, c, 3 * c, b->norm1, P(B(QKV)), P(B(QKV_BIAS)), b->qkv);
    for (size_t q = 0; q < sequences; q++)
        for (size_t h = 0; h < m->heads; h++)
            attend_forward(length, c, size, b->qkv + q * length * 3 * c + h * size,
                           b->attention + (q * m->heads + h) * length * length, b->mixed + q * length * c + h * size);
    dense_forward(rows, c, c, b->mixed, P(B(OUT)), P(B(OUT_BIAS)), b->middle);
    add(rows * c, b->in, b->middle);
    norm_forward(rows, c, b->middle, P(B(NORM2_GAIN)), P(B(NORM2_BIAS)), b->flat2, b->scale2, b->norm2);
    dense_forward(rows, c, 4 * c, b->norm2, P(B(UP)), P(B(UP_BIAS)), b->up);
    gelu_forward(rows * 4 * c, b->up, b->hidden);
    dense_forward(rows, 4 * c, c, b->hidden, P(B(DOWN)), P(B(DOWN_BIAS)), out);
    add(rows * c, b->middle, out);
}

/* s->d: the gradient of what comes out; becomes that of what goes in. */
static void block_backward(const model *m, workspace *s, const float *params, size_t i, size_t sequences, size_t length,
                           float *grads) {
    const size_t c = m->width, rows = sequences * length, size = c / m->heads;
    const block_state *b = &s->block[i];
    dense_backward(rows, 4 * c, c, b->hidden, P(B(DOWN)), s->d, G(B(DOWN)), G(B(DOWN_BIAS)), s->d_wide);
    gelu_backward(rows * 4 * c, b->up, s->d_wide);
    dense_backward(rows, c, 4 * c, b->norm2, P(B(UP)), s->d_wide, G(B(UP)), G(B(UP_BIAS)), s->d_part);
    norm_backward(rows, c, b->flat2, b->scale2, P(B(NORM2_GAIN)), s->d_part, s->d, G(B(NORM2_GAIN)), G(B(NORM2_BIAS)));
    dense_backward(rows, c, c, b->mixed, P(B(OUT)), s->d, G(B(OUT)), G(B(OUT_BIAS)), s->d_part);
    for (size_t q = 0; q < sequences; q++)
        for (size_t h = 0; h < m->heads; h++)
            attend_backward(length, c, size, b->qkv + q * length * 3 * c + h * size,
                            b->attention + (q * m->heads + h) * length * length, s->d_part + q * length * c + h * size,
                            s->d_wide + q * length * 3 * c + h * size, s->d_attention);
    dense_backward(rows, c, 3 * c, b->norm1, P(B(QKV)), s->d_wide, G(B(QKV)), G(B(QKV_BIAS)), s->d_part);
    norm_backward(rows, c, b->flat1, b->scale1, P(B(NORM1_GAIN)), s->d_part, s->d, G(B(NORM1_GAIN)), G(B(NORM1_BIAS)));
}

static void forward(const model *m, workspace *s, const float *params, const uint8_t *x, size_t sequences,
                    size_t length) {
    const size_t c = m->width, rows = sequences * length;
    float *in = m->layers ? s->block[0].in : s->end;
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < c; j++) in[r * c + j] = P(EMBEDDING)[x[r] * c + j] + P(POSITION)[r % length * c + j];
    for (size_t i = 0; i < m->layers; i++)
        block_forward(m, &s->block[i], params, i, sequences, length, i + 1 < m->layers ? s->block[i + 1].in : s->end);
    norm_forward(rows, c, s->end, P(of_end(m, NORM_GAIN)), P(of_end(m, NORM_BIAS)), s->flat, s->scale, s->norm);
    dense_forward(rows, c, m->vocabulary, s->norm, P(of_end(m, HEAD)), P(of_end(m, HEAD_BIAS)), s->logits);
}

static void backward(const model *m, workspace *s, const float *params, const uint8_t *x, size_t sequences,
                     size_t length, float *grads) {
    const size_t c = m->width, rows = sequences * length;
    memset(grads, 0, m->parameters * sizeof *grads);
    dense_backward(rows, c, m->vocabulary, s->norm, P(of_end(m, HEAD)), s->d_wide, G(of_end(m, HEAD)),
                   G(of_end(m, HEAD_BIAS)), s->d_part);
    memset(s->d, 0, rows * c * sizeof *s->d);
    norm_backward(rows, c, s->flat, s->scale, P(of_end(m, NORM_GAIN)), s->d_part, s->d, G(of_end(m, NORM_GAIN)),
                  G(of_end(m, NORM_BIAS)));
    for (size_t i = m->layers; i-- > 0;) block_backward(m, s, params, i, sequences, length, grads);
    for (size_t r = 0; r < rows; r++) {
        add(c, s->d + r * c, G(EMBEDDING) + x[r] * c);
        add(c, s->d + r * c, G(POSITION) + r % length * c);
    }
}

double model_batch(const model *m, workspace *s, const float *params, const uint8_t *x, const uint8_t *y,
                   size_t sequences, size_t length, float *grads) {
    size_t right = 0;
    if (length > m->context || sequences > s->sequences)
        broken("model: room for %zu sequences of %zu characters, got %zu of %zu", s->sequences, m->context, sequences,
               length);
    forward(m, s, params, x, sequences, length);
    const double loss = softmax_loss(sequences * length, m->vocabulary, s->logits, y, grads ? s->d_wide : NULL, &right);
    if (grads) backward(m, s, params, x, sequences, length, grads);
    return loss;
}

const float *model_predict(const model *m, workspace *s, const float *params, const uint8_t *x, size_t length) {
    if (length > m->context) broken("model: a context of %zu characters, got %zu", m->context, length);
    forward(m, s, params, x, 1, length);
    return s->logits;
}
