/* SPDX-License-Identifier: MIT */
#include "model.h"

#include "nn.h"
#include "rng.h"
#include "util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Channels of the two convolutions. */
enum { CONV1 = 8, CONV2 = 16 };

/* ---- Shapes ---- */

static void add_tensor(model *m, const char *name, size_t count, size_t fan_in) {
    m->tensor[m->tensors].name = name;
    m->tensor[m->tensors].count = count;
    m->tensor[m->tensors].fan_in = fan_in;
    m->tensors++;
    m->parameters += count;
}

void model_make(model *m, model_kind kind, size_t hidden, const dataset *d) {
    memset(m, 0, sizeof *m);
    m->kind = kind;
    m->width = d->width;
    m->height = d->height;
    m->channels = d->channels;
    m->features = d->features;
    m->classes = d->classes;
    m->hidden = hidden;
    switch (kind) {
    case MODEL_SOFTMAX:
        add_tensor(m, "weight", m->features * m->classes, m->features);
        add_tensor(m, "bias", m->classes, 0);
        break;
    case MODEL_MLP:
        add_tensor(m, "weight1", m->features * hidden, m->features);
        add_tensor(m, "bias1", hidden, 0);
        add_tensor(m, "weight2", hidden * m->classes, hidden);
        add_tensor(m, "bias2", m->classes, 0);
        break;
    case MODEL_CNN:
        if (m->width % 4 || m->height % 4)
            bad_input("the cnn needs images with sides that are multiples of 4, not %zux%zu", m->width, m->height);
        add_tensor(m, "conv1", CONV1 * m->channels * 9, m->channels * 9);
        add_tensor(m, "bias1", CONV1, 0);
        add_tensor(m, "conv2", CONV2 * CONV1 * 9, CONV1 * 9);
        add_tensor(m, "bias2", CONV2, 0);
        add_tensor(m, "weight3", CONV2 * (m->height / 4) * (m->width / 4) * m->classes,
                   CONV2 * (m->height / 4) * (m->width / 4));
        add_tensor(m, "bias3", m->classes, 0);
        break;
    }
}

tensor_list tensors_new(const model *m) {
    tensor_list t = {{NULL}};
    for (size_t i = 0; i < m->tensors; i++) t.tensor[i] = new_floats(m->tensor[i].count);
    return t;
}

void tensors_copy(const model *m, tensor_list *to, const tensor_list *from) {
    for (size_t i = 0; i < m->tensors; i++) memcpy(to->tensor[i], from->tensor[i], m->tensor[i].count * sizeof(float));
}

void tensors_free(const model *m, tensor_list *t) {
    for (size_t i = 0; i < m->tensors; i++) free(t->tensor[i]);
    memset(t, 0, sizeof *t);
}

void model_init(const model *m, tensor_list *params, uint64_t seed) {
    for (size_t i = 0; i < m->tensors; i++) {
        rng r = rng_make(seed, RNG_INIT, i);
        double bound = m->tensor[i].fan_in ? sqrt(6.0 / (double)m->tensor[i].fan_in) : 0.0;
        for (size_t j = 0; j < m->tensor[i].count; j++)
            params->tensor[i][j] = (float)(bound * (2.0 * rng_uniform(&r) - 1.0));
    }
}

/* ---- Computing ---- */

/* What the forward pass leaves for the backward pass, for a whole batch, and the gradients on their way back. */
struct workspace {
    float *logits, *dlogits;
    float *hidden, *dhidden;              /* MLP */
    float *conv1, *pool1, *conv2, *pool2; /* CNN: outputs of its layers */
    float *dconv1, *dpool1, *dconv2;      /*      gradients of one image */
    float *dpool2;                        /*      gradients of the batch */
    uint8_t *which1, *which2;             /*      which pixel each pooling took */
    float *columns;                       /*      one image, taken apart */
};

workspace *workspace_new(const model *m, size_t batch) {
    workspace *s = new_array(1, sizeof *s);
    s->logits = new_floats(batch * m->classes);
    s->dlogits = new_floats(batch * m->classes);
    if (m->kind == MODEL_MLP) {
        s->hidden = new_floats(batch * m->hidden);
        s->dhidden = new_floats(batch * m->hidden);
    }
    if (m->kind == MODEL_CNN) {
        size_t full = m->height * m->width, half = full / 4, quarter = full / 16;
        size_t widest = m->channels * full > CONV1 * half ? m->channels * full : CONV1 * half;
        s->conv1 = new_floats(batch * CONV1 * full);
        s->pool1 = new_floats(batch * CONV1 * half);
        s->conv2 = new_floats(batch * CONV2 * half);
        s->pool2 = new_floats(batch * CONV2 * quarter);
        s->which1 = new_array(batch * CONV1 * half, 1);
        s->which2 = new_array(batch * CONV2 * quarter, 1);
        s->dconv1 = new_floats(CONV1 * full);
        s->dpool1 = new_floats(CONV1 * half);
        s->dconv2 = new_floats(CONV2 * half);
        s->dpool2 = new_floats(batch * CONV2 * quarter);
        s->columns = new_floats(9 * widest);
    }
    return s;
}

void workspace_free(workspace *s) {
    void *all[] = {s->logits, s->dlogits, s->hidden, s->dhidden, s->conv1,  s->pool1,  s->conv2,  s->pool2,
                   s->dconv1, s->dpool1,  s->dconv2, s->dpool2,  s->which1, s->which2, s->columns};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(s);
}

static double softmax_batch(const model *m, workspace *s, const tensor_list *p, const float *x, const uint8_t *y,
                            size_t n, tensor_list *g, size_t *correct) {
    dense_forward(n, m->features, m->classes, x, p->tensor[0], p->tensor[1], s->logits);
    double loss = softmax_loss(n, m->classes, s->logits, y, g ? s->dlogits : NULL, correct);
    if (g) dense_backward(n, m->features, m->classes, x, p->tensor[0], s->dlogits, g->tensor[0], g->tensor[1], NULL);
    return loss;
}

static double mlp_batch(const model *m, workspace *s, const tensor_list *p, const float *x, const uint8_t *y, size_t n,
                        tensor_list *g, size_t *correct) {
    dense_forward(n, m->features, m->hidden, x, p->tensor[0], p->tensor[1], s->hidden);
    relu_forward(n * m->hidden, s->hidden);
    dense_forward(n, m->hidden, m->classes, s->hidden, p->tensor[2], p->tensor[3], s->logits);
    double loss = softmax_loss(n, m->classes, s->logits, y, g ? s->dlogits : NULL, correct);
    if (!g) return loss;
    dense_backward(n, m->hidden, m->classes, s->hidden, p->tensor[2], s->dlogits, g->tensor[2], g->tensor[3],
                   s->dhidden);
    relu_backward(n * m->hidden, s->hidden, s->dhidden);
    dense_backward(n, m->features, m->hidden, x, p->tensor[0], s->dhidden, g->tensor[0], g->tensor[1], NULL);
    return loss;
}

static double cnn_batch(const model *m, workspace *s, const tensor_list *p, const float *x, const uint8_t *y, size_t n,
                        tensor_list *g, size_t *correct) {
    const size_t h = m->height, w = m->width, full = h * w, half = full / 4, flat = CONV2 * full / 16;
    for (size_t i = 0; i < n; i++) {
        float *conv1 = s->conv1 + i * CONV1 * full, *pool1 = s->pool1 + i * CONV1 * half;
        float *conv2 = s->conv2 + i * CONV2 * half, *pool2 = s->pool2 + i * flat;
        conv_forward(m->channels, CONV1, h, w, x + i * m->features, p->tensor[0], p->tensor[1], conv1, s->columns);
        relu_forward(CONV1 * full, conv1);
        pool_forward(CONV1, h, w, conv1, pool1, s->which1 + i * CONV1 * half);
        conv_forward(CONV1, CONV2, h / 2, w / 2, pool1, p->tensor[2], p->tensor[3], conv2, s->columns);
        relu_forward(CONV2 * half, conv2);
        pool_forward(CONV2, h / 2, w / 2, conv2, pool2, s->which2 + i * flat);
    }
    dense_forward(n, flat, m->classes, s->pool2, p->tensor[4], p->tensor[5], s->logits);
    double loss = softmax_loss(n, m->classes, s->logits, y, g ? s->dlogits : NULL, correct);
    if (!g) return loss;

    dense_backward(n, flat, m->classes, s->pool2, p->tensor[4], s->dlogits, g->tensor[4], g->tensor[5], s->dpool2);
    for (size_t i = 0; i < 4; i++) memset(g->tensor[i], 0, m->tensor[i].count * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        const float *conv1 = s->conv1 + i * CONV1 * full, *pool1 = s->pool1 + i * CONV1 * half;
        const float *conv2 = s->conv2 + i * CONV2 * half;
        pool_backward(CONV2, h / 2, w / 2, s->dpool2 + i * flat, s->which2 + i * flat, s->dconv2);
        relu_backward(CONV2 * half, conv2, s->dconv2);
        conv_backward(CONV1, CONV2, h / 2, w / 2, pool1, p->tensor[2], s->dconv2, g->tensor[2], g->tensor[3], s->dpool1,
                      s->columns);
        pool_backward(CONV1, h, w, s->dpool1, s->which1 + i * CONV1 * half, s->dconv1);
        relu_backward(CONV1 * full, conv1, s->dconv1);
        conv_backward(m->channels, CONV1, h, w, x + i * m->features, p->tensor[0], s->dconv1, g->tensor[0],
                      g->tensor[1], NULL, s->columns);
    }
    return loss;
}

double model_batch(const model *m, workspace *s, const tensor_list *p, const float *x, const uint8_t *y, size_t n,
                   tensor_list *g, size_t *correct) {
    switch (m->kind) {
    case MODEL_SOFTMAX: return softmax_batch(m, s, p, x, y, n, g, correct);
    case MODEL_MLP: return mlp_batch(m, s, p, x, y, n, g, correct);
    case MODEL_CNN: return cnn_batch(m, s, p, x, y, n, g, correct);
    }
    return 0.0;
}
